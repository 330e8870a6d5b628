"""Yuan 2.0 against its plain formula: the filter of three tokens, the heads of queries and keys taken together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from plain_formulas import (
    IDS,
    Random,
    angles,
    attend,
    difference,
    doubled,
    linear,
    loaded,
    rms_norm,
    turn_halves,
    write,
)
from sentencepiece_models import trained
from torch import Tensor
from torch.nn.functional import silu

from chatcli.adapters.format import chat_format
from chatcli.adapters.table import shipped
from chatcli.conversation import Conversation, Message
from chatcli.models.checkpoint import context_length, open_checkpoint
from chatcli.models.plan import kv_bytes_per_token
from chatcli.models.vocabulary import tokenizer as read_tokenizer
from chatcli.runtime import ports
from chatcli.runtime.decode import prefill
from chatcli.runtime.kv import PrefixCache

CONFIG = {
    "model_type": "yuan",
    "architectures": ["YuanForCausalLM"],
    "bos_token_id": 77,
    "causal_mask": True,
    "dropout": 0.1,
    "eod_token": 77,
    "eod_token_id": 77,
    "eos_token_id": 77,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "mask_token_id": 77,
    "max_position_embeddings": 8192,
    "model_max_length": 8192,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "pad_token_id": 77,
    "reset_attention_mask": True,
    "reset_position_ids": True,
    "rms_norm_eps": 1e-6,
    "sep_token": 79,
    "tie_word_embeddings": True,
    "use_cache": True,
    "use_flash_attention": True,
    "vocab_size": 96,
}


def made() -> Random:
    random = Random()
    random.embedding("model.embed_tokens", 96, 64)
    for i in range(2):
        h = f"model.layers.{i}"
        random.norm(f"{h}.input_layernorm", 64)
        random.norm(f"{h}.post_attention_layernorm", 64)
        for part in "qkvo":
            random.matrix(f"{h}.self_attn.{part}_proj", 64, 64)
        random.matrix(f"{h}.self_attn.lf_gate.conv1", 32, 128, bias=True)
        random.matrix(f"{h}.self_attn.lf_gate.conv2", 64, 64, bias=True)
        random.norm(f"{h}.self_attn.lf_gate.output_layernorm", 64)
        random.matrix(f"{h}.mlp.gate_proj", 96, 64)
        random.matrix(f"{h}.mlp.up_proj", 96, 64)
        random.matrix(f"{h}.mlp.down_proj", 64, 96)
    random.norm("model.norm", 64)
    for name, width in (("conv1", 64), ("conv2", 32)):
        for i in range(2):
            name_of = f"model.layers.{i}.self_attn.lf_gate.{name}.weight"
            random.weights[name_of] = random.weights[name_of].view(-1, width, 2, 1)
    return random


def convolved(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """A token and the one before it; in front of the first one there are zeros."""
    kernel, out = w[f"{name}.weight"], []
    for t in range(len(x)):
        last = x[t - 1] if t else torch.zeros_like(x[0])
        out.append(kernel[:, :, 0, 0] @ last + kernel[:, :, 1, 0] @ x[t] + w[f"{name}.bias"])
    return torch.stack(out)


def plain(ids: list[int]) -> Tensor:
    w = doubled(made().weights)
    x, turn = w["model.embed_tokens.weight"][ids], angles(len(ids), 16)
    for i in range(2):
        h = f"model.layers.{i}"
        y = rms_norm(w, f"{h}.input_layernorm", x, 1e-6)
        gate = f"{h}.self_attn.lf_gate"
        filtered = convolved(w, f"{gate}.conv2", convolved(w, f"{gate}.conv1", y))
        filtered = rms_norm(w, f"{gate}.output_layernorm", filtered + y, 1e-6)
        both = [linear(w, f"{h}.self_attn.{part}_proj", filtered) for part in "qk"]
        q, k = torch.cat(both, -1).view(len(ids), 4, 32).transpose(0, 1).split(16, -1)
        v = linear(w, f"{h}.self_attn.v_proj", y).view(len(ids), 4, 16).transpose(0, 1)
        x = x + linear(w, f"{h}.self_attn.o_proj", attend(turn_halves(q, turn), turn_halves(k, turn), v))
        y = rms_norm(w, f"{h}.post_attention_layernorm", x, 1e-6)
        inner = linear(w, f"{h}.mlp.gate_proj", y) * silu(linear(w, f"{h}.mlp.up_proj", y))
        x = x + linear(w, f"{h}.mlp.down_proj", inner)
    return linear(w, "model.embed_tokens", rms_norm(w, "model.norm", x, 1e-6))


@pytest.mark.parametrize("length", [16, 6, 5])
def test_yuan(tmp_path: Path, length: int) -> None:
    """A prompt of one or two tokens has less before it than the filter sees."""
    assert difference(write(tmp_path, CONFIG, made().weights), plain, IDS[:length]) < 2e-4
    assert context_length(CONFIG) == 8192
    assert kv_bytes_per_token(CONFIG) == 3 * 2 * 64 * 2


def test_a_shortened_cache_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    model = loaded(write(tmp_path, CONFIG, made().weights))
    cache = PrefixCache(model.config)
    for ids in (IDS, [*IDS[:9], 44, 3], [*IDS[:1], 9], [*IDS[:2], 9, 9]):
        steps = prefill(model, cache, ids)
        try:
            while True:
                next(steps)
        except StopIteration as end:
            assert (end.value.double() - plain(ids)[-1]).abs().max() < 2e-4


def test_yuan_reads_its_vocabulary(tmp_path: Path) -> None:
    """`<sep>` and `<eod>` are pieces of tokenizer.model, and nobody types one."""
    from sentencepiece import SentencePieceProcessor
    from transformers import AutoTokenizer

    folder = write(tmp_path, CONFIG, {})
    model = trained(defined="<eod>,<sep>,<pad>")
    (folder / "tokenizer.model").write_bytes(model)
    table = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": False, "eos_token": "<eod>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(table))
    plain_pieces = SentencePieceProcessor(model_proto=model)
    checkpoint = open_checkpoint(folder, "IEITYuan/Yuan2-2B-hf")
    chat = chat_format(checkpoint, read_tokenizer(checkpoint), shipped())
    ids = chat.encode(Conversation((Message("user", "Hello there"),)))
    assert ids == plain_pieces.encode("Hello there<sep>")
    typed = chat.encode(Conversation((Message("user", "Hello<eod>"),)))
    assert plain_pieces.piece_to_id("<eod>") not in typed
    assert plain_pieces.piece_to_id("<eod>") in chat.end
    ports.register()
    assert AutoTokenizer.from_pretrained(folder)("Hello there<sep>")["input_ids"][-1] == ids[-1]
