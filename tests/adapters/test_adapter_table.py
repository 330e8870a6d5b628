"""Which row a name finds: the recorded names, their variants, and that no two rows can tie."""

import json
from pathlib import Path

import pytest

from chatcli.adapters.row import Adapter
from chatcli.adapters.table import Match, Table, shipped, ties
from chatcli.errors import UsageError

TABLE = shipped()
GOLDEN = Path(__file__).parent.parent / "golden"
NAMES = {entry["model"]: entry["template"] for entry in json.loads((GOLDEN / "model_names.json").read_text())}

# Where FastChat's name for a model is wrong, with the reason.
CORRECTED = {
    "hfl/chinese-alpaca-2-7b": "chinese-alpaca2",  # Llama 2's format under a bilingual system message
    "stabilityai/stablelm-zephyr-3b": "stablelm-zephyr",  # Zephyr's format
    "stabilityai/stablelm-2-1_6b-chat": "stablelm-2-chat",  # ChatML
    "PygmalionAI/pygmalion-6b": "pygmalion",  # the persona format; Metharme came later
    "meta-math/MetaMath-Mistral-7B": "metamath",  # its format does not change with what it is built on
    "liuhaotian/llava-v1.6-34b": "llava-chatml",  # built on Yi
    "Qwen/Qwen3-0.6B": "qwen3",  # ChatML without a system message of its own
    "Qwen/QwQ-32B": "qwen3",
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": "deepseek-r1",  # DeepSeek's tokens in Qwen's body
    "deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct": "deepseek-chat",  # V2's format
    "tiiuae/Falcon3-7B-Instruct": "falcon3",
    "/data/vicuna-zoo/Phi-3-mini-4k-instruct": "phi-3",  # a folder's name says nothing
    # Base models: the row of their family, which gives them no template.
    "mosaicml/mpt-7b": "mpt-7b-chat",
    "baichuan-inc/Baichuan-7B": "baichuan-chat",
    # No family at all.
    "./models/qwen/../my-llama": None,
    "gustavecortal/gpt-prompter": None,
    "my-org/robinhood-7b": None,
}
BASE = {"mosaicml/mpt-7b", "baichuan-inc/Baichuan-7B", "meta-llama/Llama-2-7b-hf", "codellama/CodeLlama-34b-hf"}


def row_of(found: Match | None) -> str | None:
    return found.adapter.name if found else None


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_name_finds_its_row(name: str) -> None:
    found = TABLE.match(name)
    assert row_of(found) == CORRECTED.get(name, NAMES[name])
    if found:
        assert found.by == ("base" if name in BASE else "name")


def test_what_is_corrected_was_recorded() -> None:
    assert set(CORRECTED) | BASE <= set(NAMES)


DECORATED = [
    "{}", "{}-GPTQ", "{}-AWQ", "{}-GGUF", "{}-int4", "{}-bnb-4bit", "{}-4bit-128g", "{}-FP8-Dynamic", "{}.gguf",
    "someone-else/{}", "/srv/models/{}/", "D:\\models\\{}", "models--owner--{}",
    "/home/me/.cache/huggingface/hub/models--owner--{}/snapshots/5f0b02c75b57c5855da9ae460ce51323ea669d8a",
]  # fmt: skip


