"""What a terminal sends, as keys: pastes of any size, type-ahead, Esc alone and Esc that begins a sequence."""

from __future__ import annotations

import fcntl
import os
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyPress
from waiting import until

from chatcli.repl import ahead as ahead_module
from chatcli.repl.ahead import TypedAhead
from chatcli.repl.keyboard import PasteParser

SENT = "a\x1b[A\x1b[200~b\x1b[A\r\x1b[201c~x\x1b[201~你\x1b[200~\x1b[201~\x1b\r!\x1b"


@given(st.lists(st.integers(0, len(SENT)), max_size=8))
def test_keys_are_prompt_toolkits_wherever_what_is_sent_is_cut(cuts: list[int]) -> None:
    ours: list[KeyPress] = []
    theirs: list[KeyPress] = []
    cut = sorted({0, *cuts, len(SENT)})
    for parser in (PasteParser(ours.append), Vt100Parser(theirs.append)):
        for begin, end in pairwise(cut):
            parser.feed(SENT[begin:end])
        parser.flush()
    assert [(key.key, key.data) for key in ours] == [(key.key, key.data) for key in theirs]
    assert any(key.data == "b\x1b[A\r\x1b[201c~x" for key in ours)


def test_ten_megabytes_are_one_key() -> None:
    text = "x" * 10_000_000
    keys: list[KeyPress] = []
    parser = PasteParser(keys.append)
    sent = f"\x1b[200~{text}\x1b[201~"
    for begin in range(0, len(sent), 4096):
        parser.feed(sent[begin : begin + 4096])
    assert [key.data for key in keys] == [text]


def waiting(stream: TextIO) -> int:
    """Bytes that were typed and nobody has read; a terminal passes them on in its own time."""
    return int.from_bytes(fcntl.ioctl(stream.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.fixture
def line() -> Iterator[tuple[int, TextIO]]:
    """A terminal's two ends, without echo."""
    import pty
    import tty

    outside, inside = pty.openpty()
    tty.setraw(inside)
    with closing(os.fdopen(inside)) as stream:
        yield outside, stream
    os.close(outside)


@pytest.mark.parametrize(
    ("sent", "escaped", "kept"),
    [
        (b"", False, ""),
        (b"\x1b", True, ""),
        (b"abc\x1b", True, "abc"),
        (b"\x1b\x1b", True, ""),
        (b"\x1b[A", False, "\x1b[A"),
        (b"\x1bOP", False, "\x1bOP"),
        (b"\x1b\r", False, "\x1b\r"),
        ("你好".encode(), False, "你好"),
        (b"caf\xe9", False, "caf\udce9"),
    ],
)
def test_esc_alone_is_told_from_a_sequence(line: tuple[int, TextIO], sent: bytes, escaped: bool, kept: str) -> None:
    outside, stream = line
    ahead = TypedAhead(stream)
    os.write(outside, sent)
    until(lambda: waiting(stream) == len(sent))
    assert ahead.escaped() == escaped
    assert ahead.take() == kept
    assert ahead.take() == ""


def test_a_sequence_that_comes_in_two_parts_is_no_esc(
    line: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second part comes as soon as the first is taken, however long that lasts."""
    outside, stream = line
    monkeypatch.setattr(ahead_module, "SEQUENCE_SECONDS", None)
    ahead = TypedAhead(stream)
    os.write(outside, b"x\x1b")
    until(lambda: waiting(stream) == 2)

    def go_on() -> None:
        until(lambda: waiting(stream) == 0)
        os.write(outside, b"[B")

    later = threading.Thread(target=go_on)
    later.start()
    assert not ahead.escaped()
    later.join()
    os.write(outside, b"y")
    until(lambda: waiting(stream) == 1)
    assert not ahead.escaped()
    assert ahead.take() == "x\x1b[By"


def test_a_stream_that_is_no_terminal_has_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("ahead") / "x"
    file.write_text("\x1b")
    with file.open() as stream:
        ahead = TypedAhead(stream)
        assert not ahead.escaped()
        assert ahead.take() == ""
