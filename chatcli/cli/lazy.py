"""Commands that are imported when they are called, so that a start costs what it uses and no more.

A command's row says where its function is: "file:function", below chatcli.cli. What the function does it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

from typer.core import TyperGroup

Action = Callable[..., int | None]


def action(row: str) -> Action:
    """The function of a row such as "history.listing:history_show"."""
    file, _, name = row.partition(":")
    found: Action = getattr(import_module(f"chatcli.cli.{file}"), name)
    return found


class Made(Mapping[str, Any]):
    """Typer's commands by name, each made when it is first asked for."""

    def __init__(self, makers: Mapping[str, Callable[[], Any]]) -> None:
        self._makers = makers
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def group_of(makers: Mapping[str, Callable[[], Any]]) -> type[TyperGroup]:
    """The class of a group with the commands that `makers` make."""

    class Group(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands: Any = Made(makers)

    return Group
