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
from prompt_toolkit.application import create_app_session
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout.processors import TabsProcessor
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.output.plain_text import PlainTextOutput
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import is_dumb_terminal

from chatcli.environment import Environment

PROMPT = "> "
REFRESH_SECONDS = 0.1
LEAVE_HINT = " Ctrl-C again leaves, and so does Ctrl-D "  # the first half fits into 20 columns
_STYLE = Style.from_dict(
    {"bottom-toolbar": "noreverse fg:ansibrightblack", "prompt": "bold", "warning": "fg:ansiyellow bold"}
)


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

    `toolbar` gives the line below the prompt, in pieces with their styles; `loading` says whether it changes
    by itself, and raises when there will never be a model: then `read` raises the same at once. Input is
    remembered in a file if `keep`, else until the end of the chat.
    """

    def __init__(
        self,
        environment: Environment,
        names: Sequence[str],
        toolbar: Callable[[], list[tuple[str, str]]],
        loading: Callable[[], bool],
        *,
        keep: bool = True,
        input: Input | None = None,  # noqa: A002  prompt_toolkit's own name
        output: Output | None = None,
    ) -> None:
        self._toolbar = toolbar
        self._loading = loading
        self._leaving = False
        self._completer = SlashCompleter(names)
        # A dumb terminal has no line below and nothing can be erased in it: all must be said in lines.
        self._dumb = output is None and is_dumb_terminal()
        with create_app_session(output=PlainTextOutput(environment.stdout) if self._dumb else output):
            earlier = _history(environment.state_folder / "input_history") if keep else InMemoryHistory()
            self._session = self._made(environment, earlier, input, output)
        self._session.default_buffer.on_text_changed += self._typed

    def _made(
        self, environment: Environment, earlier: History, keyboard: Input | None, output: Output | None
    ) -> PromptSession[str]:
        return PromptSession(
            message=[("class:prompt", PROMPT)],
            multiline=True,
            prompt_continuation=" " * len(PROMPT),
            history=earlier,
            auto_suggest=AutoSuggestFromHistory(),
            completer=self._completer,
            complete_while_typing=True,
            reserve_space_for_menu=4,
            key_bindings=self._bindings(),
            bottom_toolbar=self._line_below,
            input_processors=[TabsProcessor(char1=" ", char2=" ")],  # a pasted tab is no ^I
            style=_STYLE,
            color_depth=None if environment.color else ColorDepth.DEPTH_1_BIT,
            input=keyboard,
            output=output,
        )

    def read(self, default: str = "") -> str:
        """The next message, with `default` already typed.

        Raises:
            EOFError: the person leaves.
            ChatcliError: there will be no model.
        """
        self._leaving = False
        while True:
            shown = PROMPT + default if self._dumb else PROMPT
            try:
                typed = self._session.prompt([("class:prompt", shown)], default=default, pre_run=self._watch)
                return _without_surrogates(typed)
            except KeyboardInterrupt:
                if not self._dumb:
                    raise
                self._interrupted_in_a_dumb_terminal()
                default = ""

    def _interrupted_in_a_dumb_terminal(self) -> None:
        """Do in lines what the binding of Ctrl-C does below the prompt; a dumb prompt has not our binding."""
        buffer = self._session.default_buffer
        if buffer.text:
            buffer.append_to_history()
        elif self._leaving:
            raise EOFError
        else:
            self._leaving = True
            self._session.output.write(f"{LEAVE_HINT.strip()}\n")

    def _in_a_command(self) -> bool:
        return self._session.default_buffer.text.startswith("/")

    def _typed(self, _: object) -> None:
        self._leaving = False

    def _line_below(self) -> StyleAndTextTuples:
        return [("", LEAVE_HINT)] if self._leaving else [*self._toolbar()]

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

        @keys.add("tab", filter=typing & Condition(self._in_a_command))
        def _(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            names = [each.text for each in self._completer.get_completions(buffer.document, CompleteEvent())]
            more = os.path.commonprefix(names)[len(buffer.document.text_before_cursor) :]  # noqa: RUF071  characters are meant
            # At once: prompt_toolkit's own Tab does nothing while it is still looking for completions.
            if more:
                buffer.insert_text(more, fire_event=False)
            else:
                buffer.complete_next() if buffer.complete_state else buffer.start_completion(select_first=True)

        @keys.add("c-c", filter=typing)
        def _(event: KeyPressEvent) -> None:
            if event.current_buffer.text:
                event.current_buffer.append_to_history()
                event.current_buffer.reset()
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
