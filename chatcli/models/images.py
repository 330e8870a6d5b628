"""Pictures for models that see: which files are pictures, which are refused, and their pixels.

It knows formats, sizes and Pillow, which comes with `chatcli[vision]`; it knows no model's way with them.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from chatcli.conversation import Attachment, Conversation
from chatcli.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

    from chatcli.models.checkpoint import Checkpoint

SEEING = frozenset({"gemma3", "llava", "qwen2_5_vl", "qwen2_vl", "qwen3_vl"})
"""The model types that are shown pictures; each is tested against the processor and `generate` of transformers."""
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
    """The picture that `data` are.

    Raises:
        UsageError: they are none, or too large a one; Pillow is missing.
    """
    media = media_type(data)
    if not data:
        raise UsageError(f"{name} is empty: there is no picture in it.")
    if not media:
        raise UsageError(f"{name} is no picture that can be shown: it must be PNG, JPEG, WebP, GIF, BMP or TIFF.")
    if len(data) > MOST_BYTES:
        raise UsageError(f"{name} is larger than {MOST_BYTES >> 20} MiB: make the picture smaller first.")
    decoded(data, name)
    return Attachment(name, len(data), hashlib.sha256(data).hexdigest(), media=media, data=data)


def decoded(data: bytes, name: str) -> Image:
    """The pixels as RGB, upright; what is transparent is white, as on a page.

    Raises:
        UsageError: the file is damaged or has too many pixels; Pillow is missing.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise UsageError('Pictures need the package Pillow: pip install "chatcli[vision]".') from error
    from io import BytesIO

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are judged here, and of odd metadata
            opened = Image.open(BytesIO(data), formats=_FORMATS)
            width, height = opened.size
            if width * height > MOST_PIXELS:
                raise UsageError(
                    f"{name} has {width:,} x {height:,} pixels, and chatcli shows at most {MOST_PIXELS // 1_000_000} "
                    "million: make the picture smaller first."
                )
            opened.load()
            upright = ImageOps.exif_transpose(opened)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UsageError(f"{name} is damaged and cannot be decoded ({error}): get the picture again.") from error
    if "A" in upright.getbands() or "transparency" in upright.info:
        white = Image.new("RGBA", upright.size, "white")
        return Image.alpha_composite(white, upright.convert("RGBA")).convert("RGB")
    return upright.convert("RGB")


def require_no_picture(conversation: Conversation, checkpoint: Checkpoint) -> None:
    """Refuse a last question with a picture, for a model that cannot be shown one; earlier pictures pass.

    Raises:
        UsageError: it has one.
    """
    asked = next((each for each in reversed(conversation.messages) if each.role == "user"), None)
    if not asked or not asked.images:
        return
    name = checkpoint.name
    if "vision_config" not in checkpoint.config:
        reason = f"{name} reads text only"
    elif checkpoint.model_type in SEEING:
        reason = f"{name} lacks preprocessor_config.json, without which it cannot be shown a picture"
    else:
        reason = f"{name} sees pictures, but chatcli cannot show any to its family ({checkpoint.model_type}) yet"
    raise UsageError(f"{reason}: ask without it, or choose a model that sees, such as Qwen/Qwen2.5-VL-3B-Instruct.")
