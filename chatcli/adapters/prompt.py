"""A conversation as one text for a model, with a record of which parts people wrote.

What a person types may look like a control token (`<|im_end|>`); a model must never read it as one. So
each such text is cut after its first character, by a marker that goes through the template with it
and leaves a cut in the finished `Prompt`. Templates trim, split and measure texts; a marker in the
middle survives that where a position would not. This module knows no token ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from chatcli.adapters.table import Match
from chatcli.adapters.template import TemplateRefusal, render
from chatcli.adapters.tool_prompt import Marked, Places, places, with_call_answered, with_calls
from chatcli.conversation import Conversation, Message
from chatcli.errors import BrokenCheckpoint, NotAChatModel
from chatcli.models.checkpoint import Checkpoint
from chatcli.models.vocabulary import chat_templates
from chatcli.streaming.tool_formats import ToolFormat

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


@dataclass(frozen=True, slots=True)
class Templates:
    """The templates that apply to a checkpoint, by name, and a few words on where they come from."""

    named: Mapping[str, str]
    origin: str

    def select(self, *, tools: bool = False, documents: bool = False) -> str:
        """The template for a conversation: "tool_use" with tools, "rag" with documents, else "default"."""
        wanted = [*(["tool_use"] if tools else []), *(["rag"] if documents else []), "default", *self.named]
        return next(self.named[name] for name in wanted if name in self.named)


def choose_templates(checkpoint: Checkpoint, match: Match | None) -> Templates:
    """The row's template where it or a person overrules; the checkpoint's own; the row's, if the model chats.

    Raises:
        NotAChatModel: nobody knows a chat format for this model.
    """
    row = match.adapter if match else None
    if row and row.overrules and row.template:
        return Templates({"default": row.template_text}, f"{row.template}, which overrules the checkpoint's own")
    if match and match.by == "said" and row and row.template:
        return Templates({"default": row.template_text}, f"{row.template}, since {match.reason}")
    own, place = chat_templates(checkpoint)
    if own:
        return Templates(own, f"the checkpoint's own, in {place}")
    if match and row and row.template and match.chats:
        return Templates({"default": row.template_text}, f"{row.template}, since {match.reason}")
    raise NotAChatModel(f"{checkpoint.name} is a base model: it has no chat format; use its instruct or chat version.")


def build(
    template: str,
    conversation: Conversation,
    *,
    control: Collection[str] = (),
    add_generation_prompt: bool = True,
    tools: Sequence[object] | None = None,
    documents: Sequence[object] | None = None,
    form: ToolFormat | None = None,
    **variables: object,
) -> Prompt:
    """Render a conversation so that `control` texts in it, in `tools` and in `documents` stay plain text.

    `form` is how calls of tools are written where the template has no place for them.

    Without such texts the result is what `apply_chat_template` gives. A template that refuses a system
    message gets it before the first question instead.

    Raises:
        TemplateRefusal: the template refuses the conversation.
        BrokenCheckpoint: the template is broken.
    """
    given = _Given(template, control, add_generation_prompt, tools, documents, form, variables)
    try:
        return given.build(conversation.messages)
    except TemplateRefusal:
        first, *rest = conversation.spoken or (Message("system", ""),)
        if not conversation.system or first.role != "user":
            raise
        return given.build((replace(first, text=f"{conversation.system}\n\n{first.text}"), *rest))


def begun(prompt: Prompt, reply: Message, tags: Sequence[str], control: Collection[str] = ()) -> Prompt:
    """`prompt` with the beginning of its answer behind it, which the model then goes on with.

    `tags` open and close a reasoning part, a third opens the answer; the prompt itself may have opened the
    reasoning. The white space around two tags is that of the families that use them.
    """
    opened = prompt.text.rstrip().endswith(tags[0])
    before = "" if opened or not reply.reasoning else tags[0]
    after = tags[1] if reply.text and (opened or reply.reasoning) else ""
    if len(tags) > 2:
        after += tags[2] if reply.text else ""
    else:
        before, after = before and f"{before}\n", after and f"\n{after}\n\n"
    text, cuts = prompt.text, [*prompt.cuts, len(prompt.text)]
    pattern = _starts(control)
    for part, said in ((before, False), (reply.reasoning, True), (after, False), (reply.text, True)):
        if said and pattern:
            cuts += [len(text) + found.end() for found in pattern.finditer(part)]
        text += _SURROGATES.sub("\ufffd", part)
    return Prompt(text, tuple(cuts), prompt.replies)


@lru_cache(maxsize=16)
def wants_parts(template: str) -> bool:
    """Whether a template finds a message's text only where the content is a list of parts, as some that see do."""

    def finds(content: object) -> bool:
        try:
            return "(probe)" in render(template, [{"role": "user", "content": content}])
        except (TemplateRefusal, BrokenCheckpoint):
            return False

    return not finds("(probe)") and finds([{"type": "text", "text": "(probe)"}])


