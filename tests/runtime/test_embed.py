"""Vectors of texts: what they are, and that company changes nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_tokenizer import write_tokenizer

from chatcli.adapters.table import shipped
from chatcli.conversation import Conversation, Message
from chatcli.engines.concurrent import ConcurrentEngine
from chatcli.engines.embedding import EmbeddingEngine
from chatcli.engines.local import LocalEngine, open_local
from chatcli.engines.served import open_served
from chatcli.errors import ContextOverflow, ModelError, UsageError
from chatcli.generation import Embedded, Finished, GenerationSettings, Progress, Text
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.gguf_file import GgufFile
from chatcli.models.pooling import longest, pooling

TEXTS = ["Hello there", "你好，请介绍一下北京。", "def f(x):\n    return x + 1\n" * 8, "fox"]


def opened(folder: Path) -> LocalEngine:
    return open_local(open_checkpoint(folder, "tiny"), shipped(), lambda _: None)


def vectors_of(engine: LocalEngine | EmbeddingEngine, texts: Sequence[str]) -> tuple[tuple[float, ...], ...]:
    *_, made, finished = engine.embed(texts)
    assert isinstance(made, Embedded) and isinstance(finished, Finished)
    assert finished.prompt_tokens == sum(len(engine.tokenize(text)) for text in texts)
    return made.vectors


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
    assert vectors_of(engine, TEXTS[:1])[0] == pytest.approx((mean / mean.norm()).tolist(), abs=1e-5)


def test_a_text_has_the_same_vector_in_any_company(engine: LocalEngine) -> None:
    together = vectors_of(engine, TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        assert vector == pytest.approx(vectors_of(engine, [text])[0], abs=1e-5)
        assert sum(each * each for each in vector) == pytest.approx(1, abs=1e-5)
    assert together[0] != pytest.approx(together[1], abs=0.01)


def test_many_texts_are_read_in_several_passes(engine: LocalEngine) -> None:
    many = [TEXTS[number % 4] * (1 + number % 3) for number in range(150)]
    vectors = vectors_of(engine, many)
    assert vectors[149] == pytest.approx(vectors_of(engine, [many[149]])[0], abs=1e-5)
    assert vectors[0] == pytest.approx(vectors_of(engine, [many[0]])[0], abs=1e-5)


def test_passes_are_as_long_as_answers_can_wait() -> None:
    """A room that grew whenever the last pass was quick enough was twice too large every second time."""
    from chatcli.runtime.embed import LEAST, MOST, PASS_SECONDS, _next_room

    assert [_next_room(512, share * PASS_SECONDS) for share in (0.4, 0.9, 1.8)] == [1024, 512, 256]
    assert (_next_room(MOST, 0.0), _next_room(LEAST, 9.0)) == (MOST, LEAST)


def test_a_text_longer_than_the_context_is_refused(engine: LocalEngine) -> None:
    with pytest.raises(ContextOverflow, match="512") as refused:
        list(engine.embed(["Hello there " * 300]))
    assert refused.value.tokens > 512


def test_ids_and_text_and_back(engine: LocalEngine) -> None:
    assert engine.detokenize(engine.tokenize("<|im_start|>Hello")) == "<|im_start|>Hello"


BERT: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def sentence_transformer(folder: Path, mode: str, *more: str) -> None:
    """Write beside a model what sentence-transformers does."""
    classes = ("Transformer", "Pooling", *more)
    paths = ("", *(f"{number + 1}_{name}" for number, name in enumerate(classes[1:])))
    listed = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
        for number, (path, name) in enumerate(zip(paths, classes, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    said = {f"pooling_mode_{each}": each == mode for each in modes}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **said}))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder as BGE is one: first token, a tokenizer that would cut texts at eight tokens."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("tiny-bert")
    vocabulary = write_tokenizer(folder, None)
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(vocab_size=vocabulary, max_position_embeddings=128, **BERT)).save_pretrained(folder)
    said = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    said["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(said), encoding="utf-8")
    sentence_transformer(folder, "cls_token", "Normalize")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 100, "do_lower_case": true}')
    return folder


def test_an_encoder_is_served_for_its_vectors(bert: Path) -> None:
    import torch
    from transformers import AutoModel

    served = open_served(open_checkpoint(bert, "tiny-bert"), shipped(), lambda _: None)
    assert isinstance(served, EmbeddingEngine) and served.facts.context == 100
    assert len(served.tokenize(TEXTS[2])) > 8
    vectors = vectors_of(served, TEXTS)
    model = AutoModel.from_pretrained(bert, dtype=torch.float32)
    for text, vector in zip(TEXTS, vectors, strict=True):
        ids = served.tokenize(text)
        with torch.inference_mode():
            first = model(torch.tensor([ids])).last_hidden_state[0, 0]
        assert vector == pytest.approx((first / first.norm()).tolist(), abs=1e-5)
    with pytest.raises(ContextOverflow, match="reads 100"):
        list(served.embed(["fox " * 101]))
    with pytest.raises(UsageError, match="tiny-bert turns texts into vectors"):
        served.stream(Conversation((Message("user", "Hello?"),)), GenerationSettings())
    served.close()


def test_a_decoder_made_for_vectors_gives_its_last_token(make_checkpoint: Callable[..., Path]) -> None:
    """As Qwen3-Embedding: the class of a chat model, tensors without its prefix, no head."""
    import torch
    from tokenizers import Tokenizer, processors
    from transformers import AutoModel, AutoModelForCausalLM

    folder = make_checkpoint("qwen3", head_dim=8)
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).model.save_pretrained(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing("$A <|endoftext|>", "$A $B", [("<|endoftext|>", 0)])
    tokenizer.save(str(folder / "tokenizer.json"))
    sentence_transformer(folder, "lasttoken", "Normalize")
    served = open_served(open_checkpoint(folder, "tiny"), shipped(), lambda _: None)
    assert isinstance(served, EmbeddingEngine) and served.tokenize("fox")[-1] == 0
    vectors = vectors_of(served, TEXTS)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    for text, vector in zip(TEXTS, vectors, strict=True):
        with torch.inference_mode():
            last = model(torch.tensor([served.tokenize(text)])).last_hidden_state[0, -1]
        assert vector == pytest.approx((last / last.norm()).tolist(), abs=1e-5)
    served.close()


@pytest.mark.parametrize(
    ("mode", "way"),
    [
        ("mean_tokens", "mean"),
        ("mean_sqrt_len_tokens", "mean"),
        ("weightedmean_tokens", "weighted mean"),
        ("max_tokens", "max"),
        ("cls_token", "first"),
        ("lasttoken", "last"),
    ],
)
def test_every_way_of_pooling_is_what_its_name_says(mode: str, way: str, tmp_path: Path) -> None:
    import torch

    from chatcli.runtime.embed import _one

    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    sentence_transformer(tmp_path, mode)
    chosen = pooling(open_checkpoint(tmp_path))
    assert chosen == way
    hidden = torch.tensor([[[1.0, 0.0], [3.0, 6.0], [9.0, 9.0]], [[5.0, 1.0], [7.0, 7.0], [2.0, 1.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    wanted = {
        "mean": [[2.0, 3.0], [14 / 3, 3.0]],
        "weighted mean": [[7 / 3, 4.0], [25 / 6, 3.0]],
        "max": [[3.0, 6.0], [7.0, 7.0]],
        "first": [[1.0, 0.0], [5.0, 1.0]],
        "last": [[3.0, 6.0], [2.0, 1.0]],
    }
    assert torch.allclose(_one(hidden, mask, chosen), torch.tensor(wanted[way]))


def test_what_is_made_in_another_way_is_refused(tmp_path: Path) -> None:
    config = {"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    checkpoint = open_checkpoint(tmp_path, "org/vectors")
    file = GgufFile((), {"general.architecture": "qwen3", "qwen3.pooling_type": 3}, {})
    assert pooling(replace(checkpoint, gguf=file)) == "last"
    assert (pooling(checkpoint), longest(checkpoint)) == ("mean", 512)
    sentence_transformer(tmp_path, "mean_tokens", "Dense")
    with pytest.raises(ModelError, match=r"org/vectors has a layer behind its model \(Dense\)"):
        pooling(checkpoint)
    sentence_transformer(tmp_path, "none")
    with pytest.raises(ModelError, match="0 known ways"):
        pooling(checkpoint)
    (tmp_path / "modules.json").write_text("[1]")
    with pytest.raises(ModelError, match="no list of modules"):
        pooling(checkpoint)


def test_who_leaves_ends_the_pass_and_nobody_elses(tiny_llama: Path) -> None:
    served = ConcurrentEngine(opened(tiny_llama))
    begun, go_on = threading.Event(), threading.Event()

    def hold(*_: object) -> None:
        begun.set()
        assert go_on.wait(60)

    layer = served.run(lambda engine: engine.model.module.model.layers[0])
    second = served.run(lambda engine: engine.model.module.model.layers[1])
    reached = []
    hooks = [layer.register_forward_hook(hold), second.register_forward_hook(lambda *_: reached.append(1))]
    events = served.embed(TEXTS)
    assert next(events) == Progress("waiting") and begun.wait(60)
    threading.Timer(0.05, go_on.set).start()
    events.close()
    assert not reached
    for hook in hooks:
        hook.remove()
    answer = list(served.stream(Conversation((Message("user", "Hello?"),)), GenerationSettings(max_new_tokens=4)))
    assert any(isinstance(event, Text) for event in answer)
    served.close()
