from pathlib import Path

import pytest

from chatcli.errors import ModelNotFound
from chatcli.models.gguf_choice import choose, in_folder, models, quantisation
from chatcli.models.gguf_file import part_names

FILES = [f"Qwen3-0.6B-{kind}.gguf" for kind in ("Q2_K", "Q4_K_M", "UD-Q4_K_XL", "Q8_0", "BF16", "IQ4_XS")]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.Q4_K_M.gguf", "Q4_K_M"),
        ("Qwen3-0.6B-Q8_0.gguf", "Q8_0"),
        ("qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf", "Q4_K_M"),
        ("Q4_K_M/model-Q4_K_M-00001-of-00002.gguf", "Q4_K_M"),
        ("Phi-3-mini-4k-instruct-fp16.gguf", "F16"),
        ("gpt-oss-20b-MXFP4.gguf", "MXFP4"),
        ("x-UD-IQ2_XXS.gguf", "IQ2_XXS"),
        ("model.gguf", ""),
        ("Q1-report.gguf", ""),
    ],
)
def test_the_quantisation_in_a_name(name: str, kind: str) -> None:
    assert quantisation(name) == kind


@pytest.mark.parametrize(
    ("wanted", "file"),
    [
        ("", "Q4_K_M"),
        ("q8_0", "Q8_0"),
        ("Q4_K_XL", "UD-Q4_K_XL"),
        ("bf16", "BF16"),
        ("Qwen3-0.6B-Q2_K.gguf", "Q2_K"),
        ("qwen3-0.6b-iq4_xs", "IQ4_XS"),
    ],
)
def test_the_file_that_is_meant(wanted: str, file: str) -> None:
    assert choose("org/repo", FILES, wanted) == f"Qwen3-0.6B-{file}.gguf"


def test_a_wrong_name_lists_what_there_is() -> None:
    with pytest.raises(ModelNotFound, match=r"org/repo holds no GGUF file Q5_0; there are BF16, IQ4_XS, Q2_K, Q4_K_M"):
        choose("org/repo", FILES, "Q5_0")
    with pytest.raises(ModelNotFound, match="holds no GGUF model"):
        choose("org/repo", ["README.md", "mmproj-F16.gguf"])


def test_without_four_bits_the_next_better_is_usual() -> None:
    assert choose("r", ["m-Q2_K.gguf", "m-Q6_K.gguf", "m-F16.gguf"]) == "m-Q6_K.gguf"
    assert choose("r", ["m-Q2_K.gguf"]) == "m-Q2_K.gguf"


def test_several_models_are_not_guessed_among() -> None:
    with pytest.raises(ModelNotFound, match=r"several GGUF models: .* of a-Q4_0\.gguf, b-Q4_0"):
        choose("models", ["a-Q4_0.gguf", "b-Q4_0.gguf"])


def test_parts_and_projectors_are_no_models() -> None:
    there = ["x-00001-of-00002.gguf", "x-00002-of-00002.gguf", "mmproj-x.gguf", "x.imatrix.gguf", "x.txt"]
    assert models(there) == ["x-00001-of-00002.gguf"]


def test_a_folder_of_other_weights_is_not_for_its_gguf_file(tmp_path: Path) -> None:
    assert in_folder(tmp_path) is None
    (tmp_path / "m-Q8_0.gguf").touch()
    assert in_folder(tmp_path) == tmp_path / "m-Q8_0.gguf"
    assert in_folder(tmp_path, "q8_0") == tmp_path / "m-Q8_0.gguf"
    assert in_folder(tmp_path, "Q4_0") is None
    (tmp_path / "model.safetensors.index.json").touch()
    assert in_folder(tmp_path) is None
    assert in_folder(tmp_path, "q8_0") == tmp_path / "m-Q8_0.gguf"


def test_a_split_model_without_a_part_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "m-Q4_0-00001-of-00002.gguf").touch()
    assert in_folder(tmp_path) is None
    (tmp_path / "m-Q4_0-00002-of-00002.gguf").touch()
    assert in_folder(tmp_path) == tmp_path / "m-Q4_0-00001-of-00002.gguf"


@pytest.mark.parametrize("name", ["m-00001-of-00000.gguf", "m-00005-of-00002.gguf", "m-00001-of-99999.gguf"])
def test_a_name_that_claims_impossible_parts_is_one_file(name: str) -> None:
    """Such a name in a repository's listing ended in an IndexError, or in a hundred thousand names for each."""
    assert part_names(name) == (name,)
    assert models([name]) == [name]