def loses_system(template: str, system: str, **variables: Any) -> bool:
    """Whether a template passes over a system message without a word."""
    if not system.strip():
        return False
    question = Conversation((Message("user", "?"),))
    text = build(template, question.with_system(system), **variables).text
    return system.strip() not in text and build(template, question, **variables).text == text


@dataclass(frozen=True, slots=True)
class _Given:
    """All that a prompt is made of but the messages."""

    template: str
    control: Collection[str]
    add_generation_prompt: bool
    tools: Sequence[object] | None
    documents: Sequence[object] | None
    form: ToolFormat | None
    variables: Mapping[str, object]

    def build(self, messages: Sequence[Message]) -> Prompt:
        """The prompt with its cuts and replies."""
        texts = [text for message in messages for text in (message.text, message.reasoning)]
        texts += [text for message in messages for call in message.calls for text in (call.name, call.arguments)]
        others = json.dumps([self.tools, self.documents], ensure_ascii=False, default=str)
        cut, opened, closed = _markers("\0".join([self.template, others, *texts]))
        pattern = _starts(self.control)

        def marked(value: Any) -> Any:
            if isinstance(value, str):
                return _insert(_SURROGATES.sub("\ufffd", value), pattern, cut)
            if isinstance(value, Mapping):
                return {marked(key): marked(each) for key, each in value.items()}
            return [marked(each) for each in value] if isinstance(value, (list, tuple)) else value

        extra = {**self.variables, "tools": marked(self.tools), "documents": marked(self.documents)}
        extra["add_generation_prompt"] = self.add_generation_prompt
        parts = wants_parts(self.template)
        plain = [_for_template(each, marked(each.text), marked(each.reasoning), parts=parts) for each in messages]
        if any(each.calls or each.role == "tool" for each in messages):
            place = places(self.template)
            plain = [self._with_tools(*each, messages, place, marked) for each in zip(plain, messages, strict=True)]
        text, cuts = _without(render(self.template, plain, **extra), cut)
        prompt = Prompt(text, tuple(cuts))
        if not any(m.role == "assistant" and m.text.strip() for m in messages):
            return prompt

        for entry in plain:
            if entry["role"] == "assistant" and entry["content"]:
                entry["content"] = _around(entry["content"], opened, closed)
        spotted, _ = _without(render(self.template, plain, **extra), cut)
        spans = _spans(spotted, opened, closed)
        # A template that looks into replies may write something else around a marker; then nothing is known.
        if spotted.replace(opened, "").replace(closed, "") != text:
            return prompt
        return Prompt(prompt.text, prompt.cuts, spans)

    def _with_tools(
        self, entry: dict[str, Any], message: Message, messages: Sequence[Message], place: Places, marked: Marked
    ) -> dict[str, Any]:
        if message.role == "tool":
            return with_call_answered(entry, message.call, messages, place, self.form, marked)
        return with_calls(entry, message.calls, place, self.form, marked) if message.calls else entry


def _for_template(message: Message, text: str, reasoning: str, *, parts: bool) -> dict[str, Any]:
    """A message as templates know it; thoughts under the two names that are in use, in transformers' order.

    Pictures make its content a list of `parts`: they come before the text that asks about them.
    """
    entry: dict[str, Any] = {"role": message.role, "content": text}
    if parts or message.images:
        entry["content"] = [*({"type": "image"} for _ in message.images), {"type": "text", "text": text}]
    return {"thinking": reasoning, **entry, "reasoning_content": reasoning} if reasoning else entry


def _markers(text: str) -> tuple[str, str, str]:
    """Three noncharacters (Unicode 23.7: never assigned, never in proper text) that do not occur in `text`."""
    used = set(text)
    free = [c for c in _NONCHARACTERS if c not in used and _escaped(c) not in text]
    if len(free) < 3:  # only an attack uses up thirty noncharacters; planes 15 and 16 hold 130,000 more
        free = [c for c in map(chr, range(0xF0000, 0x10FFFE)) if c not in used and _escaped(c) not in text]
    return free[0], free[1], free[2]


def _escaped(marker: str) -> str:
    """What becomes of a marker in a template that writes JSON in ASCII."""
    return json.dumps(marker)[1:-1]


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


def _around(content: Any, opened: str, closed: str) -> Any:
    """The content with markers inside its text's outer white space, which templates like to trim."""
    if isinstance(content, list):
        return [{**part, "text": _around(part["text"], opened, closed)} if "text" in part else part for part in content]
    text: str = content
    core = text.strip()
    if not core:
        return text
    start = text.index(core)
    return text[:start] + opened + core + closed + text[start + len(core) :]


def _without(text: str, marker: str) -> tuple[str, list[int]]:
    parts = re.split(f"{marker}|{re.escape(_escaped(marker))}", text)
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
