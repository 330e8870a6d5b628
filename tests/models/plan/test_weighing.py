"""What weights take: parameters of published models to the number, and what loading does to tensors."""

from __future__ import annotations

import pytest
from published_models import LLAMA_8B, MODELS, PARAMETERS, QWEN25_7B, in_16_bits, tensor

from chatcli.models.plan.weighing import head_packing, weigh


@pytest.mark.parametrize("model", PARAMETERS)
def test_parameters_are_those_of_the_model_card(model: str) -> None:
    """Packed numbers count as they are, scales do not; neither does DeepSeek's layer for training."""
    assert weigh(*MODELS[model]).parameters == PARAMETERS[model]


@pytest.mark.parametrize(
    ("model", "gigabytes"),
    [  # sizes of the files as they are published
        ("gpt-oss-20b", 13.76),
        ("Llama-3.1-8B-nf4", 5.70),
        ("Llama-3.1-8B", 16.06),
    ],
)
def test_packed_weights_keep_their_size(model: str, gigabytes: float) -> None:
    assert weigh(*MODELS[model]).bytes("bfloat16") / 1e9 == pytest.approx(gigabytes, abs=0.01)


def test_experts_in_mxfp4_are_unpacked_where_there_is_no_gpu() -> None:
    model = weigh(*MODELS["gpt-oss-20b"])
    assert model.bytes("bfloat16", unpack=True) == 2 * PARAMETERS["gpt-oss-20b"]


def test_int8_and_int4_pack_linear_layers_and_nothing_else() -> None:
    model = weigh(*MODELS["Llama-3.1-8B"])
    tables = 2 * 128256 * 4096
    norms = (2 * 32 + 1) * 4096
    linear = PARAMETERS["Llama-3.1-8B"] - tables - norms
    rows = 32 * (4096 + 1024 + 1024 + 4096 + 14336 + 14336 + 4096)
    assert model.bytes("bfloat16", "int8") == 2 * (tables + norms) + linear + 2 * rows
    assert model.bytes("bfloat16", "int4") == 2 * (tables + norms) + linear // 2 + linear // 32 * 4
    assert model.bytes("bfloat16", "fp8") == 2 * (tables + norms) + linear + 4 * rows
    assert model.unpacked_for_a_moment("int4", "bfloat16") == 2 * 14336 * 4096
    assert model.unpacked_for_a_moment("none", "bfloat16") == 0


def test_a_head_is_int8_on_a_cpu_and_so_is_the_embedding_if_it_is_one() -> None:
    words = 128256 * 4096
    config, tensors = MODELS["Qwen2.5-0.5B"]
    model, small = weigh(*MODELS["Llama-3.1-8B"]), weigh({**config, "architectures": ["Qwen2ForCausalLM"]}, tensors)
    scaling = weigh({**config, "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text"}, tensors)
    for quantization in ("int8", "int4"):
        head = head_packing(quantization, "cpu")
        assert head == "int8"
        saved = model.bytes("bfloat16", quantization) - model.bytes("bfloat16", quantization, head=head)
        assert saved == words - 2 * 128256
        saved = small.bytes("bfloat16", quantization) - small.bytes("bfloat16", quantization, head=head)
        assert saved == 151936 * 896 - 2 * 151936 - 2 * 151936  # its scales are there twice
        assert scaling.bytes("bfloat16", quantization) == scaling.bytes("bfloat16", quantization, head=head)
        assert head_packing(quantization, "cuda") == "none"
    assert head_packing("none", "cpu") == head_packing("fp8", "cpu") == "none"


def test_rows_that_groups_do_not_divide_stay_in_the_dtype() -> None:
    model = weigh({"model_type": "llama"}, {"a.weight": tensor("BF16", 10, 80), "b.weight": tensor("BF16", 10, 64)})
    assert model.bytes("bfloat16", "int4") == 10 * 80 * 2 + 10 * 32 + 10 * 2 * 4


@pytest.mark.parametrize("model", ["Qwen2.5-7B-GPTQ-Int4", "Qwen2.5-7B-AWQ"])
def test_files_of_gptq_and_awq_become_layers_in_int4(model: str) -> None:
    in_full = weigh(QWEN25_7B, in_16_bits(QWEN25_7B))
    assert weigh(*MODELS[model]).bytes("bfloat16") == in_full.bytes("bfloat16", "int4")


def test_experts_are_packed_one_by_one_or_joined_and_routers_are_not() -> None:
    apart = weigh(*MODELS["Mixtral-8x7B"])
    linear = 32 * (4096 * (4096 + 1024 + 1024 + 4096) + 8 * 3 * 4096 * 14336)
    rest = PARAMETERS["Mixtral-8x7B"] - linear
    assert apart.bytes("bfloat16", "int4") == 2 * rest + linear // 2 + linear // 8
    joined = weigh({"model_type": "qwen3_moe"}, {"model.layers.0.mlp.experts.gate_up_proj": tensor("BF16", 4, 64, 96)})
    assert joined.bytes("bfloat16", "int8") == 4 * 64 * 96 + 4 * 64 * 2


def test_a_head_that_is_tied_counts_once() -> None:
    tied = LLAMA_8B | {"tie_word_embeddings": True}
    assert weigh(tied, in_16_bits(LLAMA_8B)).parameters == PARAMETERS["Llama-3.1-8B"] - 128256 * 4096
    inside = {"model_type": "gemma3", "text_config": tied}
    assert weigh(inside, in_16_bits(LLAMA_8B)).parameters == PARAMETERS["Llama-3.1-8B"] - 128256 * 4096


def test_masks_and_frequencies_are_computed_and_not_loaded() -> None:
    stored = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": tensor("F32", 64),
        "h.0.attn.bias": tensor("F32", 1, 1, 1024, 1024),
        "h.0.attn.c_attn.bias": tensor("F32", 2304),
        "mtp.layers.0.mlp.up_proj.weight": tensor("BF16", 64, 64),
    }
    assert weigh({"model_type": "gpt2"}, stored).parameters == 2304


def test_the_largest_part_is_a_layer_or_an_embedding() -> None:
    assert weigh(*MODELS["Llama-3.1-8B"]).largest("bfloat16") == 2 * 128256 * 4096
    layer = 2 * (4096 * (4096 + 1024 + 1024 + 4096 + 3 * 14336) + 2 * 4096)
    assert weigh(LLAMA_8B, in_16_bits(LLAMA_8B | {"vocab_size": 32000})).largest("bfloat16") == layer


@pytest.mark.parametrize(
    "said",
    [{"quantization_config": "gptq"}, {"dtype": {}}, {"quantization_config": {"config_groups": {"a": 1}}}],
)
def test_a_config_of_odd_types_is_read_without_a_crash(said: dict[str, object]) -> None:
    assert weigh({"model_type": "llama", **said}, {}).parameters == 0
