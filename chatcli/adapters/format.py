"""How one checkpoint is talked to: its row, template and tokenizer brought together.

The whole way from a conversation to token ids, and what tells that a reply has ended. It loads no
weights and no torch, so that `chatcli tokens` can count what a model would read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chatcli.adapters.encode import Spoken, encode
from chatcli.adapters.prompt import build, choose_template
from chatcli.adapters.row import Adapter
from chatcli.adapters.table import Table
from chatcli.conversation import Conversation
from chatcli.errors import BrokenCheckpoint
from chatcli.generation import GenerationSettings
from chatcli.models.checkpoint import Checkpoint, require_chat_model
from chatcli.models.pieces import PieceTokenizer
from chatcli.models.tokenizer import Tokenizer
from chatcli.models.vocabulary import special_tokens


@dataclass(frozen=True)
class ChatFormat:
    """A checkpoint's chat format.

    `end` are the ids that end a reply, `stop` the texts; `tags` open and close a reasoning part, and
    `kept` are their ids, shown though a tokenizer may call them special. `before` and `behind` are ids around
    the template's text.
    """

    adapter: Adapter
    template: str
    tokenizer: Tokenizer
    control: frozenset[str]
    variables: dict[str, Any]
    end: frozenset[int]
    stop: tuple[str, ...]
    tags: tuple[str, str]
    kept: frozenset[int]
    defaults: GenerationSettings
    before: tuple[int, ...] = ()
    behind: tuple[int, ...] = ()

    def encode(self, conversation: Conversation, spoken: Sequence[Spoken] = ()) -> list[int]:
        """The prompt's ids; the ids of replies that the model itself `spoken` are used as they were made."""
        prompt = build(self.template, conversation, control=self.control, **self.variables)
        ids = encode(self.tokenizer, prompt, () if self.adapter.rereads else spoken, self.control)
        return [*self.before, *ids, *self.behind]

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
    choose_template(checkpoint, table.match(checkpoint.name, checkpoint.family))


def chat_format(checkpoint: Checkpoint, tokenizer: Tokenizer, table: Table) -> ChatFormat:
    """How to talk to `checkpoint`, as the row of `table` that fits it and its own files say.

    Raises:
        NotAChatModel: it has no chat format, and no row knows one.
        BrokenCheckpoint: its tokenizer files are damaged.
    """
    found = table.match(checkpoint.name, checkpoint.family)
    template, _ = choose_template(checkpoint, found)
    adapter = found.adapter if found else Adapter("own")
    tokens = special_tokens(checkpoint)
    tags = (adapter.reasoning[0], adapter.reasoning[1])
    ends = (*adapter.stop_tokens, tokens.named.get("eos_token", ""))
    return ChatFormat(
        adapter=adapter,
        template=template,
        tokenizer=tokenizer,
        control=tokenizer.control if isinstance(tokenizer, PieceTokenizer) else tokens.control(template),
        variables=dict(tokens.named),
        end=_ids(tokenizer, ends) | _declared_ends(checkpoint),
        stop=adapter.stop,
        tags=tags,
        kept=_ids(tokenizer, tags),
        defaults=_sampling(checkpoint).over(adapter.defaults),
        before=_each_id(tokenizer, adapter.before),
        behind=_each_id(tokenizer, adapter.behind),
    )


def _ids(tokenizer: Tokenizer, texts: Sequence[str]) -> frozenset[int]:
    """The ids of those `texts` that are one token each."""
    return frozenset(found for text in texts if text and (found := tokenizer.token_to_id(text)) is not None)


def _each_id(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[int, ...]:
    ids = [(text, tokenizer.token_to_id(text)) for text in texts]
    if missing := [text for text, each in ids if each is None]:
        raise BrokenCheckpoint(f"The tokenizer lacks {missing[0]}, which begins or ends every prompt of its family.")
    return tuple(each for _, each in ids if each is not None)


def _declared_ends(checkpoint: Checkpoint) -> frozenset[int]:
    """`eos_token_id` of generation_config.json, else of config.json: an id or a list of them."""
    declared = checkpoint.generation_config.get("eos_token_id")
    if declared is None:
        declared = checkpoint.config.get("eos_token_id")
    listed = declared if isinstance(declared, list) else [declared]
    return frozenset(each for each in listed if isinstance(each, int))


def _sampling(checkpoint: Checkpoint) -> GenerationSettings:
    """What generation_config.json says of sampling; `do_sample: false` is a temperature of 0.

    A value that makes no sense counts as not said; vLLM's top_k of -1, "off", is one of them.
    """
    said = checkpoint.generation_config

    def number(key: str, low: float, high: float = math.inf) -> float | None:
        value = said.get(key)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            return None
        return float(value) if low <= value <= high else None

    top_k = number("top_k", 0)
    return GenerationSettings(
        temperature=0.0 if said.get("do_sample") is False else number("temperature", 0),
        top_p=number("top_p", 1e-6, 1),
        top_k=None if top_k is None else int(top_k),
        min_p=number("min_p", 0, 1),
        repetition_penalty=number("repetition_penalty", 1e-6),
    )
