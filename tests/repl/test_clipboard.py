"""Where a copied text goes: to the desktop's program, or through the terminal."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import pytest

from chatcli.environment import Environment
from chatcli.errors import UsageError
from chatcli.repl.clipboard import LONGEST, copy, program
from chatcli.repl.commands.answers import last_code


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Programs that keep what they are given in a file beside them; xsel is broken."""
    for name, code in {
        "xclip": 'cat > "$(dirname "$0")/held"',
        "tmux": 'cat > "$(dirname "$0")/held"',
        "xsel": "exit 1",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{code}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_the_desktops_program_is_taken_where_there_is_a_desktop(environment: Environment, folder: Path) -> None:
    screen = Screen()
    variables = {"PATH": f"{folder}:/bin:/usr/bin", "DISPLAY": ":0"}
    copy("你好\n", replace(environment, variables=variables, stdout=screen))
    assert (folder / "held").read_text(encoding="utf-8") == "你好\n"
    assert screen.getvalue() == ""


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"DISPLAY": ":0"}, "xclip"),
        ({"DISPLAY": ":0", "SSH_CONNECTION": "a b"}, ""),
        ({"TMUX": "/tmp/x", "SSH_CONNECTION": "a b"}, "tmux"),
        ({}, ""),
    ],
)
def test_over_ssh_no_program_of_the_far_machine_is_taken(folder: Path, variables: dict[str, str], name: str) -> None:
    found = program({**variables, "PATH": str(folder)})
    assert (Path(found[0]).name if found else "") == name


def test_else_the_terminal_is_asked(environment: Environment) -> None:
    screen = Screen()
    copy("你好", replace(environment, variables={"PATH": ""}, stdout=screen))
    kind, data = screen.getvalue().removeprefix("\x1b]52;").removesuffix("\x07").split(";")
    assert (kind, base64.b64decode(data).decode()) == ("c", "你好")


def test_a_program_that_fails_is_passed_over(environment: Environment, folder: Path) -> None:
    (folder / "xclip").unlink()
    screen = Screen()
    copy("x", replace(environment, variables={"PATH": str(folder), "DISPLAY": ":0"}, stdout=screen))
    assert screen.getvalue().startswith("\x1b]52;c;")


def test_no_clipboard_and_too_much_for_one_are_explained(environment: Environment) -> None:
    nothing = replace(environment, variables={"PATH": "", "TERM": "dumb"}, stdout=Screen())
    with pytest.raises(UsageError, match="no clipboard"):
        copy("x", nothing)
    with pytest.raises(UsageError, match="no clipboard"):
        copy("x", replace(environment, variables={"PATH": ""}))
    with pytest.raises(UsageError, match="too many"):
        copy("x" * (LONGEST + 1), replace(environment, variables={"PATH": ""}, stdout=Screen()))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("no code", ""),
        ("```python\nx = 1\n```\nand\n\n~~~\ny = 2\n~~~\nbye", "y = 2"),
        ("1. first\n   ```sh\n   ls\n   ```", "ls"),
        ("cut:\n```c\nint main", "int main"),
    ],
)
def test_the_last_code_of_a_reply(text: str, code: str) -> None:
    assert last_code(text) == code
