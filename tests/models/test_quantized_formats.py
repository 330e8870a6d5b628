"""A checkpoint that is quantised already: what is said where it cannot be read, before anything heavy is imported."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from chatcli.errors import ModelError
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.quantized import FORMATS, quant_method, require_readable

MISSING = [method for method, form in FORMATS.items() if form.module and not find_spec(form.module)]


def read(folder: Path, said: Any, key: str = "quantization_config") -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", key: said}))
    require_readable(open_checkpoint(folder, "org/model"))


@pytest.mark.parametrize("method", MISSING)
def test_a_missing_package_is_named(tmp_path: Path, method: str) -> None:
    form = FORMATS[method]
    with pytest.raises(ModelError) as raised:
        read(tmp_path, {"quant_method": method})
    assert str(raised.value) == (
        f"org/model is quantised in the format {form.title}, whose package is not installed: "
        f'pip install "{form.package}".'
    )
    assert raised.value.exit_code == 3


def test_some_package_is_missing_here() -> None:
    assert MISSING  # else nothing above was tested


@pytest.mark.parametrize("method", ["gptq", "awq", "fp8", "mxfp4"])
def test_formats_that_need_no_package_pass(tmp_path: Path, method: str) -> None:
    read(tmp_path, {"quant_method": method})


def test_an_unknown_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"^org/model is quantised in the format 'of-tomorrow', which nothing here reads"
    ):
        read(tmp_path, {"quant_method": "of-tomorrow"})


def test_old_bitsandbytes_files_tell_no_method() -> None:
    assert quant_method({"quantization_config": {"load_in_4bit": True}}) == "bitsandbytes"


def test_the_language_part_of_a_model_that_sees_tells_it_too() -> None:
    assert quant_method({"text_config": {"quantization_config": {"quant_method": "awq"}}}) == "awq"


def test_a_checkpoint_that_is_not_quantised_passes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    require_readable(open_checkpoint(tmp_path))


def test_every_extra_that_is_named_exists() -> None:
    """The table and pyproject.toml agree."""
    text = (Path(__file__).parent.parent.parent / "pyproject.toml").read_text()
    for form in FORMATS.values():
        if form.package.startswith("chatcli["):
            assert f"\n{form.package[8:-1]} = [" in text