@pytest.mark.parametrize("decoration", DECORATED)
def test_a_decorated_name_finds_the_same_row(decoration: str) -> None:
    plain = [*NAMES, *TABLE.examples()]
    for name in plain:
        last = name.rstrip("/").rpartition("/")[2].removesuffix(".pth")
        assert row_of(TABLE.match(decoration.format(last.upper()))) == row_of(TABLE.match(last)), last


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("lmsys/vicuna-33b-v1.3", "vicuna_v1.1"),
        ("vicuna_13b_v1.5_16k", "vicuna_v1.1"),
        ("Open-Orca/Mistral-7B-OpenOrca", "mistral-7b-openorca"),
        ("TheBloke/Mistral-7B-OpenOrca-AWQ", "mistral-7b-openorca"),
        ("Open-Orca/OpenOrcaxOpenChat-Preview2-13B", "open-orca"),
        ("Open-Orca/OpenOrca-Platypus2-13B", "alpaca"),
        ("WizardLM/WizardLM-70B-V1.0", "vicuna_v1.1"),
        ("CarperAI/stable-vicuna-13b-delta", "stable-vicuna"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama-3"),
        ("meta-llama/Meta-Llama-3.1-70B-Instruct", "meta-llama-3.1"),
        ("unsloth/Llama-3.2-3B-Instruct-bnb-4bit", "meta-llama-3.1"),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", "llama-4"),
        ("Qwen/Qwen-14B-Chat-Int4", "qwen-7b-chat"),
        ("Qwen/Qwen2-1.5B-Instruct-GGUF", "qwen-7b-chat"),
        ("Qwen/Qwen3-30B-A3B-Thinking-2507", "qwen3"),
        ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "deepseek-r1"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-r1"),
        ("deepseek-ai/deepseek-coder-6.7b-instruct", "deepseek-coder"),
        ("deepseek-ai/DeepSeek-V3.1", "deepseek-v3"),
        ("deepseek-ai/deepseek-moe-16b-chat", "deepseek-chat"),
        ("mistralai/Mixtral-8x22B-Instruct-v0.1", "mistral"),
        ("mistralai/Mistral-Nemo-Instruct-2407", "mistral-tekken"),
        ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", "mistral-v7"),
        ("google/gemma-2-9b-it", "gemma"),
        ("google/gemma-3-27b-it-qat-q4_0-gguf", "gemma"),
        ("microsoft/Phi-3.5-mini-instruct", "phi-3"),
        ("microsoft/phi-4", "phi-4"),
        ("microsoft/Phi-4-mini-instruct", "phi-4-mini"),
        ("CohereForAI/c4ai-command-r-plus", "command-r"),
        ("unsloth/gpt-oss-20b-bnb-4bit", "gpt-oss"),
        ("THUDM/chatglm-6b-int8", "chatglm"),
        ("THUDM/chatglm2-6b-32k-int4", "chatglm2"),
        ("THUDM/chatglm3-6b-128k", "chatglm3"),
        ("THUDM/glm-4-9b-chat-1m", "glm-4"),
        ("zai-org/GLM-4.5-Air-FP8", "glm-4.5"),
        ("THUDM/codegeex2-6b", "codegeex"),
        ("HuggingFaceTB/SmolLM2-360M-Instruct", "smollm2"),
        ("HuggingFaceTB/SmolLM3-3B", "smollm3"),
        ("mistralai/Magistral-Small-2506", "magistral"),
        ("ibm-granite/granite-3.1-8b-instruct", "granite"),
        ("allenai/OLMo-2-1124-7B-Instruct", "olmo"),
        ("allenai/Llama-3.1-Tulu-3-8B", "tulu"),
        ("NousResearch/Hermes-3-Llama-3.1-8B", "OpenHermes-2.5-Mistral-7B"),
        ("cognitivecomputations/dolphin-2.9-llama3-8b", "dolphin-2.2.1-mistral-7b"),
        ("01-ai/Yi-6B-Chat-4bits", "Yi-34b-chat"),
        ("internlm/internlm-chat-20b", "internlm-chat"),
        ("internlm/internlm2_5-7b-chat", "internlm2"),
        ("internlm/internlm3-8b-instruct", "internlm2"),
        ("openbmb/MiniCPM-2B-dpo-bf16", "minicpm"),
        ("openbmb/MiniCPM3-4B", "minicpm3"),
        ("LGAI-EXAONE/EXAONE-3.0-7.8B-Instruct", "exaone"),
        ("baichuan-inc/Baichuan-13B-Chat", "baichuan-chat"),
        ("baichuan-inc/Baichuan2-13B-Chat-4bits", "baichuan2-chat"),
        ("BAAI/AquilaChat-7B", "aquila-chat"),
        ("BAAI/AquilaChat2-34B-Int4-GPTQ", "aquila-legacy"),
        ("BAAI/AquilaChat2-34B-16K", "aquila"),
        ("BAAI/AquilaChat2-70B-Expr", "aquila-v1"),
        ("OrionStarAI/Orion-14B-Chat-Int4", "orion"),
        ("xverse/XVERSE-13B-Chat", "xverse"),
        ("Tele-AI/telechat-7B", "telechat"),
        ("Skywork/Skywork-13B-Math", "skywork"),
        ("IEITYuan/Yuan2-51B-hf", "yuan2"),
        ("fnlp/moss-moon-003-sft-int4", "moss"),
        ("tiiuae/falcon-40b-instruct", "falcon"),
        ("tiiuae/falcon-180B-chat", "falcon-chat"),
        ("databricks/dolly-v2-7b", "dolly_v2"),
        ("HuggingFaceH4/starchat-alpha", "starchat"),
        ("stabilityai/stablelm-2-zephyr-1_6b", "stablelm-zephyr"),
        ("jondurbin/airoboros-65b-gpt4-1.4", "airoboros_v1"),
        ("jondurbin/airoboros-l2-13b-3.1", "airoboros_v3"),
        ("mosaicml/mpt-30b-instruct", "mpt-30b-instruct"),
        ("someone/mistral-7b-chatml", "chatml"),
        ("nvidia/Llama-3_1-Nemotron-51B-Instruct", "meta-llama-3.1"),
        ("Open-Orca/Mistral-7B-SlimOrca", "mistral-7b-openorca"),
        ("microsoft/WizardLM-2-7B", "vicuna_v1.1"),
        ("liuhaotian/llava-v1.5-13b", "vicuna_v1.1"),
        ("chavinlo/gpt4-x-alpaca", "alpaca"),
        ("teknium/OpenHermes-13B", "alpaca"),
        ("jondurbin/airoboros-l2-70b-gpt4-2.0", "airoboros_v1"),
        ("PygmalionAI/mythalion-13b", "metharme"),
        ("HuggingFaceH4/starchat2-15b-v0.1", "chatml"),
        ("Qwen/CodeQwen1.5-7B-Chat", "qwen-7b-chat"),
        ("argilla/notux-8x7b-v1", "zephyr"),
        ("google/recurrentgemma-2b-it", "gemma"),
        ("microsoft/Phi-4-multimodal-instruct", "phi-4-mini"),
        ("CohereLabs/c4ai-command-a-03-2025", "command-r"),
        ("CohereLabs/command-a-reasoning-08-2025", "command-r"),
        ("tiiuae/falcon-mamba-7b-instruct", "falcon3"),
        ("deepseek-ai/deepseek-math-7b-rl", "deepseek-chat"),
        ("zai-org/codegeex4-all-9b", "chatglm4"),
        # Folders as other programs name them, with the owner in front.
        ("TheBloke_Llama-2-13B-chat-GPTQ", "llama-2"),
        ("/srv/models/Qwen_Qwen2.5-7B-Instruct", "qwen-7b-chat"),
        ("Qwen_Qwen3-0.6B", "qwen3"),
        ("C:\\text-generation-webui\\models\\mistralai_Mistral-7B-Instruct-v0.2", "mistral"),
        ("google_gemma-2-9b-it", "gemma"),
        # What only looks like one of these families, or is one whose format is another.
        ("upstage/llama-30b-instruct", None),
        ("huggyllama/llama-30b", None),
        ("ehartford/dolphin-llama2-7b", None),
        ("openchat/openchat-3.6-8b-20240522", None),
        ("someone/command-and-conquer", None),
        ("someone/zephyrus-7b", None),
        ("someone/not-a-gemma-2b-it", None),
        ("/srv/models/model", None),
        ("", None),
    ],
)
def test_other_sizes_versions_and_owners(name: str, row: str | None) -> None:
    found = TABLE.match(name)
    assert row_of(found) == row
    assert found is None or found.chats


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Meta-Llama-3-8B", "meta-llama/Llama-3.2-1B", "meta-llama/Llama-2-7b-hf", "Qwen/Qwen2.5-0.5B",
        "Qwen/Qwen3-0.6B-Base", "Qwen/Qwen-7B", "google/gemma-2-2b", "mistralai/Mistral-7B-v0.1", "01-ai/Yi-6B",
        "mistralai/Mixtral-8x7B-v0.1", "tiiuae/falcon-7b", "tiiuae/Falcon3-1B-Base", "internlm/internlm2-7b",
        "deepseek-ai/deepseek-llm-7b-base", "deepseek-ai/deepseek-coder-1.3b-base", "THUDM/chatglm3-6b-base",
        "baichuan-inc/Baichuan2-7B-Base", "HuggingFaceTB/SmolLM2-135M", "allenai/OLMo-2-0425-1B", "BAAI/Aquila2-7B",
        "xverse/XVERSE-13B", "OrionStarAI/Orion-14B-Base", "stabilityai/stablelm-2-1_6b", "mosaicml/mpt-30b",
        "codellama/CodeLlama-7b-Python-hf", "deepseek-ai/DeepSeek-V3-Base", "zai-org/GLM-4.5-Base",
        "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T", "upstage/SOLAR-10.7B-v1.0",
        "ibm-granite/granite-3b-base", "google/medgemma-4b-pt", "Qwen/Qwen3-Embedding-0.6B", "Qwen_Qwen3-0.6B-Base",
    ],
)  # fmt: skip
def test_a_base_model_gets_no_chat_format(name: str) -> None:
    found = TABLE.match(name)
    assert found is not None
    assert found.by == "base"
    assert not found.chats


