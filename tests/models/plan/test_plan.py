"""What is chosen where: a table of machines and published models, and each rule of the choice by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from published_models import LLAMA_8B, MODELS, in_16_bits

from chatcli.errors import OutOfMemory, UsageError
from chatcli.load_request import LoadRequest
from chatcli.models.checkpoint import context_length
from chatcli.models.plan import Device, LoadPlan, kv_bytes_per_token, plan, survey

GB = 10**9
CONFIG = LLAMA_8B
BF16 = in_16_bits(LLAMA_8B)  # 16.06 GB
FULL = 18_430_048_665  # what it needs free in bfloat16: with the cache of 4096 tokens, a forward pass and a tenth


def cuda(free: float, index: int = 0, bf16: bool = True) -> Device:
    return Device("cuda", index, int(free * GB), bf16, kernels=True)


def cpu(free: float, bf16: bool = True) -> Device:
    return Device("cpu", 0, int(free * GB), bf16)


def chosen(*devices: Device, model: str = "Llama-3.1-8B", **request: Any) -> LoadPlan:
    config, tensors = MODELS[model]
    return plan(config, tensors, devices, LoadRequest(**request))


MACHINES = {
    "8": [cuda(7.6), cpu(24)],
    "16": [cuda(15.5), cpu(48)],
    "24": [cuda(23.5), cpu(56)],
    "24+24": [cuda(23.5), cuda(23.5, 1), cpu(56)],
    "80": [cuda(79), cpu(120)],
    "141": [cuda(139), cpu(240)],
    "none": [cpu(28)],
}
# In the order of the machines. A precision alone is on cuda:0; "+" begins what was added: main memory, disk.
CHOICES = {
    "Qwen2.5-0.5B": "bf16 bf16 bf16 bf16 bf16 bf16 bf16@cpu",
    "gemma-3-1b": "bf16 bf16 bf16 bf16 bf16 bf16 bf16@cpu",
    "Mistral-7B-v0.1": "int4 int8 bf16 bf16 bf16 bf16 bf16@cpu",
    "Qwen2.5-7B-GPTQ-Int4": "gptq gptq gptq gptq gptq gptq gptq@cpu",
    "Qwen2.5-7B-AWQ": "awq awq awq awq awq awq awq@cpu",
    "Llama-3.1-8B": "bf16+cpu int8 bf16 bf16 bf16 bf16 bf16@cpu",
    "Llama-3.1-8B-nf4": "nf4 nf4 nf4 nf4 nf4 nf4 nf4@cpu",
    "gemma-2-9b": "bf16+cpu int8 bf16 bf16 bf16 bf16 bf16@cpu",
    "gpt-oss-20b": "- mxfp4 mxfp4 mxfp4 mxfp4 mxfp4 -",
    "Qwen3-30B-A3B": "int4@cpu int8@cpu int4 int8+1 bf16 bf16 int4@cpu",
    "Mixtral-8x7B": "bf16+cpu+disk int4@cpu int8@cpu int4+1 int8 bf16 bf16@cpu+disk",
    "Llama-3.1-70B": "bf16+cpu+disk bf16+cpu+disk int4@cpu int4@cpu int4 int8 bf16@cpu+disk",
}


def shown(made: LoadPlan) -> str:
    at = "" if made.device == "cuda:0" else f"@{made.device}"
    more = "".join(f"+{place}" for place in list(made.max_memory)[1:])
    return made.precision.replace("bfloat16", "bf16").replace("bitsandbytes", "nf4") + at + more


@pytest.mark.parametrize("model", CHOICES)
def test_what_is_chosen_where(model: str) -> None:
    config, tensors = MODELS[model]
    found = []
    for devices in MACHINES.values():
        try:
            made = plan(config, tensors, devices)
        except OutOfMemory:
            found.append("-")
            continue
        found.append(shown(made))
        assert made.placement == ("auto" if made.max_memory else "single")
        assert sum(made.max_memory.values()) >= made.weights_bytes or made.placement == "single"
        assert all("\n" not in note and len(note) < 160 for note in made.notes)
    assert " ".join(found) == CHOICES[model]


def test_the_largest_model_needs_the_largest_machine() -> None:
    """DeepSeek-V3 stays in fp8 on GPUs, with the latents of a long talk; no single one holds it."""
    config, tensors = MODELS["DeepSeek-V3"]
    eight = [cuda(139, index) for index in range(8)]
    made = plan(config, tensors, [*eight, cpu(1000)], LoadRequest(context=32768))
    assert (made.precision, made.placement, len(made.max_memory)) == ("fp8", "auto", 8)
    assert made.cache_bytes == 61 * (512 + 64) * 2 * 32768
    told = survey(config, tensors, [cuda(139), cpu(240)])
    assert told.choice is None
    assert told.parameters == 671_026_419_200
    assert "needs 741.3 GB of memory in fp8, but" in told.refusal
    # The CPU computes no fp8: there its weights are twice as large.
    assert "needs 1477.4 GB of memory in bfloat16, but" in survey(config, tensors, [cpu(240)]).refusal


@pytest.mark.parametrize(
    ("devices", "stored", "expected"),
    [
        ([cpu(64), cuda(24)], "BF16", ("bfloat16", "cuda:0")),
        ([cuda(24, bf16=False), cpu(64)], "BF16", ("float16", "cuda:0")),
        ([cuda(24), cpu(64)], "F16", ("float16", "cuda:0")),
        ([cuda(24), cpu(64)], "F32", ("bfloat16", "cuda:0")),
        ([cuda(8), cuda(24, 1), cpu(64)], "BF16", ("bfloat16", "cuda:1")),
        ([Device("xpu", 0, 24 * GB, True), cpu(64)], "BF16", ("bfloat16", "xpu:0")),
        ([cpu(48), Device("mps", 0, 36 * GB, True)], "BF16", ("bfloat16", "mps")),
        ([cpu(24), Device("mps", 0, 16 * GB, True)], "BF16", ("bfloat16", "cpu")),
        ([cpu(24)], "BF16", ("bfloat16", "cpu")),
        ([cpu(48, bf16=False)], "BF16", ("float32", "cpu")),
        ([cpu(24, bf16=False)], "BF16", ("bfloat16", "cpu")),  # slowly, but without a loss
        ([cpu(48)], "F32", ("float32", "cpu")),
        ([cpu(24)], "F32", ("bfloat16", "cpu")),  # would not fit in the precision it is stored in
        ([cuda(0.1), cpu(24)], "BF16", ("bfloat16", "cpu")),  # a GPU that others have filled
    ],
)
def test_the_type_and_the_device(devices: list[Device], stored: str, expected: tuple[str, str]) -> None:
    size = {"BF16": 1, "F16": 1, "F32": 2}[stored]
    tensors = {name: replace(t, dtype=stored, bytes=t.bytes * size) for name, t in BF16.items()}
    made = plan(CONFIG, tensors, devices)
    assert (made.dtype, made.device) == expected
    assert (made.placement, made.quantization) == ("single", "none")
    assert made.weights_bytes == 8_030_261_248 * (4 if made.dtype == "float32" else 2)


def test_fits_to_the_byte() -> None:
    need = int(plan(CONFIG, BF16, [cuda(99)]).peak_bytes * 1.1)
    assert plan(CONFIG, BF16, [Device("cuda", 0, need, True)]).precision == "bfloat16"
    assert plan(CONFIG, BF16, [Device("cuda", 0, need - 1, True)]).precision == "int8"
    assert need == FULL


def test_what_is_given_up_is_said_in_one_line() -> None:
    assert chosen(cuda(24)).notes == ()
    assert chosen(cuda(16)).notes == ("In bfloat16 it needs 18.4 GB, so it runs in int8 (10.9 GB) on cuda:0.",)
    assert chosen(cuda(9), cpu(64)).notes == ("In bfloat16 it needs 18.4 GB, so it runs in int4 (8.0 GB) on cuda:0.",)
    made = chosen(cuda(6), cpu(64))
    assert (made.precision, list(made.max_memory)) == ("bfloat16", [0, "cpu"])
    assert made.notes == ("About 12.4 GB of the model stay in main memory, which makes answers slow.",)
    made = chosen(cuda(6), cpu(4))
    assert list(made.max_memory) == [0, "cpu", "disk"]
    assert made.notes == ("About 9.8 GB of the model stay on the disk, which makes answers very slow.",)


def test_several_gpus_come_before_a_loss_and_before_the_cpu() -> None:
    made = chosen(cuda(12), cuda(12, 1), cpu(64))
    assert (made.precision, made.device, list(made.max_memory)) == ("bfloat16", "cuda:0", [0, 1])
    assert sum(made.max_memory.values()) >= made.weights_bytes
    assert made.notes == ("The model does not fit on one GPU, so it is spread over 2.",)


def test_each_gpu_keeps_the_cache_of_its_own_layers() -> None:
    """A long talk takes 17 GB here; reserved as a whole on each of two GPUs, it would leave no room for weights."""
    made = chosen(cuda(25), cuda(25, 1), context=131072)
    assert (made.precision, made.cache_bytes) == ("bfloat16", 131072 * 131072)
    assert all(made.weights_bytes / 2 < size < 12 * GB for size in made.max_memory.values())


def test_strict_refuses_with_the_numbers_and_the_way_out() -> None:
    with pytest.raises(OutOfMemory) as error:
        chosen(cuda(16), cpu(64), fit="strict")
    assert str(error.value) == (
        "The model needs 18.4 GB of memory in bfloat16, but cuda:0 has 16.0 GB free and cpu has 64.0 GB free: "
        "--fit auto would run it in int8 on cuda:0."
    )
    assert error.value.exit_code == 4
    assert chosen(cuda(12), cuda(12, 1), fit="strict").precision == "bfloat16"
    assert chosen(cpu(24), fit="strict").device == "cpu"


def test_what_fits_nowhere_is_refused_with_the_numbers() -> None:
    with pytest.raises(OutOfMemory) as error:
        chosen(cpu(1))
    assert str(error.value) == (
        "The model needs 19.0 GB of memory in bfloat16 and 8.0 GB in int4, but cpu has 1.0 GB free: "
        "close other programs or choose a smaller model."
    )


def test_the_device_that_is_named() -> None:
    machine = (cuda(24), cuda(48, 1), cpu(64))
    assert chosen(*machine).device == "cuda:1"
    assert chosen(*machine, device="cuda:0").device == "cuda:0"
    assert chosen(*machine, device="cpu").device == "cpu"
    assert chosen(*machine, device="cuda").device == "cuda:1"
    assert chosen(*machine, devices=(0,)).device == "cuda:0"
    # What the named GPU cannot hold may wait on the CPU, but the CPU does not take its place.
    assert list(chosen(cuda(6), cpu(64), device="cuda:0").max_memory) == [0, "cpu"]
    with pytest.raises(OutOfMemory):
        chosen(cuda(0.1), cpu(64), device="cuda:0")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"device": "cuda:2"}, "There is no cuda:2 on this machine: it has cuda:0 and cpu."),
        ({"device": "mps"}, "There is no mps on this machine: it has cuda:0 and cpu."),
        ({"devices": (0, 3)}, "There is no GPU 3 on this machine: it has cuda:0 and cpu."),
        ({"max_memory": {1: GB}}, "There is no GPU 1 on this machine: it has cuda:0 and cpu."),
    ],
)
def test_a_device_that_does_not_exist_is_refused(request_: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        chosen(cuda(24), cpu(64), **request_)
    assert str(error.value) == message


def test_limits_of_memory_count_as_what_is_free() -> None:
    assert chosen(cuda(24), max_memory={0: 12 * GB}).precision == "int8"
    made = chosen(cuda(24), cpu(64), max_memory={0: 6 * GB, "cpu": 4 * GB})
    assert list(made.max_memory) == [0, "cpu", "disk"]
    with pytest.raises(OutOfMemory):
        chosen(cuda(24), cpu(64), max_memory={0: 6 * GB, "cpu": 4 * GB, "disk": GB})


def test_the_precision_that_is_asked_for() -> None:
    assert chosen(cuda(48), dtype="float32").weights_bytes == 4 * 8_030_261_248
    assert chosen(cuda(48), dtype="float16").dtype == "float16"
    made = chosen(cuda(48), quantization="int4")
    assert (made.precision, made.notes) == ("int4", ())
    assert list(chosen(cuda(16), cpu(64), quantization="none").max_memory) == [0, "cpu"]
    with pytest.raises(OutOfMemory):  # packed weights cannot wait elsewhere
        chosen(cuda(5), cpu(5), quantization="int4")
    with pytest.raises(UsageError, match=r"quantised already \(GPTQ\), so --quant int4 would lose twice: leave it out"):
        chosen(cuda(24), model="Qwen2.5-7B-GPTQ-Int4", quantization="int4")


def test_a_longer_talk_needs_more() -> None:
    assert chosen(cuda(24)).context == 4096
    assert chosen(cuda(24), context=32768).precision == "bfloat16"
    assert chosen(cuda(24), context=65536).precision == "int8"
    assert chosen(cuda(99), model="Qwen2.5-0.5B", context=10**6).context == 32768  # more it cannot read


def test_bin_files_count_by_their_size() -> None:
    made = plan(CONFIG, {}, [cuda(24), cpu(64)], stored_bytes=16 * GB)
    assert (made.weights_bytes, made.dtype, made.placement) == (16 * GB, "bfloat16", "single")
    made = plan(CONFIG, {}, [cuda(9), cpu(64)], stored_bytes=16 * GB)
    exact = plan(CONFIG, BF16, [cuda(9), cpu(64)])
    assert made.precision == exact.precision == "int4"
    assert made.weights_bytes == pytest.approx(exact.weights_bytes, rel=0.01)


def test_the_survey_shows_what_the_plan_chooses_from() -> None:
    told = survey(CONFIG, BF16, [cuda(16), cpu(48)])
    assert [(option.precision, names) for option, names in told.precisions] == [
        ("float32", ("cpu",)),
        ("bfloat16", ("cpu",)),
        ("int8", ("cuda:0", "cpu")),
        ("int4", ("cuda:0", "cpu")),
    ]
    assert told.choice == plan(CONFIG, BF16, [cuda(16), cpu(48)])


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (CONFIG, 2 * 32 * 8 * 128 * 2),
        ({"text_config": CONFIG}, 2 * 32 * 8 * 128 * 2),
        ({"n_layer": 12, "n_head": 12, "n_embd": 768}, 2 * 12 * 768 * 2),
        ({**CONFIG, "head_dim": 256}, 2 * 32 * 8 * 256 * 2),
        # ChatGLM2: 28 KiB a token, ChatGLM: 448 KiB
        ({"num_layers": 28, "num_attention_heads": 32, "kv_channels": 128, "multi_query_attention": True,
          "multi_query_group_num": 2, "hidden_size": 4096}, 28 * 1024),
        ({"num_layers": 28, "num_attention_heads": 32, "hidden_size": 4096}, 448 * 1024),
        ({"num_hidden_layers": 2, "num_attention_heads": 71, "hidden_size": 4544, "multi_query": True}, 2 * 2 * 64 * 2),
        ({"model_type": "unknown"}, 0),
    ],
)  # fmt: skip
def test_what_a_token_of_talk_costs(config: dict, expected: int) -> None:
    assert kv_bytes_per_token(config) == expected


CHATGLM: dict[str, Any] = {
    **{"model_type": "chatglm", "hidden_size": 4096, "num_layers": 28, "num_attention_heads": 32, "vocab_size": 130528},
    **{"inner_hidden_size": 16384, "max_sequence_length": 2048, "torch_dtype": "float16"},
}
CHATGLM2: dict[str, Any] = {
    **{"model_type": "chatglm", "hidden_size": 4096, "num_layers": 28, "num_attention_heads": 32, "kv_channels": 128},
    **{"padded_vocab_size": 65024, "ffn_hidden_size": 13696, "multi_query_attention": True, "seq_length": 32768},
    **{"multi_query_group_num": 2, "torch_dtype": "float16"},
}
# Parameters that the published files hold, from their shapes; the first ChatGLM's head is in them twice.
LINEAR_1, LINEAR_2, HEAD = 28 * 12 * 4096**2, 28 * 4096 * (4608 + 4096 + 3 * 13696), 130528 * 4096


@pytest.mark.parametrize(
    ("config", "stored", "loaded"),
    [
        (CHATGLM, 2 * (6_707_929_088), 2 * (6_707_929_088 - HEAD)),
        (CHATGLM | {"quantization_bit": 8}, 2 * 2 * HEAD + LINEAR_1, 2 * HEAD + 2 * LINEAR_1),
        (CHATGLM | {"quantization_bit": 4}, 2 * 2 * HEAD + LINEAR_1 // 2, 2 * HEAD + 2 * LINEAR_1),
        (
            CHATGLM | {"quantization_bit": 4, "quantization_embeddings": True},
            HEAD + LINEAR_1 // 2,
            2 * HEAD + 2 * LINEAR_1,
        ),
        (CHATGLM2, 12_487_168_000, 12_487_168_000),
        (CHATGLM2 | {"quantization_bit": 4}, LINEAR_2 // 2, 2 * LINEAR_2),
    ],
)
def test_chatglm_is_planned_as_it_is_loaded(config: dict[str, Any], stored: int, loaded: int) -> None:
    """int8 and int4 are unpacked on load; a plan by the size of the files would run out of memory."""
    gpu = Device("cuda", 0, 80 * 10**9, bf16=True)
    assert plan(config, {}, [gpu], stored_bytes=stored).weights_bytes == loaded


def test_what_a_token_of_a_talk_with_chatglm_costs() -> None:
    assert kv_bytes_per_token(CHATGLM) == 448 * 1024
    assert kv_bytes_per_token(CHATGLM2) == 28 * 1024
    assert (context_length(CHATGLM), context_length(CHATGLM2)) == (2048, 32768)
