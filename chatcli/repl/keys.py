"""What each key of the prompt does, beyond what prompt_toolkit's emacs and vi modes do.

It knows prompt_toolkit and the text in the line; it knows no session.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus, vi_insert_mode, vi_mode
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys

from chatcli.repl.completion import Completions
from chatcli.repl.pastes import Pastes, in_block

SHOWN_LABEL_KEYS = (("backspace",), ("c-w",), ("escape", "backspace"))


def bindings(
    buffer: Callable[[], Buffer],
    pastes: Pastes,
    completions: Completions,
    *,
    edit: Callable[[KeyPressEvent], None],
    interrupt: Callable[[KeyPressEvent], None],
    dumb: bool,
) -> KeyBindings:
    """The keys of the line that `buffer` gives; `edit` and `interrupt` are what Ctrl-O and Ctrl-C do.

    In a `dumb` terminal, such as an editor's shell window, the Enter key may send what is Ctrl-J elsewhere.
    """
    keys = KeyBindings()
    typing = has_focus(DEFAULT_BUFFER)
    lines = typing & Condition(lambda: not dumb)

    def offered() -> list[str]:
        document = buffer().document
        return [
            document.text_before_cursor[: len(document.text_before_cursor) + each.start_position] + each.text
            for each in completions.get_completions(document, CompleteEvent())
        ]

    @keys.add("enter", filter=typing)
    @keys.add("c-j", filter=typing & ~lines)
    def _(event: KeyPressEvent) -> None:
        line = event.current_buffer
        line.insert_text("\n") if in_block(line.text) else line.validate_and_handle()

    @keys.add("escape", "enter", filter=typing & (~vi_mode | vi_insert_mode))
    @keys.add("c-j", filter=lines)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("tab", filter=typing & Condition(lambda: bool(offered())))
    def _(event: KeyPressEvent) -> None:
        line, before = event.current_buffer, event.current_buffer.document.text_before_cursor
        common = os.path.commonprefix(offered())  # noqa: RUF071  characters are meant
        # At once: prompt_toolkit's own Tab does nothing while it is still looking for completions.
        if common.startswith(before) and common != before:
            line.insert_text(common[len(before) :], fire_event=False)
        elif line.complete_state:
            line.complete_next()
        else:
            line.start_completion(select_first=True)

    @keys.add(Keys.BracketedPaste, filter=typing)
    def _(event: KeyPressEvent) -> None:
        pasted = event.data.replace("\r\n", "\n").replace("\r", "\n")
        event.current_buffer.insert_text(pastes.fold(pasted))

    behind_label = Condition(lambda: bool(pastes.label_before(buffer().document.text_before_cursor)))

    def take_out(event: KeyPressEvent) -> None:
        """A label goes as a whole: half of one would stand for nothing."""
        line = event.current_buffer
        line.delete_before_cursor(len(pastes.label_before(line.document.text_before_cursor)))

    for sequence in SHOWN_LABEL_KEYS:
        keys.add(*sequence, filter=typing & behind_label)(take_out)

    keys.add("c-o", filter=typing)(edit)
    keys.add("c-c", filter=typing)(interrupt)
    keys.add(Keys.SIGINT, filter=typing)(interrupt)
    return keys


def put(line: Buffer, text: str) -> None:
    """Make `text` the whole line, the cursor behind it."""
    line.document = Document(text, len(text))
