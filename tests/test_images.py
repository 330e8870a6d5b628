"""Which files are pictures, which are refused and in what words, and what their pixels are."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from chatcli.errors import UsageError
from chatcli.images import MOST_BYTES, decoded, image_of, is_image, media_type, read_image


def drawn(form: str, mode: str = "RGB", size: tuple[int, int] = (8, 6)) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 77 if mode in ("L", "P") else "red").save(file, form)
    return file.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_format_is_known_by_its_beginning(form: str, tmp_path: Path) -> None:
    file = tmp_path / "picture.of-no-ending"
    file.write_bytes(data := drawn(form))
    image = read_image(str(file))
    assert (image.media, image.data, image.size) == (f"image/{form.lower()}", data, len(data))
    assert len(image.sha256) == 64
    assert decoded(image.data, "x").mode == "RGB" and decoded(image.data, "x").size == (8, 6)
    assert is_image(str(file))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"hello", "is no picture that can be shown: it must be PNG, JPEG"),
        (b"BM and other words", "is no picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no picture"),
        (drawn("PNG")[:50], "is damaged"),
        (drawn("JPEG", size=(64, 64))[:400], "is damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "is damaged"),
        (b"\xff\xd8\xff" + bytes(MOST_BYTES), "larger than 32 MiB"),
    ],
)
def test_what_is_no_whole_picture_is_refused_in_a_sentence(data: bytes, says: str) -> None:
    with pytest.raises(UsageError) as error:
        image_of(data, "it.png")
    assert says in str(error.value)
    assert str(error.value).startswith("it.png ") and "\n" not in str(error.value)


@pytest.mark.parametrize("side", [8_001, 10_000, 40_000])
def test_a_small_file_of_a_billion_pixels_is_not_unfolded(side: int) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(UsageError, match=r"bomb\.png has more than 64 million pixels"):
        image_of(bomb, "bomb.png")


def test_names_that_are_no_file(tmp_path: Path) -> None:
    for name, says in (
        ("https://example.org/cat.png", "chatcli fetches no pictures: download it"),
        ("data:image/png;base64,AAAA", "is an address"),
        (str(tmp_path), "is a folder"),
        (str(tmp_path / "none.png"), "cannot be read"),
        ("\0", "cannot be read"),
        ("/dev/null", "is a device"),
    ):
        with pytest.raises(UsageError, match=says):
            read_image(name)
        assert not is_image(name)


def test_a_picture_is_upright_and_its_glass_is_white() -> None:
    turned = Image.new("RGB", (8, 4), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(file := io.BytesIO(), "JPEG", exif=exif)
    assert decoded(file.getvalue(), "x").size == (4, 8)
    glass = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    glass.save(file := io.BytesIO(), "PNG")
    assert decoded(file.getvalue(), "x").getpixel((0, 0)) == (255, 255, 255)
    for mode in ("L", "P", "1", "I;16", "CMYK"):
        form = "TIFF" if mode == "CMYK" else "PNG"
        Image.new(mode, (2, 2)).save(file := io.BytesIO(), form)
        assert decoded(file.getvalue(), "x").mode == "RGB"


def test_text_begins_like_no_picture() -> None:
    assert not any(media_type(text.encode()) for text in ("BMW is a car", "GIF", "RIFF", "II*", "hello"))


def test_without_pillow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = drawn("PNG")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UsageError, match=r'pip install "chatcli\[vision\]"'):
        image_of(data, "it.png")


def test_sixteen_bits_keep_their_shades() -> None:
    """Pillow makes everything above 255 of 65535 white."""
    file = io.BytesIO()
    Image.new("I;16", (2, 2), 0x4000).save(file, "PNG")
    assert decoded(file.getvalue(), "x").getpixel((0, 0)) == (0x40, 0x40, 0x40)


def test_damaged_metadata_are_told() -> None:
    """Turning it upright writes its EXIF anew, where Pillow meets a text for a number with a TypeError."""
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x112], exif[0x10F] = 6, "maker"
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=exif)
    good = file.getvalue()
    maker, resolution = b"\x01\x0f\x00\x02", b"\x01\x1a\x00\x02"  # a tag and its type, text, big-endian
    assert good.count(maker) == 1
    with pytest.raises(UsageError, match="damaged"):
        decoded(good.replace(maker, resolution), "x")