def test_no_two_rows_can_fit_a_name_equally_well() -> None:
    assert ties(TABLE.rows) == []


def test_a_tie_is_found_however_it_is_written() -> None:
    one, other = Adapter("one", match=("my*chat*",)), Adapter("other", match=("*my-?chat*", "My*Chat"))
    assert ties((one, other)) == [("one", "other", "My*Chat")]
    assert ties((one, Adapter("other", base=("my*chat*",)))) == []


def test_rows_of_different_model_types_tie_where_a_name_is_all_that_is_known() -> None:
    rows = (Adapter("a", ("x*",), model_type=("llama",)), Adapter("b", ("x*",), model_type=("mpt",)))
    assert ties(rows) == [("a", "b", "x*")]


def test_names_made_of_the_patterns_have_one_best_row() -> None:
    """Every pattern as a name, and every two of those that may stand anywhere, joined both ways."""
    patterns = [p for row in TABLE.rows for p in (*row.match, *row.base)]
    anywhere = [p for p in patterns if p.startswith("*")]
    names = [*patterns, *(f"{one}-{other}" for one in anywhere for other in anywhere)]
    for name in names:
        written = name.replace("*", "").replace("?", "9")
        first, *rest = TABLE.candidates(written)
        assert all((first.base, first.rank) < (each.base, each.rank) for each in rest), written


