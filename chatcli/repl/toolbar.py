"""The line below the prompt: model, device, how full the context is, speed, share of the cache.

Pieces of text with the names of their styles, as many as fit, the most useful first. It knows the
session's numbers; it knows no prompt_toolkit.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from chatcli.conversation import Conversation
from chatcli.engines.deferred import DeferredEngine
from chatcli.environment import Environment
from chatcli.render.progress import described
from chatcli.servers.address import parse_address
from chatcli.servers.profiles import model_and_server, model_at
from chatcli.session import Session
from chatcli.streaming.sanitize import sanitize

Piece = tuple[str, str]
"""A style's name and a text; prompt_toolkit's "formatted text" is a list of them."""

PLAIN, WARNING = "", "class:warning"
WARN_FROM = 0.8
BAR = 10


class Toolbar:
    """Called for each drawing; it remembers the count of a conversation that no reply has counted."""

    def __init__(self, session: Session, environment: Environment) -> None:
        self._session = session
        encoding = getattr(environment.stdout, "encoding", None) or "utf-8"
        self._full, self._empty = ("█", "░") if encoding.lower().replace("-", "") == "utf8" else ("#", "-")
        self._seen: tuple[Conversation, str, int] = (Conversation(), "", 0)

    def __call__(self) -> list[Piece]:
        """The line; it is never wider than the terminal."""
        engine = self._session.engine
        width = shutil.get_terminal_size().columns - 1
        model = short_name(engine.facts.model)
        progress = engine.progress if isinstance(engine, DeferredEngine) else None
        if progress:
            return fitted([[(PLAIN, described(progress)), (PLAIN, model)], [(PLAIN, described(progress))]], width)
        return fitted(self._layouts(model), width)

    def _layouts(self, model: str) -> list[list[Piece]]:
        """The same line at several lengths, the longest first."""
        facts, last = self._session.engine.facts, self._session.last
        name, device = (PLAIN, model), (PLAIN, f"{facts.device} {facts.precision}".strip())
        speed = (PLAIN, f"{last.tokens_per_second:.0f} tokens/s" if last and last.tokens_per_second else "")
        share = last.cached_tokens / last.prompt_tokens if last and last.prompt_tokens else 0
        cached = (PLAIN, f"{share:.0%} cached" if share else "")
        used, context = self._used(), facts.context
        full = used / context if context else 0
        style = WARNING if full >= WARN_FROM else PLAIN
        percent = (style, f"{full:.0%}" if used and context else "")
        filled = min(round(full * BAR), BAR)
        counted = f"{_thousands(used)} of {_thousands(context)}" if used and context else ""
        bar = (style, f"{self._full * filled}{self._empty * (BAR - filled)} {counted}" if counted else "")
        return [
            [name, device, bar, speed, cached],
            [name, device, bar, speed],
            [name, bar, speed],
            [name, (style, counted), speed],
            [name, (style, counted)],
            [name, percent],
            [percent, name],
        ]

    def _used(self) -> int:
        session, model = self._session, self._session.engine.facts.model
        if self._seen[0] is not session.conversation or self._seen[1] != model or not self._seen[2]:
            self._seen = (session.conversation, model, session.used)
        return self._seen[2]


def fitted(layouts: Sequence[Sequence[Piece]], width: int) -> list[Piece]:
    """The first of the layouts that fits into `width` columns; the last one is cut where none does."""
    pieces: list[Piece] = []
    for layout in layouts:
        pieces = [(style, sanitize(text, single_line=True)) for style, text in layout if text]
        pieces = [(style, ("  " if index else " ") + text) for index, (style, text) in enumerate(pieces)]
        if sum(columns(text) for _, text in pieces) <= width:
            return pieces
    return _cut(pieces, width)


def _cut(pieces: list[Piece], width: int) -> list[Piece]:
    cut: list[Piece] = []
    for style, text in pieces:
        while text and columns(text) > width:
            text = text[:-1]  # noqa: PLW2901  what is left of it
        width -= columns(text)
        cut.append((style, text))
    return [piece for piece in cut if piece[1]]


def columns(text: str) -> int:
    """How wide a terminal shows a text."""
    from rich.cells import cell_len

    return cell_len(text)


def short_name(model: str) -> str:
    """A model's name as people say it: of a folder or a file, the last part of its path; so for its adapters.

    Of a server that is a URL, its host.
    """
    if found := model_and_server(model):
        name, server = found
        where = parse_address(server).label if ":" in server else server
        return model_at(short_name(name), where) if name else where
    return " + ".join(Path(part).name if Path(part).is_absolute() else part for part in model.split(" + "))


def _thousands(tokens: int) -> str:
    return str(tokens) if tokens < 10_000 else f"{tokens / 1000:.0f}k"
