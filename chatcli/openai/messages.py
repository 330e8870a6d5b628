"""The messages of a chat request as a conversation.

A conversation here has one system message, first; so all that a client says as "system" or "developer" is joined
there, and what one side says in several messages is one. It knows pictures as bytes and fetches none.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from chatcli.conversation import Attachment, Conversation, Message, Role, ToolCall
from chatcli.errors import UsageError
from chatcli.images import MOST_PIXELS, image_of, pixels, unseen
from chatcli.openai.fields import Fields, is_too_deep

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_BETWEEN = "\n\n"
"""What stands between texts that come as several."""


_DECODING = threading.Semaphore(2)
"""Pictures at a time: a small file may unfold to most of a gigabyte, and there are as many requests as clients like."""


class _Pictures:
    """Reads the pictures of one request, which together may have as many pixels as a single one.

    For a model that is shown none, `looks` is false: they are not decoded, and its engine says what becomes of them.
    """

    def __init__(self, *, looks: bool) -> None:
        self._looks = looks
        self._room = MOST_PIXELS

    def read(self, data: bytes, name: str) -> Attachment:
        """The picture that `data` are.

        Raises:
            UsageError: they are none, or too many pixels.
        """
        if not self._looks:
            return unseen(data, name)
        self._room -= pixels(data, name)
        if self._room < 0:
            raise UsageError(f"the pictures of a request may have {MOST_PIXELS // 1_000_000} million pixels together.")
        with _DECODING:
            return image_of(data, name)


def conversation(request: Fields, *, sees: bool = True) -> Conversation:
    """What was said so far, to a model that `sees` pictures or does not.

    Raises:
        ApiError: a message is none, or answers a call that nobody made.
    """
    request.required("messages")
    pictures = _Pictures(looks=sees)
    messages = [_message(each, pictures) for each in request.objects("messages")]
    system = _BETWEEN.join(each.text for each in messages if each.role == "system" and each.text)
    spoken = [each for each in messages if each.role != "system"]
    if not spoken:
        raise request.wrong("messages", "must hold at least one message of a user")
    _require_known_calls(request, messages)
    return Conversation(tuple(_joined(spoken))).with_system(system)


def _message(fields: Fields, pictures: _Pictures) -> Message:
    fields.required("role")
    role = _ROLES[fields.word("role", *_ROLES) or "user"]
    calls = tuple(_call(each) for each in fields.objects("tool_calls")) if role == "assistant" else ()
    if not calls:
        fields.required("content")
    if role == "tool":
        fields.required("tool_call_id")
    text, images = _content(fields, pictures)
    if images and role != "user":
        raise fields.wrong("content", "may hold pictures only in a message of the user")
    reasoning = fields.text("reasoning_content") or fields.text("reasoning") or "" if role == "assistant" else ""
    call = fields.text("tool_call_id") or "" if role == "tool" else ""
    return Message(role, text, reasoning, images, calls, call)


def _content(fields: Fields, pictures: _Pictures) -> tuple[str, tuple[Attachment, ...]]:
    """The text of a message and its pictures."""
    value = fields.get("content")
    if value is None or isinstance(value, str):
        return value or "", ()
    if not isinstance(value, list):
        raise fields.wrong("content", "must be a string or a list of parts")
    texts: list[str] = []
    images: list[Attachment] = []
    for part in fields.objects("content"):
        match part.text("type"):
            case "text" | "refusal" as kind:
                part.required(kind)
                texts.append(part.text(kind) or "")
            case "image_url":
                images.append(_image(part, pictures, len(images) + 1))
            case kind:
                raise part.wrong("type", f"must be text or image_url, and is {kind}")
    return _BETWEEN.join(texts), tuple(images)


def _image(part: Fields, pictures: _Pictures, number: int) -> Attachment:
    """The picture of a `data:` address."""
    part.required("image_url")
    address = part.inner("image_url") or part
    address.required("url")
    head, comma, data = (address.text("url") or "").partition(",")
    if not (head.startswith("data:") and comma):
        raise address.wrong("url", "must be a data: address with the picture in it; this server fetches none")
    if not head.endswith(";base64"):
        raise address.wrong("url", "must hold the picture in base64")
    try:
        return pictures.read(base64.b64decode(data, validate=True), f"picture {number}")
    except binascii.Error as error:
        raise address.wrong("url", "must hold the picture in base64") from error
    except UsageError as error:
        raise address.wrong("url", f"cannot be shown: {str(error).rstrip('.')}") from error


def _call(fields: Fields) -> ToolCall:
    """A call that the model asked for earlier."""
    fields.required("id")
    fields.required("function")
    function = fields.inner("function") or fields
    function.required("name")
    arguments = function.text("arguments") or "{}"
    if not _is_object(arguments):
        raise function.wrong("arguments", "must be the text of a JSON object")
    return ToolCall(fields.text("id") or "", function.text("name") or "", arguments)


def _is_object(text: str) -> bool:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and not is_too_deep(value)


def _require_known_calls(request: Fields, messages: Sequence[Message]) -> None:
    made: set[str] = set()
    for index, message in enumerate(messages):
        made.update(call.id for call in message.calls)
        if message.role == "tool" and message.call not in made:
            raise request.wrong(
                f"messages[{index}].tool_call_id", "must be the id of a call made in an earlier message"
            )


def _joined(messages: Sequence[Message]) -> list[Message]:
    """What one side says in a row as one message; what tools say stays apart, for each answers a call of its own."""
    joined: list[Message] = []
    for role, group in groupby(messages, lambda each: each.role):
        said = list(group)
        joined += said if role == "tool" else [_one(said)]
    return joined


def _one(said: Sequence[Message]) -> Message:
    return replace(
        said[0],
        text=_BETWEEN.join(each.text for each in said if each.text),
        reasoning=_BETWEEN.join(each.reasoning for each in said if each.reasoning),
        attachments=tuple(image for each in said for image in each.attachments),
        calls=tuple(call for each in said for call in each.calls),
    )
