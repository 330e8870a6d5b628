"""Thinking on or off, much or little: a person's settings under the names that chat templates know.

`enable_thinking` is Qwen3's, SmolLM3's and GLM-4.5's name, `thinking` DeepSeek's and Granite's, and gpt-oss
knows a `reasoning_effort` only. This module knows no model and no message.
"""

from __future__ import annotations

from typing import Any

from chatcli.adapters.template import variables
from chatcli.generation import GenerationSettings

SWITCHES = ("enable_thinking", "thinking")
EFFORT = "reasoning_effort"


def knobs(template: str) -> frozenset[str]:
    """Which of the variables a template asks for."""
    return variables(template) & {*SWITCHES, EFFORT}


def thinking(template: str, settings: GenerationSettings) -> dict[str, Any]:
    """What `settings` say to a template, of those variables alone that it asks for.

    A template that knows only efforts cannot be told to stop thinking; it is told to do little of it.
    """
    known = knobs(template)
    said: dict[str, Any] = {}
    if settings.think is not None:
        said = {name: settings.think for name in SWITCHES if name in known}
        if not said and not settings.think and EFFORT in known:
            said[EFFORT] = "low"
    if settings.reasoning_effort and EFFORT in known:
        said[EFFORT] = settings.reasoning_effort
    return said


def unheard(template: str, settings: GenerationSettings) -> str:
    """One sentence where a person asks for what the template has no variable for, else empty."""
    known = knobs(template)
    asks = f"think = {str(settings.think).lower()}"
    if settings.think is not None and not known:
        return f"This model's chat template has no switch for thinking: {asks} changes nothing."
    if settings.think is False and not known & set(SWITCHES) and not settings.reasoning_effort:
        return "This model's chat template cannot switch thinking off: the model is told to think little."
    if settings.reasoning_effort and EFFORT not in known:
        return "This model's chat template knows no reasoning effort: reasoning_effort changes nothing."
    return ""
