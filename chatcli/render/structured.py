"""Answers as JSON for programs: one object an answer, or one object an event.

The fields are documented in docs/scripts.md and stable: new ones may come, none goes. It knows events; it
opens no stream.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from chatcli.generation import (
    EngineFacts,
    Event,
    Finished,
    GenerationSettings,
    Progress,
    Reasoning,
    Text,
    TokenLogprob,
    ToolCalled,
)


def event_object(event: Event) -> dict[str, Any]:
    """One event as an object with a `type`; a progress without a note is no more than a sign of life."""
    match event:
        case Text(text):
            return {"type": "text", "text": text}
        case Reasoning(text):
            return {"type": "reasoning", "text": text}
        case Progress():
            return {"type": "progress", **{key: value for key, value in asdict(event).items() if value}}
        case ToolCalled(call):
            return {"type": "tool_call", **asdict(call)}
        case Finished():
            return {"type": "finished", **ending_object(event)}


def answer_object(
    events: Iterable[Event], facts: EngineFacts, settings: GenerationSettings, conversation: str
) -> dict[str, Any]:
    """A whole answer: what was said, by which model, under which settings, how it ended and how long it took.

    What `settings` leave open is the model's. `conversation` is the stored talk's id, empty where nothing is
    stored. `finish_reason` is null where the events ended without `Finished`, after an interruption.
    """
    text, reasoning, ending = "", "", dict[str, Any](finish_reason=None)
    for event in events:
        match event:
            case Text(piece):
                text += piece
            case Reasoning(piece):
                reasoning += piece
            case Finished():
                ending = ending_object(event)
    return {
        "text": text,
        "reasoning": reasoning,
        "model": facts.model,
        "revision": facts.revision,
        "adapter": facts.adapter,
        "device": facts.device,
        "precision": facts.precision,
        "settings": {
            name: value for name, value in asdict(settings.over(facts.defaults)).items() if value not in (None, ())
        },
        **ending,
        "conversation": conversation,
    }


def ending_object(finished: Finished) -> dict[str, Any]:
    """How an answer ended: the reason, counts of tokens, times in seconds, log probabilities where asked for."""
    told: dict[str, Any] = {
        "finish_reason": finished.reason,
        "usage": {
            "prompt_tokens": finished.prompt_tokens,
            "cached_tokens": finished.cached_tokens,
            "completion_tokens": finished.completion_tokens,
            "total_tokens": finished.prompt_tokens + finished.completion_tokens,
        },
        "times": {
            "seconds_to_first_token": round(finished.seconds_to_first, 6),
            "seconds_decoding": round(finished.seconds, 6),
            "tokens_per_second": round(finished.tokens_per_second, 3),
        },
    }
    if finished.logprobs:
        told["logprobs"] = [_logprob(each) for each in finished.logprobs]
    return told


def _logprob(token: TokenLogprob) -> dict[str, Any]:
    told: dict[str, Any] = {"id": token.id, "text": token.text, "logprob": round(token.logprob, 6)}
    if token.top:
        told["top"] = [_logprob(each) for each in token.top]
    return told
