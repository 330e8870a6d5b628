"""What Tab and the menu offer: commands, what may stand behind them, files.

It knows prompt_toolkit and the table of commands; what a kind of argument may be it is told.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from chatcli import config
from chatcli.images import ENDINGS
from chatcli.repl.commands import ALIASES, COMMANDS
from chatcli.repl.commands.table import Completes

Words = Callable[[Completes], Sequence[tuple[str, str]]]
"""Every word that an argument of a kind may be, with what it stands for."""

MOST_FILES = 500
_NAME = re.compile(r"/(\S*)")
_CALL = re.compile(r"/(\S+)[ \t]+(.*)")
_MENTION = re.compile(r'(?:^|(?<=[^\w.+@/-])|(?<=[\u2e80-\uffef]))@("?)([^"@\n]*)$')
_SWITCH = ("on", "off")


class Completions(Completer):
    """Completes what stands before the cursor; words are asked for once between two calls of `refresh`."""

    def __init__(self, words: Words) -> None:
        self._ask = words
        self._asked: dict[Completes, Sequence[tuple[str, str]]] = {}

    def refresh(self) -> None:
        """Ask anew what words there are."""
        self._asked = {}

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What the text before the cursor may go on with."""
        before = document.text_before_cursor
        if name := _NAME.fullmatch(before):
            return _commands(name[1].lower())
        if call := _CALL.fullmatch(before):
            return self._arguments(call[1].lower(), call[2])
        mention = _MENTION.search(before)
        if mention and (mention[1] or " " not in mention[2]):
            return _mentions(mention[1], mention[2])
        return ()

    def _arguments(self, name: str, typed: str) -> Iterator[Completion]:
        command = COMMANDS.get(ALIASES.get(name, name))
        if not command or not command.completes:
            return
        if command.completes in ("files", "images"):
            endings = ENDINGS if command.completes == "images" else ()
            for path in files(typed, endings):
                yield Completion(path, -len(typed), display=Path(path).name + path[len(path.rstrip(os.sep)) :])
            return
        kind: Completes = command.completes
        word = typed
        if kind == "settings":
            kind, word = _setting(typed, several=command.name == "retry")
        for text, meta in fitting(self._words(kind), word):
            # People know a talk by its title.
            shown, beside = (meta, text) if kind == "talks" and meta else (text, meta)
            yield Completion(text, -len(word), display=shown, display_meta=beside)

    def _words(self, kind: Completes) -> Sequence[tuple[str, str]]:
        if kind not in self._asked:
            self._asked[kind] = self._ask(kind)
        return self._asked[kind]


def fitting(words: Iterable[tuple[str, str]], typed: str) -> list[tuple[str, str]]:
    """The words that begin like `typed`, then those that have it elsewhere, in them or in what they stand for."""
    wanted = typed.casefold()
    ranked: list[list[tuple[str, str]]] = [[], []]
    for word, meta in words:
        if word.casefold().startswith(wanted):
            ranked[0].append((word, meta))
        elif wanted and (len(wanted) > 1 or not wanted.isascii()) and wanted in f"{word}\n{meta}".casefold():
            ranked[1].append((word, meta))
    return ranked[0] + ranked[1]


def files(typed: str, endings: tuple[str, ...] = ()) -> list[str]:
    """The paths that begin like `typed`, folders with a slash at their end; hidden ones only behind a dot.

    Of the files those with one of the `endings`, where there are any.
    """
    folder, name = os.path.split(typed)
    before = typed[: len(typed) - len(name)]
    try:
        with os.scandir(Path(folder or ".").expanduser()) as entries:
            fit = [
                before + entry.name + (os.sep if entry.is_dir() else "")
                for entry in entries
                if entry.name.startswith(name)
                and (name.startswith(".") or not entry.name.startswith("."))
                and (not endings or entry.is_dir() or entry.name.lower().endswith(endings))
            ]
    except (OSError, ValueError, RuntimeError):
        return []
    return list(islice(sorted(fit), MOST_FILES))


def _commands(typed: str) -> Iterator[Completion]:
    fit = [name for name in COMMANDS if name.startswith(typed)]
    for name in fit or [alias for alias in ALIASES if alias.startswith(typed)]:
        yield Completion(f"/{name}", -len(typed) - 1, display_meta=COMMANDS[ALIASES.get(name, name)].help)


def _mentions(quote: str, typed: str) -> Iterator[Completion]:
    for path in files(typed):
        quoted = quote or ('"' if " " in path else "")
        end = "" if path.endswith(os.sep) else quoted
        name = Path(path).name + ("/" if path.endswith(os.sep) else "")
        yield Completion(f"@{quoted}{path}{end}", -len(typed) - len(quote) - 1, display=name)


def _setting(typed: str, *, several: bool) -> tuple[Completes, str]:
    """What is being typed of "temperature 0.2", or of "temperature=1.2 seed=5" where there are `several`."""
    word = typed.rpartition(" ")[2] if several else typed
    key, separator, value = word.partition("=" if several or " " not in word else " ")
    if not separator:
        return "settings", word
    kind = config.KINDS.get(key)
    choices = (kind.choices or (_SWITCH if kind.type == "switch" else ())) if kind else ()
    return tuple(choices), value
