from typing import Any

import pytest

from chatcli.errors import OutOfMemory
from chatcli.models.checkpoint import context_length
from chatcli.models.plan import Device, kv_bytes_per_token, plan
from chatcli.models.weights import Tensor

GB = 10**9
CONFIG = {"model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
          "num_key_value_heads": 8, "max_position_embeddings": 131072}  # fmt: skip
TALK = 2 * 32 * 8 * 128 * 2 * 4096  # 537 MB in 16 bits


def tensors(dtype: str = "BF16", billions: float = 8.0) -> dict[str, Tensor]:
    size = {"BF16": 2, "F16": 2, "F32": 4}[dtype]
    count = int(billions * 1e9)
    return {"w": Tensor(dtype, (count,), count * size)}


def cuda(free: float, index: int = 0, bf16: bool = True) -> Device:
    return Device("cuda", index, int(free * GB), bf16)


def cpu(free: float, bf16: bool = True) -> Device:
    return Device("cpu", 0, int(free * GB), bf16)


@pytest.mark.parametrize(
    ("devices", "stored", "billions", "dtype", "device", "placement"),
    [
        ([cpu(64), cuda(24)], "BF16", 8, "bfloat16", "cuda:0", "single"),
        ([cuda(24, bf16=False), cpu(64)], "BF16", 8, "float16", "cuda:0", "single"),
        ([cuda(24), cpu(64)], "F16", 6, "float16", "cuda:0", "single"),
        ([cuda(24), cpu(64)], "F32", 8, "bfloat16", "cuda:0", "single"),
        ([cuda(8), cuda(24, 1), cpu(64)], "BF16", 8, "bfloat16", "cuda:1", "single"),
        ([cuda(12), cuda(12, 1), cpu(64)], "BF16", 8, "bfloat16", "cuda:0", "auto"),
        ([cuda(8), cpu(64)], "BF16", 8, "bfloat16", "cuda:0", "auto"),
        ([Device("xpu", 0, 24 * GB, True), cpu(64)], "BF16", 8, "bfloat16", "xpu:0", "single"),
        ([cpu(48), Device("mps", 0, 36 * GB, True)], "BF16", 8, "bfloat16", "mps", "single"),
        ([cpu(24), Device("mps", 0, 16 * GB, True)], "BF16", 8, "bfloat16", "cpu", "single"),
        ([cpu(24)], "BF16", 8, "bfloat16", "cpu", "single"),
        ([cpu(48, bf16=False)], "BF16", 8, "float32", "cpu", "single"),
        ([cpu(8)], "F32", 0.5, "float32", "cpu", "single"),
        ([cpu(3)], "F32", 1, "bfloat16", "cpu", "single"),  # would not fit in the precision it is stored in
        ([cuda(0.1), cpu(24)], "BF16", 8, "bfloat16", "cpu", "single"),  # a GPU that others have filled
    ],
)
def test_where_and_how(devices, stored, billions, dtype, device, placement) -> None:
    made = plan(CONFIG, tensors(stored, billions), devices)
    assert (made.dtype, made.device, made.placement) == (dtype, device, placement)
    assert made.weights_bytes == int(billions * 1e9) * (4 if dtype == "float32" else 2)


def test_fits_to_the_byte() -> None:
    need = int(16 * GB * 1.1) + TALK
    assert plan(CONFIG, tensors(), [Device("cuda", 0, need, True), cpu(64)]).placement == "single"
    assert plan(CONFIG, tensors(), [Device("cuda", 0, need - 1, True), cpu(64)]).placement == "auto"


def test_two_gpus_leave_the_cpu_out_when_they_suffice() -> None:
    made = plan(CONFIG, tensors(), [cuda(12), cuda(12, 1), cpu(64)])
    assert set(made.max_memory) == {0, 1}
    assert sum(made.max_memory.values()) >= made.weights_bytes
    assert "spread over 2" in made.notes[0]


def test_what_stays_in_main_memory_is_said() -> None:
    made = plan(CONFIG, tensors(), [cuda(8), cpu(64)])
    assert set(made.max_memory) == {0, "cpu"}
    assert sum(made.max_memory.values()) >= made.weights_bytes
    assert "9.3 GB of the model stay in main memory" in made.notes[-1]


def test_too_large_for_everything_tells_the_numbers() -> None:
    with pytest.raises(OutOfMemory) as error:
        plan(CONFIG, tensors(), [cuda(4), cpu(8)])
    assert "needs 18.1 GB" in str(error.value)
    assert "cuda:0 has 4.0 GB free and cpu has 8.0 GB free" in str(error.value)


def test_bin_files_count_by_their_size() -> None:
    made = plan(CONFIG, {}, [cuda(24), cpu(64)], stored_bytes=13 * GB)
    assert (made.weights_bytes, made.dtype, made.placement) == (13 * GB, "bfloat16", "single")
    assert plan(CONFIG, {}, [cuda(8), cpu(64)], stored_bytes=13 * GB).placement == "auto"


def test_quantised_tensors_keep_their_size() -> None:
    packed = {"w": Tensor("I32", (1000, 10), 40_000), "scale": Tensor("F32", (1000,), 4000)}
    assert plan(CONFIG, packed, [cuda(24)]).weights_bytes == 40_000 + 2000


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
