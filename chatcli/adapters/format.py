"""How one checkpoint is talked to: its row, templates and tokenizer brought together.

The whole way from a conversation to token ids, and what tells that a reply has ended. It loads no
weights and no torch, so that `chatcli tokens` can count what a model would read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chatcli.adapters.encode import Spoken, encode, encode_text
from chatcli.adapters.pictures import Pictures, shown
from chatcli.adapters.prompt import Templates, begun, build, choose_templates, loses_system
from chatcli.adapters.row import Adapter
from chatcli.adapters.table import Match, Table
from chatcli.adapters.thinking import thinking, unheard
from chatcli.adapters.tool_choice import calls
from chatcli.adapters.tool_prompt import as_objects, offered, places, tool_format
from chatcli.adapters.tool_words import told_in_words
from chatcli.conversation import Conversation
from chatcli.errors import BrokenCheckpoint
from chatcli.generation import GenerationSettings, Layer
from chatcli.models.checkpoint import Checkpoint, require_chat_model
from chatcli.models.generation_config import declared_ends, declared_sampling
from chatcli.models.pieces import PieceTokenizer
from chatcli.models.tokenizer import Tokenizer
from chatcli.models.vocabulary import SpecialTokens, special_tokens
from chatcli.streaming.tool_formats import ToolFormat


@dataclass(frozen=True)
class ChatFormat:
    """A checkpoint's chat format.

    `match` is its row, if one fits. `end` are the ids that end a reply, `stop` the texts; `tags` open and
    close a reasoning part, and `kept` are their ids, shown though a tokenizer may call them special.
    `layers` is what the checkpoint's files and the row say of sampling, the nearest first. `before` and `behind`
    are ids around what a template writes; with `rereads`, replies are encoded as text again.
    """

    match: Match | None
    templates: Templates
    tokenizer: Tokenizer
    control: frozenset[str]
    variables: dict[str, str]
    end: frozenset[int]
    stop: tuple[str, ...]
    tags: tuple[str, ...]
    kept: frozenset[int]
    layers: tuple[Layer, ...]
    before: tuple[int, ...] = ()
    behind: tuple[int, ...] = ()
    rereads: bool = False
    cleanup: str = ""

    @property
    def row(self) -> str:
        """The name of the row that applies, or "own"."""
        return self.match.adapter.name if self.match else "own"

    @property
    def tools(self) -> ToolFormat:
        """How calls of tools are written."""
        return tool_format(self.templates.select(tools=True), self.match.adapter.tools if self.match else "")

    @property
    def _system(self) -> str:
        return (self.match.adapter.system or "") if self.match else ""

    @property
    def defaults(self) -> GenerationSettings:
        """The layers as one."""
        settings = GenerationSettings()
        for layer in self.layers:
            settings = settings.over(layer.settings)
        return settings

    def encode(
        self,
        conversation: Conversation,
        spoken: Sequence[Spoken] = (),
        settings: GenerationSettings | None = None,
        *,
        documents: Sequence[object] | None = None,
        pictures: Pictures | None = None,
    ) -> list[int]:
        """The prompt's ids; the ids of replies that the model itself `spoken` are used as they were made.

        Tools are told where the template has a place for them, else in the system message. A last message of the
        assistant's is left open, for the model to go on with. `pictures` says what stands for a picture in the text.
        """
        reply = conversation.unfinished
        if reply:
            conversation = conversation.without_last_message()
        tools = offered(conversation)
        template = self.templates.select(tools=bool(tools), documents=bool(documents))
        form = None
        if tools or any(message.calls or message.role == "tool" for message in conversation.messages):
            form = self.tools
            conversation = told_in_words(conversation, template, form, self._system)
        given: dict[str, Any] = {**self.variables, **thinking(template, settings or GenerationSettings())}
        control = self.control | {pictures.placeholder} if pictures else self.control
        prompt = build(
            template, conversation, control=control, tools=as_objects(tools), documents=documents, form=form, **given
        )
        if pictures and conversation.images:
            prompt = shown(prompt, pictures, conversation.images)
        if self.rereads:
            spoken = ()
        if reply and not self.behind:
            prompt = begun(prompt, reply, self.tags, control)
        ids = [*self.before, *encode(self.tokenizer, prompt, spoken, control), *self.behind]
        if reply and self.behind:
            ids += encode_text(self.tokenizer, reply.text)
        return ids

    def held_to_calls(self, conversation: Conversation, settings: GenerationSettings) -> GenerationSettings:
        """The settings, with the constraint that makes the answer a call where the conversation wants one.

        Where it may be a call and the settings have a schema, it is one or the other.

        Raises:
            UsageError: the tool that is wanted is not there, or its parameters cannot be followed.
        """
        tools, choice = offered(conversation), conversation.tool_choice
        schema = settings.constraint.text if settings.constraint and settings.constraint.kind == "schema" else ""
        if not tools or (choice == "auto" and not schema):
            return settings
        wanted = [tool for tool in tools if choice in ("auto", "required", tool.name)]
        special, one = specials(self.tokenizer), choice not in ("auto", "required")
        made = calls(self.tools, wanted, special, one=one, schema=schema if choice == "auto" else "")
        return replace(settings, constraint=made)

    def notes(self, conversation: Conversation, settings: GenerationSettings) -> Iterator[str]:
        """A sentence for each thing that a person asked for and that the template has no place for."""
        template = self.templates.select(tools=bool(conversation.tools))
        if note := unheard(template, settings):
            yield note
        if loses_system(template, conversation.system, **self.variables):
            yield "This model's chat template has no place for a system message: it is left out."
        if offered(conversation) and not places(template).tools:
            yield "This model's chat template has no place for tools: they are described in the system message."

    def begins_inside_reasoning(self, ids: Sequence[int]) -> bool:
        """Whether the prompt itself has opened the reasoning, as some families' templates do."""
        tail = self.tokenizer.decode(list(ids[-16:]), skip_special_tokens=False)
        return tail.rstrip().endswith(self.tags[0])


