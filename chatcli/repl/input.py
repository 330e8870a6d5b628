"""Where a person types: the prompt and its toolbar.

It knows prompt_toolkit and text; it knows no session. What a line means is the loop's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prompt_toolkit import PromptSession
from prompt_toolkit.application import create_app_session, in_terminal
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.cursor_shapes import ModalCursorShapeConfig
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyPressEvent
from prompt_toolkit.layout.processors import TabsProcessor
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.output.plain_text import PlainTextOutput
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import is_dumb_terminal

from chatcli.environment import Environment
from chatcli.errors import UsageError
from chatcli.repl.completion import Completions, Words
from chatcli.repl.earlier import earlier_input, without_surrogates
from chatcli.repl.editor import edited
from chatcli.repl.keyboard import keyboard, type_ahead
from chatcli.repl.keys import bindings, put
from chatcli.repl.pastes import Pastes, Typed, in_block

PROMPT = "> "
REFRESH_SECONDS = 0.1
LEAVE_HINT = " Ctrl-C again leaves, and so does Ctrl-D "  # the first half fits into 20 columns
VI_ESCAPE_SECONDS = 0.3
"""How soon after Esc the next key makes it an Alt key: vi's people press Esc and then Enter."""
_STYLE = Style.from_dict(
    {
        "bottom-toolbar": "noreverse fg:ansibrightblack",
        "prompt": "bold",
        "warning": "fg:ansiyellow bold",
        "auto-suggestion": "noinherit dim",
        # The terminal's own colours, so that the menu can be read on light and on dark, and without colour.
        "completion-menu": "noinherit",
        "completion-menu.completion": "noinherit",
        "completion-menu.completion.current": "noinherit reverse",
        "completion-menu.meta.completion": "noinherit dim",
        "completion-menu.meta.completion.current": "noinherit reverse",
        "scrollbar.background": "noinherit",
        "scrollbar.button": "noinherit reverse",
    }
)


class Prompt:
    """Reads one message after another.

    `toolbar` gives the line below the prompt, in pieces with their styles; `loading` says whether it changes
    by itself, and raises when there will never be a model: then `read` raises the same at once. `words` are
    completed. `changed` is told whenever the text is another, with a way to get it whole. Input is remembered in a file
    if `keep`, else until the end of the chat.
    """

    def __init__(
        self,
        environment: Environment,
        words: Words,
        toolbar: Callable[[], list[tuple[str, str]]],
        loading: Callable[[], bool],
        complain: Callable[[Exception], None],
        changed: Callable[[Callable[[], str]], None],
        *,
        keep: bool = True,
        vi: bool = False,
        input: Input | None = None,  # noqa: A002  prompt_toolkit's own name
        output: Output | None = None,
    ) -> None:
        self._environment = environment
        self._toolbar = toolbar
        self._loading = loading
        self._complain = complain
        self._changed = changed
        self._leaving = False
        self._pastes = Pastes()
        self._completions = Completions(words)
        # A dumb terminal has no line below and nothing can be erased in it: all must be said in lines.
        self._dumb = output is None and is_dumb_terminal()
        keys = input or keyboard(environment.stdin)
        with create_app_session(input=keys, output=PlainTextOutput(environment.stdout) if self._dumb else output):
            file = environment.state_folder / "input_history"
            earlier = earlier_input(file, self._pastes.whole) if keep else InMemoryHistory()
            self._session = self._made(environment, earlier, keys, output, vi=vi)
        self._session.default_buffer.on_text_changed += self._typed

    def _made(
        self, environment: Environment, earlier: History, keys: Input | None, output: Output | None, *, vi: bool
    ) -> PromptSession[str]:
        session: PromptSession[str] = PromptSession(
            message=[("class:prompt", PROMPT)],
            multiline=True,
            prompt_continuation=" " * len(PROMPT),
            history=earlier,
            auto_suggest=AutoSuggestFromHistory(),
            completer=self._completions,
            complete_while_typing=True,
            reserve_space_for_menu=4,
            key_bindings=bindings(
                lambda: self._session.default_buffer,
                self._pastes,
                self._completions,
                edit=lambda event: self._edit(),
                interrupt=self._interrupt,
                dumb=self._dumb,
            ),
            bottom_toolbar=self._line_below,
            input_processors=[TabsProcessor(char1=" ", char2=" ")],  # a pasted tab is no ^I
            style=_STYLE,
            color_depth=None if environment.color else ColorDepth.DEPTH_1_BIT,
            vi_mode=vi,
            cursor=ModalCursorShapeConfig() if vi else None,
            input=keys,
            output=output,
        )
        if vi:
            session.app.timeoutlen = session.app.ttimeoutlen = VI_ESCAPE_SECONDS
        return session

    def read(self, default: str = "", *, ahead: str = "", in_editor: bool = False) -> Typed:
        """The next message, with `default` already typed, or open `in_editor`; `ahead` are keys that came before.

        Raises:
            EOFError: the person leaves.
            ChatcliError: there will be no model.
        """
        self._leaving = False
        self._completions.refresh()
        type_ahead(self._session.input, ahead)
        default = self._pastes.fold_again(default)
        while True:
            try:
                shown = self._line(default, in_editor=in_editor)
                while self._dumb and in_block(shown):
                    shown = f"{shown}\n{self._line('', in_editor=False)}"
                return self._pastes.typed(without_surrogates(shown))
            except KeyboardInterrupt:
                if not self._dumb:
                    raise
                self._interrupted_in_a_dumb_terminal()
                default = ""

    def _line(self, default: str, *, in_editor: bool) -> str:
        def begin() -> None:
            self._watch()
            if in_editor:
                self._edit()

        message = PROMPT + default if self._dumb else PROMPT
        return self._session.prompt([("class:prompt", message)], default=default, pre_run=begin)

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

    def _interrupt(self, event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.append_to_history()
            event.current_buffer.reset()
        elif self._leaving:
            event.app.exit(exception=EOFError())
        else:
            self._leaving = True

    def _typed(self, _: object) -> None:
        self._leaving = False
        self._changed(lambda: self._pastes.whole(self._session.default_buffer.text))

    def _line_below(self) -> StyleAndTextTuples:
        return [("", LEAVE_HINT)] if self._leaving else [*self._toolbar()]

    def _edit(self) -> None:
        """Open the whole text in the person's editor; what comes back is the line."""
        line = self._session.default_buffer

        async def open_editor() -> None:
            async with in_terminal():
                try:
                    text = edited(self._pastes.whole(line.text), self._environment)
                except UsageError as error:
                    self._complain(error)
                else:
                    put(line, self._pastes.fold_again(text))
            if self._dumb:
                self._session.output.write(f"\n{PROMPT}{line.text}")
                self._session.output.flush()

        self._session.app.create_background_task(open_editor())

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
