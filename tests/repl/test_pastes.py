"""Pasted texts folded to a line and whole again, blocks, and what is typed by a person's own hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcli.repl.pastes import MOST_CHARACTERS, MOST_LINES, Pastes, Typed, in_block, piped

LONG = "\n".join(f"line {n}" for n in range(214))


@pytest.mark.parametrize(
    ("pasted", "shown"),
    [
        ("\n".join("x" * MOST_LINES), "\n".join("x" * MOST_LINES)),
        ("\n".join("x" * (MOST_LINES + 1)), "[pasted 21 lines]"),
        ("\n".join("x" * MOST_LINES) + "\n", "\n".join("x" * MOST_LINES) + "\n"),
        ("line\n" * 131_072, "[pasted 131,072 lines]"),
        ("x" * (MOST_CHARACTERS + 1), "[pasted 5,001 characters]"),
        ("", ""),
    ],
)
def test_more_than_twenty_lines_are_folded(pasted: str, shown: str) -> None:
    pastes = Pastes()
    assert pastes.fold(pasted) == shown
    assert pastes.whole(f"see {shown} there") == f"see {pasted} there"


def test_other_texts_of_the_same_length_get_a_number() -> None:
    pastes = Pastes()
    shown = [pastes.fold(text) for text in (LONG, LONG.upper(), LONG)]
    assert shown == ["[pasted 214 lines]", "[pasted 214 lines #2]", "[pasted 214 lines]"]
    assert pastes.whole(" ".join(shown)) == f"{LONG} {LONG.upper()} {LONG}"


def test_a_label_that_stands_for_nothing_is_text() -> None:
    """Typed by hand, or inside a pasted text, which is never unfolded itself."""
    pastes = Pastes()
    assert pastes.whole("[pasted 214 lines]") == "[pasted 214 lines]"
    label = pastes.fold(LONG + "\n[pasted 215 lines]")
    assert pastes.whole(label).count("line 5\n") == 1


def test_what_comes_back_from_the_editor_is_folded_again() -> None:
    pastes = Pastes()
    shown = f"Why? {pastes.fold(LONG)}"
    assert pastes.fold_again(pastes.whole(shown) + " Now.") == f"{shown} Now."
    assert pastes.fold_again("y" * 9000) == "[pasted 9,000 characters]"
    assert pastes.fold_again("a\nb") == "a\nb"


def test_what_was_pasted_is_neither_a_command_nor_names_files() -> None:
    pastes = Pastes()
    label = pastes.fold("/exit @secret.txt\n" * 30)
    assert pastes.typed(label).literal
    assert pastes.typed(f"{label} see @a.txt").own.strip() == "see @a.txt"
    assert not pastes.typed("/system be brief").literal
    assert not pastes.typed(f"/system {label}").literal
    assert pastes.typed(f"/system {label}").text == "/system " + "/exit @secret.txt\n" * 30


@pytest.mark.parametrize(
    ("shown", "text", "literal"),
    [
        ('"""\n/help\nme\n"""', "/help\nme", True),
        ('"""\n\n  x\n"""\n', "\n  x", True),
        ('"""', '"""', False),
        ('def f():\n"""\ndoc\n"""', 'def f():\n"""\ndoc\n"""', False),
        ('"""a"""', '"""a"""', False),
    ],
)
def test_a_block_is_what_stands_between_lines_of_three_quotes(shown: str, text: str, literal: bool) -> None:
    typed = Pastes().typed(shown)
    assert (typed.text, typed.shown, typed.literal) == (text, shown, literal)


@pytest.mark.parametrize(
    ("text", "inside"),
    [('"""', True), ('"""\na', True), ('"""\na\n"""', False), ('a\n"""', False), ('"""a', False), ("", False)],
)
def test_a_block_is_open_until_it_is_closed(text: str, inside: bool) -> None:
    assert in_block(text) == inside


@pytest.mark.parametrize(
    ("given", "prompt", "typed"),
    [
        ("a\nb\n", "why?", Typed("a\nb\n\nwhy?", "[piped 2 lines] why?", "why?", literal=True)),
        ("a\n", "", Typed("a", "[piped 1 line]", "", literal=True)),
        ("\n", "/why?", Typed("/why?", "/why?", "/why?", literal=True)),
        ("", "", Typed("", "", "", literal=True)),
    ],
)
def test_piped_text_a_blank_line_and_the_prompt(given: str, prompt: str, typed: Typed) -> None:
    assert piped(given, prompt) == typed


@given(st.lists(st.text("ab\n[]1# @/", max_size=60), max_size=6))
def test_folding_loses_nothing(pieces: list[str]) -> None:
    pastes = Pastes()
    shown = "".join(pastes.fold(piece * 30) for piece in pieces)
    assert pastes.whole(shown) == "".join(piece * 30 for piece in pieces)
    assert pastes.whole(pastes.fold_again(pastes.whole(shown))) == pastes.whole(shown)