def require_chat_format(checkpoint: Checkpoint, table: Table) -> None:
    """Refuse what cannot chat by its small files, before gigabytes of weights are fetched.

    Raises:
        NotAChatModel: an encoder, a translator, or a base model without a chat format.
    """
    require_chat_model(checkpoint)
    choose_templates(checkpoint, table.match(checkpoint.known_as, checkpoint.family))


def chat_format(checkpoint: Checkpoint, tokenizer: Tokenizer, table: Table) -> ChatFormat:
    """How to talk to `checkpoint`, as the row of `table` that fits it and its own files say.

    Raises:
        NotAChatModel: it has no chat format, and no row knows one.
        BrokenCheckpoint: its tokenizer files are damaged.
    """
    found = table.match(checkpoint.known_as, checkpoint.family)
    templates = choose_templates(checkpoint, found)
    row = found.adapter if found else Adapter("own")
    tokens = special_tokens(checkpoint)
    ends = (*row.stop_tokens, tokens.named.get("eos_token", ""))
    special = specials(tokenizer)
    return ChatFormat(
        match=found,
        templates=templates,
        tokenizer=tokenizer,
        control=_control(tokenizer, tokens, "".join((*templates.named.values(), *row.stop_tokens, *row.reasoning))),
        variables=dict(tokens.named),
        end=_ids(tokenizer, ends) | declared_ends(checkpoint, special.values()),
        stop=row.stop,
        tags=row.reasoning,
        kept=frozenset(number for text, number in special.items() if any(text in tag for tag in row.reasoning)),
        layers=layers(checkpoint, found),
        before=_each_id(tokenizer, row.before),
        behind=_each_id(tokenizer, row.behind),
        rereads=row.rereads,
        cleanup=row.cleanup,
    )


def layers(checkpoint: Checkpoint, match: Match | None) -> tuple[Layer, ...]:
    """What the checkpoint's files and its row say of sampling, the nearest first."""
    own = Layer("generation_config.json", declared_sampling(checkpoint))
    return (own, Layer(f"the row {match.adapter.name}", match.adapter.defaults)) if match else (own,)


def specials(tokenizer: Tokenizer) -> dict[str, int]:
    """The special tokens, which are left out where ids are decoded, with their ids."""
    return {token.content: number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}


def _control(tokenizer: Tokenizer, tokens: SpecialTokens, written: str) -> frozenset[str]:
    """What a person must not be able to type; tokenizers of our own recognise only what templates write.

    `written` is all that the templates and the row say. A tokenizer that was converted may have special tokens of
    which the checkpoint's files say nothing.
    """
    if isinstance(tokenizer, PieceTokenizer):
        return tokenizer.control
    return tokens.control(written) | specials(tokenizer).keys()


def _each_id(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[int, ...]:
    ids = [(text, tokenizer.token_to_id(text)) for text in texts]
    if missing := [text for text, each in ids if each is None]:
        raise BrokenCheckpoint(f"The tokenizer lacks {missing[0]}, which begins or ends every prompt of its family.")
    return tuple(each for _, each in ids if each is not None)


def _ids(tokenizer: Tokenizer, texts: Sequence[str]) -> frozenset[int]:
    """The ids of those `texts` that are one token each."""
    return frozenset(found for text in texts if text and (found := tokenizer.token_to_id(text)) is not None)
