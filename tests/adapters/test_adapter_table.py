import json
from pathlib import Path

import pytest

from chatcli.adapters.table import shipped, ties
from chatcli.errors import UsageError

TABLE = shipped()
GOLDEN = Path(__file__).parent.parent / "golden"
NAMES = [entry["model"] for entry in json.loads((GOLDEN / "model_names.json").read_text())]

# What the names in the golden list are, of the families that have a row.
EXPECTED = {
    "lmsys/vicuna-13b-v1.3": "vicuna",
    "WizardLM/WizardLM-13B-V1.0": "vicuna",
    "TheBloke/vicuna-13B-v1.5-GGUF": "vicuna",
    "vicuna-7b-v1.5/": "vicuna",
    "THUDM/chatglm-6b": "chatglm",
    "THUDM/chatglm-6b-int4": "chatglm",
    "mistralai/Mistral-7B-Instruct-v0.2": "mistral",
    "mistralai/Mistral-7B-Instruct-v0.3": "mistral",
    "mistralai/Mixtral-8x7B-Instruct-v0.1": "mistral",
    "mistralai/Ministral-8B-Instruct-2410": "mistral",
    "Qwen/Qwen1.5-7B-Chat": "qwen",
    "Qwen/Qwen2.5-0.5B-Instruct": "qwen",
    "Qwen/Qwen2.5-Coder-7B-Instruct": "qwen",
    "Qwen/Qwen3-0.6B": "qwen",
    "Qwen/QwQ-32B": "qwen",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": "qwen",
    "argilla/notus-7b-v1": "zephyr",
    "/data/vicuna-zoo/Phi-3-mini-4k-instruct": "phi-3",
}


@pytest.mark.parametrize("name", NAMES)
def test_every_known_name_finds_its_row_or_none(name: str) -> None:
    found = TABLE.match(name)
    assert (found.adapter.name if found else None) == EXPECTED.get(name)


def test_the_expected_names_are_all_in_the_list() -> None:
    assert set(EXPECTED) <= set(NAMES)


def test_no_two_rows_can_fit_a_name_equally_well() -> None:
    assert ties(TABLE.rows) == []


@pytest.mark.parametrize(("name", "row"), [(e, row.name) for row in TABLE.rows for e in row.examples])
def test_a_rows_own_examples_find_it(name: str, row: str) -> None:
    found = TABLE.match(name)
    assert found is not None
    assert found.adapter.name == row


@pytest.mark.parametrize(
    ("name", "model_type", "row", "by"),
    [
        ("someone/my-finetune", "phi3", "phi-3", "model_type"),
        ("someone/my-finetune", "llama", None, None),  # shared by several rows, and the name says nothing
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama", "llama-3", "name"),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "llama", "zephyr", "name"),
        ("HuggingFaceH4/zephyr-7b-beta", "mistral", "zephyr", "name"),
        ("lmsys/vicuna-7b-v1.5", "llama", "vicuna", "name"),
        ("gemma-looking-vicuna-v1.5", "qwen2", "qwen", "model_type"),  # config.json knows better than the name
        ("someone/phi-3-mini-instruct-chatml", "brand_new", "phi-3", "name"),
        ("NousResearch/Hermes-3-Llama-3.1-8B", "llama", None, None),
        ("meta-llama/Meta-Llama-3-8B", "llama", None, None),  # a base model
    ],
)
def test_model_type_narrows_before_the_name_decides(
    name: str, model_type: str, row: str | None, by: str | None
) -> None:
    found = TABLE.match(name, model_type)
    assert (found.adapter.name if found else None) == row
    assert (found.by if found else None) == by


def test_the_flag_beats_everything() -> None:
    found = TABLE.match("Qwen/Qwen3-0.6B", "qwen3", flag="Vicuna")
    assert found is not None
    assert found.adapter.name == "vicuna"


def test_an_unknown_flag_names_the_nearest_row() -> None:
    with pytest.raises(UsageError, match="did you mean vicuna"):
        TABLE.match("x", flag="vicunna")
    with pytest.raises(UsageError, match="chatcli adapters lists them"):
        TABLE.match("x", flag="zzzzzz")


@pytest.mark.parametrize("row", TABLE.rows, ids=lambda row: row.name)
def test_every_row_is_whole(row) -> None:
    assert row.template_text.strip(), "its template exists and says something"
    assert row.match
    assert len(row.reasoning) == 2
    assert all(pattern == pattern.lower() for pattern in row.match)
