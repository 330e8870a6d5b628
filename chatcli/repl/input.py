"""Where a person types: the prompt, its keys, completion and toolbar.

It knows prompt_toolkit and text; it knows no session. What a line means is the loop's business.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import has_focus
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout.processors import TabsProcessor
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.styles import Style

from chatcli.environment import Environment

PROMPT = "> "
REFRESH_SECONDS = 0.1
LEAVE_HINT = " Press Ctrl-C again, or Ctrl-D, to leave. "
_STYLE = Style.from_dict({"bottom-toolbar": "noreverse fg:ansibrightblack", "prompt": "bold"})


class SlashCompleter(Completer):
    """Completes the names of slash commands at the beginning of the input."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Names that begin like the word being typed."""
        typed = document.text_before_cursor
        if typed.startswith("/") and " " not in typed and "\n" not in typed:
            for name in self._names:
                if name.startswith(typed[1:].lower()):
                    yield Completion(f"/{name}", start_position=-len(typed))


class PrivateHistory(FileHistory):
    """Earlier input in a file; what cannot be written is remembered until the end of the chat."""

    def store_string(self, string: str) -> None:
        """Add one input to the file."""
        with suppress(OSError):
            super().store_string(_without_surrogates(string))


class Prompt:
    """Reads one message after another.

    `toolbar` gives the line below the prompt; `loading` says whether it changes by itself, and raises
    when there will never be a model: then `read` raises the same at once.
    """

    def __init__(
        self,
        environment: Environment,
        names: Sequence[str],
        toolbar: Callable[[], str],
        loading: Callable[[], bool],
        *,
        input: Input | None = None,  # noqa: A002  prompt_toolkit's own name
        output: Output | None = None,
    ) -> None:
        self._toolbar = toolbar
        self._loading = loading
        self._leaving = False
        self._session: PromptSession[str] = PromptSession(
            message=[("class:prompt", PROMPT)],
            multiline=True,
            prompt_continuation=" " * len(PROMPT),
            history=_history(environment.state_folder / "input_history"),
            auto_suggest=AutoSuggestFromHistory(),
            completer=SlashCompleter(names),
            complete_while_typing=True,
            reserve_space_for_menu=4,
            key_bindings=self._bindings(),
            bottom_toolbar=self._line_below,
            input_processors=[TabsProcessor(char1=" ", char2=" ")],  # a pasted tab is no ^I
            style=_STYLE,
            color_depth=None if environment.color else ColorDepth.DEPTH_1_BIT,
            input=input,
            output=output,
        )

    def read(self, default: str = "") -> str:
        """The next message, with `default` already typed.

        Raises:
            EOFError: the person leaves.
            ChatcliError: there will be no model.
        """
        self._leaving = False
        return _without_surrogates(self._session.prompt(default=default, pre_run=self._watch))

    def _line_below(self) -> str:
        return LEAVE_HINT if self._leaving else self._toolbar()

    def _watch(self) -> None:
        """Redraw the toolbar while the model loads."""
        app = self._session.app

        async def redraw() -> None:
            try:
                while self._loading():
                    app.invalidate()
                    await asyncio.sleep(REFRESH_SECONDS)
            except Exception as error:
                if app.is_running and not app.is_done:
                    self._session.default_buffer.append_to_history()
                    app.exit(exception=error)
            app.invalidate()

        app.create_background_task(redraw())

    def _bindings(self) -> KeyBindings:
        keys = KeyBindings()
        typing = has_focus(DEFAULT_BUFFER)

        @keys.add("enter", filter=typing)
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.validate_and_handle()

        @keys.add("escape", "enter", filter=typing)
        @keys.add("c-j", filter=typing)
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("c-c", filter=typing)
        def _(event: KeyPressEvent) -> None:
            if event.current_buffer.text:
                event.current_buffer.append_to_history()
                event.current_buffer.reset()
                self._leaving = False
            elif self._leaving:
                event.app.exit(exception=EOFError())
            else:
                self._leaving = True

        return keys


def _history(path: Path) -> History:
    """Earlier input, in a file that nobody else can read; in memory where there can be no file."""
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        return PrivateHistory(str(path))
    return InMemoryHistory()


def _without_surrogates(text: str) -> str:
    """Bytes of a terminal that are no UTF-8 arrive as lone surrogates, which nothing further on can take."""
    return text.encode("utf-8", "replace").decode("utf-8")
