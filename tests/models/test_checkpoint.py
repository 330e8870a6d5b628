import json

import pytest

from chatcli.errors import BrokenCheckpoint, ModelNotFound
from chatcli.models.checkpoint import (
    context_length,
    open_checkpoint,
)

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8, "num_hidden_layers": 2}


def write(folder, config: object = None, **files: str):
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config or LLAMA))
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_reads_a_folder(tmp_path) -> None:
    write(tmp_path, LLAMA, generation_config__json='{"top_k": 20}')
    checkpoint = open_checkpoint(tmp_path, "org/name", "abc")
    assert (checkpoint.name, checkpoint.revision, checkpoint.model_type) == ("org/name", "abc", "llama")
    assert checkpoint.config == LLAMA
    assert checkpoint.generation_config == {"top_k": 20}
    assert open_checkpoint(tmp_path).name == tmp_path.name


def test_a_byte_order_mark_is_no_damage(tmp_path) -> None:
    write(tmp_path, "\ufeff" + json.dumps(LLAMA))
    assert open_checkpoint(tmp_path).model_type == "llama"


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ('{"model_type": "lla', "cannot be read as JSON"),
        ("", "cannot be read as JSON"),
        ("[1]", "a JSON list"),
        ("[" * 100_000, "config.json"),
        ('{"hidden_size": 8}', "names no model_type"),
        ('{"model_type": 3}', "names no model_type"),
        (json.dumps({**LLAMA, "num_hidden_layers": -1}), "num_hidden_layers = -1"),
        (json.dumps({**LLAMA, "num_hidden_layers": 0}), "num_hidden_layers = 0"),
        (json.dumps({**LLAMA, "hidden_size": "8"}), "hidden_size = '8'"),
        (json.dumps({"model_type": "gemma3", "text_config": {"vocab_size": True}}), "vocab_size = True"),
    ],
)
def test_a_damaged_config_is_named(tmp_path, config: str, says: str) -> None:
    write(tmp_path, config)
    with pytest.raises(BrokenCheckpoint) as error:
        open_checkpoint(tmp_path)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text(tmp_path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(BrokenCheckpoint, match="cannot be read as JSON"):
        open_checkpoint(tmp_path)


def test_what_is_no_checkpoint_says_what_it_is(tmp_path) -> None:
    with pytest.raises(ModelNotFound, match="There is no folder"):
        open_checkpoint(tmp_path / "nothing")
    with pytest.raises(BrokenCheckpoint, match=r"no config\.json"):
        open_checkpoint(tmp_path)


def test_a_config_cannot_choose_the_attention_kernel(tmp_path) -> None:
    write(
        tmp_path,
        {
            **LLAMA,
            "_attn_implementation": "someone/kernel",
            "attn_implementation": "x",
            "_attn_implementation_internal": "y",
            "text_config": {"_attn_implementation": "z", "hidden_size": 8},
        },
    )
    assert open_checkpoint(tmp_path).config == {**LLAMA, "text_config": {"hidden_size": 8}}


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 131072, "rope_scaling": {"factor": 8.0}}, 131072),
        ({"n_positions": 1024}, 1024),
        ({"seq_length": 8192}, 8192),
        ({"max_sequence_length": 2048}, 2048),
        ({"text_config": {"max_position_embeddings": 32768}, "max_position_embeddings": 77}, 32768),
        ({"text_config": {}, "max_position_embeddings": 77}, 77),
        ({"max_position_embeddings": -1, "n_positions": "12"}, 0),
        ({}, 0),
        ({"model_type": "t5", "n_positions": 512}, 2048),
    ],
)
def test_context_length(config: dict, length: int) -> None:
    assert context_length(config) == length


@pytest.mark.parametrize("key", ["num_hidden_layers", "num_layers", "n_layer", "n_layers"])
def test_a_claim_of_countless_layers_is_refused(tmp_path, key: str) -> None:
    """A plan counts what each layer keeps, so such a file would have taken all memory."""
    write(tmp_path, {"model_type": "llama", key: 10**12})
    with pytest.raises(BrokenCheckpoint, match="no model has so many layers"):
        open_checkpoint(tmp_path)