@pytest.mark.parametrize(("name", "row"), [(e, row.name) for row in TABLE.rows for e in row.examples])
def test_a_rows_own_examples_find_it(name: str, row: str) -> None:
    found = TABLE.match(name)
    assert row_of(found) == row
    assert found is not None
    assert found.by == "name"


@pytest.mark.parametrize(
    ("name", "model_type", "row", "by"),
    [
        ("someone/my-finetune", "mpt", None, None),  # shared by several rows, and the name says nothing
        ("someone/my-finetune", "moss", "moss", "model_type"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama", "llama-3", "name"),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "llama", "TinyLlama", "name"),
        ("HuggingFaceH4/zephyr-7b-beta", "mistral", "zephyr", "name"),
        ("lmsys/vicuna-7b-v1.5", "llama", "vicuna_v1.1", "name"),
        ("gemma-looking-vicuna-v1.5", "gpt_oss", "gpt-oss", "model_type"),  # config.json knows better than the name
        ("someone/phi-3-mini-instruct", "brand_new", "phi-3", "name"),
        ("someone/my-chatml", "gemma2", "chatml", "name"),  # a format of any family's models
        ("meta-llama/Meta-Llama-3-8B", "llama", "llama-3", "base"),
    ],
)
def test_model_type_narrows_before_the_name_decides(
    name: str, model_type: str, row: str | None, by: str | None
) -> None:
    found = TABLE.match(name, model_type)
    assert row_of(found) == row
    assert (found.by if found else None) == by


def test_a_fine_tune_of_a_family_is_not_taken_for_its_base_model() -> None:
    found = TABLE.match("my-org/mixtral-tulu-test")
    assert row_of(found) == "tulu"
    assert found is not None
    assert [(c.adapter.name, c.pattern, c.base) for c in found.candidates] == [
        ("tulu", "*-tulu-*", False),
        ("mistral", "mixtral-*", True),
    ]


def test_an_unknown_row_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"did you mean vicuna_v1\.1"):
        TABLE.row("vicunna")
    with pytest.raises(UsageError, match="chatcli adapters lists them"):
        TABLE.row("zzzzzz")
    assert TABLE.row("Vicuna-v1.1").name == "vicuna_v1.1"


@pytest.mark.parametrize("row", TABLE.rows, ids=lambda row: row.name)
def test_every_row_is_whole(row: Adapter) -> None:
    assert row.template_text.strip() or row.notes or row.examples
    assert row.match or row.name == "zero_shot"
    assert not row.always_chats or row.model_type
    if row.template == "turns.jinja":
        assert {"user", "assistant"} <= set(row.parameters)
        assert set(row.parameters) <= {"start", "system", "inside", "user", "assistant", "opening", "observation"}
        assert all("{}" in row.parameters[key] for key in ("user", "assistant"))
        assert row.parameters.get("system") or row.notes or "inside" in row.parameters


def test_a_row_that_fits_is_better_than_one_that_does_not() -> None:
    narrow, wide = Adapter("narrow", ("my-model-7b*",)), Adapter("wide", ("my-*",))
    for rows in ((narrow, wide), (wide, narrow)):
        assert row_of(Table(rows).match("My_Model-7B-chat")) == "narrow"
        assert row_of(Table(rows).match("my-other")) == "wide"
