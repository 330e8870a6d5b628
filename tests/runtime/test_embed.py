"""Vectors of texts: what they are, and that company changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatcli.adapters.table import shipped
from chatcli.engines.local import LocalEngine, open_local
from chatcli.errors import ContextOverflow
from chatcli.models.checkpoint import open_checkpoint

TEXTS = ["Hello there", "你好，请介绍一下北京。", "def f(x):\n    return x + 1\n" * 8, "fox"]


def opened(folder: Path) -> LocalEngine:
    return open_local(open_checkpoint(folder, "tiny"), shipped(), lambda _: None)


@pytest.fixture(scope="module")
def engine(tiny_llama: Path) -> LocalEngine:
    return opened(tiny_llama)


def test_a_vector_is_the_normalised_mean_of_the_last_hidden_states(engine: LocalEngine, tiny_llama: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    with torch.inference_mode():
        out = model(torch.tensor([engine.tokenize(TEXTS[0])]), output_hidden_states=True)
    mean = out.hidden_states[-1][0].mean(0)
    assert engine.embed(TEXTS[:1])[0] == pytest.approx((mean / mean.norm()).tolist(), abs=1e-5)


def test_a_text_has_the_same_vector_in_any_company(engine: LocalEngine) -> None:
    together = engine.embed(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        assert vector == pytest.approx(engine.embed([text])[0], abs=1e-5)
        assert sum(each * each for each in vector) == pytest.approx(1, abs=1e-5)
    assert together[0] != pytest.approx(together[1], abs=0.01)


def test_many_texts_are_read_in_several_passes(engine: LocalEngine) -> None:
    many = [TEXTS[number % 4] * (1 + number % 3) for number in range(150)]
    vectors = engine.embed(many)
    assert vectors[149] == pytest.approx(engine.embed([many[149]])[0], abs=1e-5)
    assert vectors[0] == pytest.approx(engine.embed([many[0]])[0], abs=1e-5)


def test_a_text_longer_than_the_context_is_refused(engine: LocalEngine) -> None:
    with pytest.raises(ContextOverflow, match="512") as refused:
        engine.embed(["Hello there " * 300])
    assert refused.value.tokens > 512


def test_ids_and_text_and_back(engine: LocalEngine) -> None:
    assert engine.detokenize(engine.tokenize("<|im_start|>Hello")) == "<|im_start|>Hello"
