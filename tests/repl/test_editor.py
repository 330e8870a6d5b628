"""A text in the person's editor: which one, what comes back, what is said when it does not work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chatcli.environment import Environment
from chatcli.errors import UsageError
from chatcli.repl.editor import edited


def program(folder: Path, name: str, code: str) -> str:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{code}\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("code", "after"),
    [
        ('printf "%s" "$1" | tail -c 3 >> "$1"', "你好.md"),
        (': > "$1"', ""),
        ('printf "a\\n\\n\\n" > "$1"', "a"),
        ("true", "你好"),
    ],
)
def test_what_the_editor_leaves_is_the_text(environment: Environment, tmp_path: Path, code: str, after: str) -> None:
    editor = program(tmp_path, "editor", code)
    assert edited("你好", replace(environment, variables={"EDITOR": editor})) == after


def test_visual_comes_first_and_may_have_arguments(environment: Environment, tmp_path: Path) -> None:
    visual = program(tmp_path, "my editor", 'echo "$1" > "$2"')
    variables = {"VISUAL": f"'{visual}' --wait", "EDITOR": "false"}
    assert edited("x", replace(environment, variables=variables)) == "--wait"
    found = program(tmp_path, "vi", 'echo found > "$1"')
    assert edited("x", replace(environment, variables={"EDITOR": " ", "PATH": str(Path(found).parent)})) == "found"


@pytest.mark.parametrize(
    ("editor", "sentence"),
    [
        ("", "There is no editor: set \\$EDITOR"),
        ("no-such-editor", "no-such-editor cannot be run"),
        ("sh -c 'exit 3'", "sh failed with exit code 3"),
        ("'", "\\$EDITOR is ', which is no command"),
    ],
)
def test_no_editor_and_one_that_fails_are_explained(environment: Environment, editor: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        edited("x", replace(environment, variables={"EDITOR": editor}))
