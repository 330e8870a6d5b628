"""Pictures for models that see: which files are pictures, which are refused, and their pixels.

It knows formats, sizes and Pillow, which comes with `chatcli[vision]`; it knows no model's way with them.
"""

from __future__ import annotations

import hashlib
import re
import struct
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from chatcli.conversation import Attachment
from chatcli.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_BYTES = 32 << 20
MOST_PIXELS = 64_000_000
"""The largest picture that is decoded: a file of some kilobytes can unfold to gigabytes."""
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_SIGNATURES = (
    (re.compile(rb"\x89PNG\r\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"BM.{4}\x00\x00\x00\x00", re.DOTALL), "image/bmp"),
    (re.compile(rb"II\*\x00|MM\x00\*"), "image/tiff"),
)
MEDIA = frozenset(media for _, media in _SIGNATURES)
_FORMATS = [media.removeprefix("image/").upper() for media in sorted(MEDIA)]


def is_image(name: str) -> bool:
    """Whether the file that a person calls `name` begins like a picture; one that cannot be read does not."""
    try:
        file = Path(name).expanduser()
        if not file.is_file():
            return False
        with file.open("rb") as opened:
            return bool(media_type(opened.read(16)))
    except (OSError, ValueError, RuntimeError):
        return False


def media_type(data: bytes) -> str:
    """What kind of picture the file with this beginning is, such as "image/png"; empty for any other file."""
    return next((media for signature, media in _SIGNATURES if signature.match(data)), "")


def read_image(name: str) -> Attachment:
    """The picture in the file that a person calls `name`.

    Raises:
        UsageError: it cannot be read, is no picture or too large a one; Pillow is missing.
    """
    if re.match(r"(https?|ftp|data):", name):
        raise UsageError(
            f"{name[:80]} is an address, and chatcli fetches no pictures: download it, then name the file."
        )
    try:
        file = Path(name).expanduser()
        if file.is_dir():
            raise UsageError(f"{name} is a folder: name a picture in it.")
        if file.exists() and not file.is_file():
            raise UsageError(f"{name} is a device, not a picture: name a file.")
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{name} cannot be read ({reason}): see that its name is right.") from error
    return image_of(data, name)


def image_of(data: bytes, name: str) -> Attachment:
    """The picture that `data` are, which can be decoded.

    Raises:
        UsageError: they are none, or too large a one; Pillow is missing.
    """
    found = unseen(data, name)
    decoded(data, name)
    return found


def unseen(data: bytes, name: str) -> Attachment:
    """The same by its first bytes alone, for who does not look at it.

    Raises:
        UsageError: they are no picture's, or there are too many.
    """
    media = media_type(data)
    if not data:
        raise UsageError(f"{name} is empty: there is no picture in it.")
    if not media:
        raise UsageError(f"{name} is no picture that can be shown: it must be PNG, JPEG, WebP, GIF, BMP or TIFF.")
    if len(data) > MOST_BYTES:
        raise UsageError(f"{name} is larger than {MOST_BYTES >> 20} MiB: make the picture smaller first.")
    return Attachment(name, len(data), hashlib.sha256(data).hexdigest(), media=media, data=data)


def decoded(data: bytes, name: str) -> Image:
    """The pixels as RGB, upright; what is transparent is white, as on a page.

    Raises:
        UsageError: the file is damaged or has too many pixels; Pillow is missing.
    """
    with _opened(data, name) as opened:
        from PIL import Image, ImageOps

        opened.load()
        upright = ImageOps.exif_transpose(opened)
    if upright.mode.startswith("I;16"):  # whose upper half `convert` would make white
        upright = upright.point(lambda value: value / 256).convert("L")
    if "A" in upright.getbands() or "transparency" in upright.info:
        white = Image.new("RGBA", upright.size, "white")
        return Image.alpha_composite(white, upright.convert("RGBA")).convert("RGB")
    return upright.convert("RGB")


def pixels(data: bytes, name: str) -> int:
    """How many pixels the picture has, by its header: nothing is decoded.

    Raises:
        UsageError: as `decoded`.
    """
    with _opened(data, name) as opened:
        return int(opened.width * opened.height)


@contextmanager
def _opened(data: bytes, name: str) -> Generator[Image]:
    """The picture, of which the header is read; what Pillow says of it in the block is one sentence."""
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError('Pictures need the package Pillow: pip install "chatcli[vision]".') from error
    from io import BytesIO

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are judged here, and of odd metadata
            opened = Image.open(BytesIO(data), formats=_FORMATS)
            if opened.width * opened.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            yield opened
    except Image.DecompressionBombError as error:
        raise UsageError(
            f"{name} has more than {MOST_PIXELS // 1_000_000} million pixels: make the picture smaller first."
        ) from error
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, struct.error) as error:  # of Pillow's readers
        raise UsageError(f"{name} is damaged and cannot be decoded ({error}): get the picture again.") from error
