"""Chat templates: Jinja text and messages in, the prompt's text out, byte for byte as transformers does.

Templates come from strangers, so they run in a sandbox under a time and a size limit. This module
knows no tokenizer and no family.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from chatcli.errors import BrokenCheckpoint, UsageError

if TYPE_CHECKING:
    from jinja2 import Template

SECONDS = 10.0
"""How long a template may take. Real ones need milliseconds."""
GROWTH = 4_000_000
"""How many characters a template may add to what the messages hold."""


class TemplateRefusal(UsageError):
    """A template that says no to a conversation, such as "system role not supported"."""


class _Endless(BaseException):
    """Thrown into a template that takes too long; a `BaseException`, so that nothing in between catches it."""


@lru_cache(maxsize=256)
def _compile(template: str) -> Template:
    from chatcli.adapters.sandbox import environment

    return environment().from_string(template)


def render(
    template: str, messages: Sequence[Mapping[str, object]], *, add_generation_prompt: bool = True, **variables: object
) -> str:
    """The prompt's text. `variables` are what templates may ask for: `bos_token`, `enable_thinking` ...

    Raises:
        TemplateRefusal: the template raised its own error.
        BrokenCheckpoint: the template has an error, or runs without end.
    """
    values: dict[str, Any] = {"tools": None, "documents": None, "bos_token": "", "eos_token": "", **variables}
    values |= {"messages": messages, "add_generation_prompt": add_generation_prompt}
    limit = GROWTH + 8 * sum(len(str(value)) for message in messages for value in message.values())
    try:
        return _within(SECONDS, lambda: _joined(_compile(template).generate(values), limit))
    except _Endless:
        raise BrokenCheckpoint("The model's chat template runs without end: use another checkpoint.") from None
    except Exception as error:
        from chatcli.adapters.sandbox import Refusal

        said = (str(error) or type(error).__name__).partition("\n")[0][:200]
        if isinstance(error, Refusal):
            raise TemplateRefusal(f"The model's chat template refuses this conversation: {said}") from error
        raise BrokenCheckpoint(f"The model's chat template is broken ({said}): use another checkpoint.") from error


@lru_cache(maxsize=16)
def variables(template: str) -> frozenset[str]:
    """The names that a template asks for from outside, such as `enable_thinking`; none of a broken one."""
    from jinja2 import TemplateError, meta

    from chatcli.adapters.sandbox import environment

    try:
        return frozenset(meta.find_undeclared_variables(environment().parse(template)))
    except (TemplateError, RecursionError):
        return frozenset()


def _joined(pieces: Any, limit: int) -> str:
    parts, length = [], 0
    for piece in pieces:
        parts.append(piece)
        length += len(piece)
        if length > limit:
            raise _Endless
    return "".join(parts)


def _within(seconds: float, work: Callable[[], str]) -> str:
    """`work()`, or `_Endless` when it takes longer.

    In a thread of its own, since an exception can be thrown from outside into a Python loop that makes
    no output and so reaches no check of ours. A single long call into C is not stopped: its thread is
    left behind.
    """
    outcome: list[str | BaseException] = []
    done = threading.Event()

    def body() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=body, name="template", daemon=True)
    thread.start()
    if not done.wait(seconds):
        import ctypes

        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Endless))
        raise _Endless
    result = outcome[0]
    if isinstance(result, BaseException):
        raise result
    return result
