"""Text from models, servers and files made safe for a terminal.

One character in, one or none out, with no memory: where a stream is cut cannot matter, and no escape
sequence can hide in a cut. Knows no terminal; it needs none to know what none may get.
"""

from __future__ import annotations

VISIBLE = "\ufffd"


def _table() -> dict[int, str | None]:
    banned = [
        *range(0x20),  # C0: ESC, BEL, BS, ...
        *range(0x7F, 0xA0),  # DEL and C1, whose 0x9B is another CSI
        *range(0x202A, 0x202F),  # bidi embeddings and overrides: what is read is not what is there
        *range(0x2066, 0x206A),  # bidi isolates
        0x2028,
        0x2029,  # line and paragraph separator
        *range(0xD800, 0xE000),  # lone surrogates: no stream can encode them
        *range(0xE0000, 0xE0080),  # tag characters: unseen text that a later prompt would carry
    ]
    table: dict[int, str | None] = dict.fromkeys(banned, VISIBLE)
    del table[ord("\n")], table[ord("\t")]
    table[ord("\r")] = None
    return table


_TEXT = _table()
_LINE = {**_TEXT, ord("\n"): " ", ord("\t"): " "}


def sanitize(text: str, *, single_line: bool = False) -> str:
    r"""`text` with U+FFFD for every character that could act on a terminal or hide what is written.

    `\n` and `\t` stay; `single_line`, for titles and file names, makes each a space. `\r` is dropped: `\r\n`
    becomes a newline, and a lone `\r` cannot overwrite a line. Direction marks (U+200E, U+200F), joiners and
    variation selectors stay, for right-to-left text and emoji need them; the flags of England, Scotland and
    Wales are spelled with tag characters and are lost.
    """
    return text.translate(_LINE if single_line else _TEXT)
