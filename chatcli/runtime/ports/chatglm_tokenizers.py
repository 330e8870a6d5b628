"""ChatGLM's tokenizers for `transformers.AutoTokenizer`, under the names that tokenizer_config.json says.

What text becomes which ids is told in `chatcli.models`; these classes add what transformers' users expect: batches,
padding on the left, the special tokens around a text, and ChatGLM3's `build_chat_input`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers.processors import TemplateProcessing
from transformers import BatchEncoding, PreTrainedTokenizerFast

from chatcli.models import chatglm
from chatcli.runtime.ports.published_tokenizer import PublishedTokenizer


class ChatGLMTokenizer(PublishedTokenizer):
    """The SentencePiece tokenizers of ChatGLM-6B, ChatGLM2-6B and ChatGLM3-6B, told apart by the folder's files.

    Special-looking text of a person stays text. `encode_special_tokens` lets the four roles of ChatGLM3 through.
    """

    vocab_files_names = {"vocab_file": "tokenizer.model", "ice_file": "ice_text.model"}  # noqa: RUF012
    padding_side = "left"

    def __init__(
        self,
        vocab_file: str | None = None,
        ice_file: str | None = None,
        encode_special_tokens: bool = False,
        **kwargs: Any,
    ) -> None:
        path = Path(vocab_file or ice_file or "")
        config = _config(path.parent)
        if not vocab_file:  # a tokenizer alone is told by its file
            config.pop("padded_vocab_size", None)
        self.variant = chatglm.variant(config, path.parent)
        self._pieces = chatglm.pieces(self.variant, path.parent, headers=False)
        self._roles = self._pieces.roles if encode_special_tokens else frozenset()
        first = self.variant == "chatglm"
        names = ("<sop>", "<eop>", "<pad>") if first else ("<s>", "</s>", "<unk>")
        for key, token in zip(("bos_token", "eos_token", "pad_token"), names, strict=True):
            kwargs[key] = token
        kwargs |= {"unk_token": "<unk>", "clean_up_tokenization_spaces": first, "padding_side": "left"}
        for key in ("added_tokens_decoder", "additional_special_tokens", "mask_token"):
            kwargs.pop(key, None)
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]

    def tokenize(self, text: str, pair: str | None = None, add_special_tokens: bool = False, **_: Any) -> list[str]:
        """The text's tokens, without those around it."""
        return list((self._pieces.encode(text) if self._roles else self._pieces.encode_text(text)).tokens)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """[gMASK] and <sop>: behind the text in ChatGLM-6B, in front of it in its successors."""
        first = self.variant == "chatglm"
        marks = [self._convert_token_to_id(token) for token in ("[gMASK]", "<sop>" if first else "sop")]
        ids = [*token_ids_0, *marks] if first else [*marks, *token_ids_0]
        return ids if token_ids_1 is None else [*ids, *token_ids_1, self.eos_token_id]

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Two, and one more behind a second text."""
        return 3 if pair else 2

    def build_chat_input(
        self, query: str, history: Sequence[Mapping[str, Any]] = (), role: str = "user"
    ) -> BatchEncoding:
        """ChatGLM3's prompt for a `query` after `history`, entries with role, content, metadata and tools."""
        ids = self.build_inputs_with_special_tokens([])
        for entry in [*history, {"role": role, "content": query}]:
            content = str(entry["content"])
            if entry["role"] == "system" and "tools" in entry:
                content += "\n" + json.dumps(entry["tools"], indent=4, ensure_ascii=False)
            ids.append(self._convert_token_to_id(f"<|{entry['role']}|>"))
            for part in (f"{entry.get('metadata', '')}\n", content):
                ids += self._pieces.encode_text(part).ids
        ids.append(self._convert_token_to_id("<|assistant|>"))
        return self.pad({"input_ids": [ids]}, return_tensors="pt")


class ChatGLM4Tokenizer(PreTrainedTokenizerFast):
    """GLM-4's tiktoken vocabulary, with [gMASK] and <sop> in front of every text."""

    vocab_files_names = {"vocab_file": "tokenizer.model"}  # noqa: RUF012
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012

    def __init__(self, vocab_file: str | None = None, **kwargs: Any) -> None:
        folder = Path(vocab_file or "").parent
        if kwargs.get("tokenizer_object") is None:
            built = chatglm.glm4(folder)
            marks = [(text, built.token_to_id(text)) for text in ("[gMASK]", "<sop>")]
            built.post_processor = TemplateProcessing(
                single="[gMASK] <sop> $A",
                pair="[gMASK] <sop> $A $B:1 <|endoftext|>:1",
                special_tokens=[*marks, ("<|endoftext|>", built.token_to_id("<|endoftext|>"))],
            )
            kwargs["tokenizer_object"] = built
        kwargs |= {"padding_side": "left", "clean_up_tokenization_spaces": False}
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]

    @classmethod
    def convert_to_native_format(cls, trust_remote_code: bool = False, **kwargs: Any) -> dict[str, Any]:
        """Nothing: transformers would read the file again, with a package that is not needed here."""
        return kwargs


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"padded_vocab_size": 0}
    return found if isinstance(found, dict) else {}
