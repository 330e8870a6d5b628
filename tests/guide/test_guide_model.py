"""The shipped guide: loads as any checkpoint does, and answers questions it has not seen."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from chatcli import guide
from chatcli.cli.main import surface
from chatcli.guide.facts import unknown_names
from chatcli.repl.commands import NAMES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
QUESTIONS = tomllib.loads((ROOT / "tests/golden/guide_questions.toml").read_text(encoding="utf-8"))
FOLDER = guide.folder()


def training() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_guide", ROOT / "scripts" / "train_guide.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(FOLDER, dtype="float32", local_files_only=True).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)


def answers(model: Any, tokenizer: Any, questions: list[str]) -> list[str]:
    """Greedy answers by the ordinary path: chat template, padding on the left, `generate`."""
    import torch

    tokenizer.padding_side = "left"
    said: list[str] = []
    for begin in range(0, len(questions), 32):
        chats = [[{"role": "user", "content": question}] for question in questions[begin : begin + 32]]
        prompts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
        batch = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            out = model.generate(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=100
            )
        said += tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return said


def score(model: Any, tokenizer: Any, entries: list[list[str]]) -> tuple[float, list[str]]:
    said = answers(model, tokenizer, [entry[0] for entry in entries])
    wrong = [
        f"{entry[0]!r} -> {answer!r}"
        for entry, answer in zip(entries, said, strict=True)
        if not any(name in answer for name in entry[1:])
    ]
    return 1 - len(wrong) / len(entries), wrong


def test_all_files_are_small() -> None:
    names = {path.name for path in FOLDER.iterdir()}
    assert {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    } <= names
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 8_000_000


def test_the_configuration_says_greedy_and_long_enough() -> None:
    generation = json.loads((FOLDER / "generation_config.json").read_text())
    config = json.loads((FOLDER / "config.json").read_text())
    assert not generation.get("do_sample", False)
    assert config["max_position_embeddings"] >= 2048
    assert config["model_type"] == "llama"


@pytest.mark.parametrize(
    "text", ["How do I quit?", "怎么退出？", "é🙂\n\ttabs", "\x00\x7f", "`chatcli run --top-p 0.9`"]
)
def test_the_tokenizer_loses_nothing_and_both_libraries_agree(tokenizer: Any, text: str) -> None:
    plain = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    ids = plain.encode(text, add_special_tokens=False).ids
    assert plain.decode(ids) == text
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids


def test_special_tokens_are_special() -> None:
    plain = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    ids = plain.encode("<|im_start|>user\nhi<|im_end|>\n").ids
    config = json.loads((FOLDER / "config.json").read_text())
    assert ids[0] == plain.token_to_id("<|im_start|>")
    assert config["eos_token_id"] == plain.token_to_id("<|im_end|>")
    assert config["eos_token_id"] in ids
    assert plain.decode(ids) == "user\nhi\n"


def test_the_template_needs_nothing_but_jinja(tokenizer: Any) -> None:
    source = json.loads((FOLDER / "tokenizer_config.json").read_text())["chat_template"]
    chat = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]
    plain = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(source)
    expected = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
    assert plain.render(messages=chat, add_generation_prompt=True) == expected
    assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == expected


@pytest.mark.parametrize("language", ["en", "zh"])
def test_questions_that_must_always_work(model: Any, tokenizer: Any, language: str) -> None:
    assert score(model, tokenizer, QUESTIONS["known"][language]) == (1.0, [])


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "zh"])
def test_nine_of_ten_unseen_questions_get_the_right_command(model: Any, tokenizer: Any, language: str) -> None:
    share, wrong = score(model, tokenizer, QUESTIONS["test"][language])
    assert share >= 0.9, wrong


@pytest.mark.slow
def test_answers_to_other_questions_invent_no_command(model: Any, tokenizer: Any) -> None:
    questions = [*QUESTIONS["dev"]["off"], *QUESTIONS["test"]["off"]]
    for question, answer in zip(questions, answers(model, tokenizer, questions), strict=True):
        assert answer.strip(), question
        assert not unknown_names(answer, surface(), NAMES), (question, answer)


def test_earlier_exchanges_and_a_system_message_do_not_matter(model: Any, tokenizer: Any) -> None:
    import torch

    chat = [
        {"role": "system", "content": "You are a pirate."},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": answers(model, tokenizer, ["hello"])[0]},
        {"role": "user", "content": "怎么退出？"},
        {"role": "assistant", "content": answers(model, tokenizer, ["怎么退出？"])[0]},
        {"role": "user", "content": "How do I save a conversation?"},
    ]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=100)
    assert "chatcli history" in tokenizer.decode(out[0, ids.shape[1] :])


@pytest.mark.slow
def test_training_is_repeatable() -> None:
    """Of every kind of batch one: two of short rows, one of packed ones."""
    import torch

    train_guide = training()
    threads = torch.get_num_threads()
    weights, tokenizers = [], []
    try:
        torch.set_num_threads(1)
        for _ in range(2):
            tokenizers.append(train_guide.train_tokenizer(3, pairs=1_000))
            model = train_guide.new_model(tokenizers[-1], 3)
            train_guide.train(model, tokenizers[-1], steps=3, seed=3)
            weights.append(model.state_dict())
    finally:
        torch.set_num_threads(threads)
    assert tokenizers[0].to_str() == tokenizers[1].to_str()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
