"""Prompt templates: questions with gaps, shipped ones and a person's own.

A template is a text file with `{{ name }}` gaps, written in Jinja; a `{# comment #}` in its first line says what
it is for. `input` is what is piped in or read from files. This module knows no model and no command line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatcli.errors import UsageError

_ABOUT = re.compile(r"\s*\{#-?\s*(.*?)\s*-?#\}[ \t]*\n?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """One template; `about` is one sentence, `origin` the file it comes from."""

    name: str
    text: str
    about: str
    origin: str


def folder(config_folder: Path) -> Path:
    """Where a person's own templates are: files named NAME.md or NAME.txt."""
    return config_folder / "templates"


def templates(config_folder: Path) -> dict[str, PromptTemplate]:
    """All templates by name; a person's own stands in the place of ours of the same name.

    Raises:
        UsageError: a person's file is no UTF-8 text.
    """
    from importlib.resources import files

    shipped = {each.name.removesuffix(".md"): each for each in files(__name__).iterdir() if each.name.endswith(".md")}
    found = {name: _template(name, each.read_text(encoding="utf-8"), "chatcli") for name, each in shipped.items()}
    own = folder(config_folder)
    for path in sorted([*own.glob("*.md"), *own.glob("*.txt")]) if own.is_dir() else ():
        try:
            found[path.stem] = _template(path.stem, path.read_text(encoding="utf-8-sig"), str(path))
        except (OSError, ValueError) as error:
            raise UsageError(f"The template {path} cannot be read as UTF-8 text: {error}.") from error
    return dict(sorted(found.items()))


def named(name: str, config_folder: Path) -> PromptTemplate:
    """The template of a name.

    Raises:
        UsageError: there is none; the nearest name is offered.
    """
    known = templates(config_folder)
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    raise UsageError(f"There is no template {name}: " + (f"did you mean {near[0]}?" if near else _listed(known)))


def fill(template: PromptTemplate, values: Mapping[str, str], piped: str) -> str:
    """The question: the template with its gaps filled; `piped` goes where it says `input`, else before it.

    Raises:
        UsageError: a gap has no value, a value has no gap, or the template is wrong.
    """
    from jinja2 import StrictUndefined, meta
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    jinja = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=False)
    gaps: set[str] = set()
    try:
        gaps = meta.find_undeclared_variables(jinja.parse(template.text))
        if unknown := sorted(set(values) - gaps):
            raise UsageError(f"The template {template.name} has no {unknown[0]}: {_gaps(gaps)}")
        known: dict[str, Any] = {**values, "input": piped} if piped else dict(values)
        text = jinja.from_string(template.text).render(known).strip()
    except TemplateError as error:
        if error.message == "'input' is undefined":
            raise UsageError(
                f"The template {template.name} needs an input: pipe it in, or name a file with -f."
            ) from error
        raise UsageError(f"The template {template.name} cannot be filled: {error.message}; {_gaps(gaps)}") from error
    return text if "input" in gaps or not piped else f"{piped}\n\n{text}"


def _template(name: str, text: str, origin: str) -> PromptTemplate:
    match = _ABOUT.match(text)
    about = " ".join(match[1].split()) if match else ""
    return PromptTemplate(name, text[match.end() :] if match else text, about, origin)


def _gaps(gaps: Iterable[str]) -> str:
    named = sorted(set(gaps) - {"input"})
    return f"it has {', '.join(named)} (as in {named[0]}=...)." if named else "it has no values to give."


def _listed(known: Mapping[str, PromptTemplate]) -> str:
    return f"there are {', '.join(known)}."
