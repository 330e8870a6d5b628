"""A conversation as one text for a model, with a record of which parts people wrote.

What a person types may look like a control token (`<|im_end|>`); a model must never read it as one. So
each such text is cut after its first character, by a marker that goes through the template with it
and leaves a cut in the finished `Prompt`. Templates trim, split and measure texts; a marker in the
middle survives that where a position would not. This module knows no token ids.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from chatcli.adapters.table import Match
from chatcli.adapters.template import TemplateRefusal, render
from chatcli.conversation import Conversation, Message
from chatcli.errors import NotAChatModel
from chatcli.models.checkpoint import Checkpoint

_SURROGATES = re.compile("[\ud800-\udfff]")
_NONCHARACTERS = tuple(chr(code) for code in range(0xFDD0, 0xFDF0))


@dataclass(frozen=True, slots=True)
class Prompt:
    """The rendered text; all positions count its characters.

    Across a `cut` nothing may be encoded together. `replies` are the spans of the assistant's earlier
    texts, oldest first; none where the template does not pass them on unchanged.
    """

    text: str
    cuts: tuple[int, ...] = ()
    replies: tuple[tuple[int, int], ...] = ()


def choose_template(checkpoint: Checkpoint, match: Match | None, flag: str = "") -> tuple[str, str]:
    """The template that applies and a few words on where it comes from.

    The person's (`flag`, Jinja text); the row's where it overrules; the checkpoint's own; the row's, if
    the match says that the model chats.

    Raises:
        NotAChatModel: nobody knows a chat format for this model.
    """
    from chatcli.models.vocabulary import chat_template

    row = match.adapter if match else None
    if flag:
        return flag, "the template that was asked for"
    if row and row.overrules and row.template:
        return row.template_text, f"{row.template}, which overrules the checkpoint's own"
    if own := chat_template(checkpoint):
        return own, "the checkpoint's own template"
    if match and row and row.template and match.chats:
        return row.template_text, f"{row.template}, since {match.reason}"
    raise NotAChatModel(f"{checkpoint.name} is a base model: it has no chat format; use its instruct or chat version.")


def build(
    template: str,
    conversation: Conversation,
    *,
    control: Collection[str] = (),
    add_generation_prompt: bool = True,
    **variables: object,
) -> Prompt:
    """Render a conversation so that `control` texts in it stay plain text.

    Without such texts the result is what `apply_chat_template` gives. A template that refuses a system
    message gets it before the first question instead.

    Raises:
        TemplateRefusal: the template refuses the conversation.
        BrokenCheckpoint: the template is broken.
    """
    try:
        return _build(template, conversation.messages, control, add_generation_prompt, variables)
    except TemplateRefusal:
        if not conversation.system or not conversation.spoken:
            raise
        first, *rest = conversation.spoken
        merged = (Message(first.role, f"{conversation.system}\n\n{first.text}", first.reasoning), *rest)
        return _build(template, merged, control, add_generation_prompt, variables)


def _build(
    template: str,
    messages: Sequence[Message],
    control: Collection[str],
    add_generation_prompt: bool,
    variables: Mapping[str, object],
) -> Prompt:
    cut, opened, closed = _markers(template, messages)
    pattern = _starts(control)

    def marked(text: str) -> str:
        return _insert(_SURROGATES.sub("\ufffd", text), pattern, cut)

    plain = [_for_template(message, marked(message.text), marked(message.reasoning)) for message in messages]
    rendered = render(template, plain, add_generation_prompt=add_generation_prompt, **variables)
    text, positions = _without(rendered, cut)
    prompt = Prompt(text, tuple(positions))
    if not any(m.role == "assistant" and m.text.strip() for m in messages):
        return prompt

    for entry in plain:
        if entry["role"] == "assistant":
            entry["content"] = _around(entry["content"], opened, closed)
    spotted, _ = _without(render(template, plain, add_generation_prompt=add_generation_prompt, **variables), cut)
    spans = _spans(spotted, opened, closed)
    # A template that looks into replies may write something else around a marker; then nothing is known.
    if spotted.replace(opened, "").replace(closed, "") != text:
        return prompt
    return Prompt(prompt.text, prompt.cuts, spans)


def _for_template(message: Message, text: str, reasoning: str) -> dict[str, str]:
    """A message as templates know it; thoughts under the two names that are in use."""
    entry: dict[str, str] = {"role": message.role, "content": text}
    if reasoning:
        entry |= {"reasoning_content": reasoning, "thinking": reasoning}
    return entry


def _markers(template: str, messages: Sequence[Message]) -> tuple[str, str, str]:
    """Three noncharacters (Unicode 23.7: never assigned, never in proper text) that occur nowhere here."""
    used = set(template)
    for message in messages:
        used.update(message.text, message.reasoning)
    free = [c for c in _NONCHARACTERS if c not in used]
    if len(free) < 3:  # only an attack uses up thirty noncharacters; planes 15 and 16 hold 130,000 more
        free = [c for c in map(chr, range(0xF0000, 0x10FFFE)) if c not in used]
    return free[0], free[1], free[2]


def _starts(control: Collection[str]) -> re.Pattern[str] | None:
    """Finds the first character of every control text, overlapping ones too. One-character tokens cannot be cut."""
    texts = sorted((text for text in control if len(text) > 1), key=len, reverse=True)
    if not texts:
        return None
    # The class of first characters spares most positions the look at a thousand reserved tokens.
    first = "".join(sorted({re.escape(text[0]) for text in texts}))
    return re.compile(f"(?s)[{first}](?<=(?=(?:{'|'.join(map(re.escape, texts))})).)")


def _insert(text: str, pattern: re.Pattern[str] | None, cut: str) -> str:
    return pattern.sub(lambda found: found[0] + cut, text) if pattern else text


def _around(text: str, opened: str, closed: str) -> str:
    """Markers inside the outer white space, which templates like to trim."""
    core = text.strip()
    if not core:
        return text
    start = text.index(core)
    return text[:start] + opened + core + closed + text[start + len(core) :]


def _without(text: str, marker: str) -> tuple[str, list[int]]:
    parts = text.split(marker)
    positions, length = [], 0
    for part in parts[:-1]:
        length += len(part)
        positions.append(length)
    return "".join(parts), positions


def _spans(text: str, opened: str, closed: str) -> tuple[tuple[int, int], ...]:
    """Where marked replies lie in the text without the markers."""
    spans, start = [], -1
    for removed, found in enumerate(re.finditer(f"[{opened}{closed}]", text)):
        position = found.start() - removed
        if found[0] == opened:
            start = position
        elif start >= 0:
            spans.append((start, position))
            start = -1
    return tuple(spans)
