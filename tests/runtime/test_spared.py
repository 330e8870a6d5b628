"""What is spared at the start is there when it is wanted, and what is built without values has the right shapes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from chatcli.runtime.compiler import Compiler
from chatcli.runtime.spared import Uncompiled
from chatcli.runtime.unfilled import Unfilled

PACKAGE = """
from spared_parent.part.small import SMALL
from spared_parent.part import large
allowed = []
allow_in_graph = allowed.append
def compiled(function): return ("compiled", function)
"""
COMPILING = """
import sys, torch
from chatcli.runtime import loading
with loading():
    from transformers.integrations.moe import grouped_mm_experts_forward
    from transformers.modeling_utils import PreTrainedModel
assert "torch._dynamo.convert_frame" not in sys.modules and "torch.distributed.tensor" not in sys.modules
seen = []
@torch.compile(backend=lambda graph, inputs: seen.append(graph) or graph.forward)
def doubled(x):
    return x + x
assert doubled(torch.ones(2)).tolist() == [2.0, 2.0] and len(seen) == 1
assert torch._dynamo is sys.modules["torch._dynamo"] and torch._dynamo.__file__.endswith("__init__.py")
assert type(torch._dynamo) is type(torch) and torch._dynamo._trace_wrapped_higher_order_op
import torch._dynamo.utils
assert torch._dynamo.utils is sys.modules["torch._dynamo.utils"]
assert torch.distributed.is_available()
from torch.distributed.tensor import DTensor
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiler:
    """One for a package of three lines, in its place."""
    folder = tmp_path / "spared_parent" / "part"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    (folder / "__init__.py").write_text(PACKAGE)
    (folder / "small.py").write_text("SMALL = 1")
    (folder / "large.py").write_text("import spared_parent.part\nloads = vars().get('loads', 0) + 1")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("spared_parent", "spared_parent.part", "spared_parent.part.small", "spared_parent.part.large"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    spec = find_spec("spared_parent.part")
    assert spec
    made = Compiler(spec, sys.modules["spared_parent"], {"small"})
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    made.stand_in()
    return made


def test_marks_and_parts_do_not_bring_the_compiler_in(stand_in: Compiler) -> None:
    part, small = import_module("spared_parent.part"), import_module("spared_parent.part.small")

    def marked() -> None:
        """A function."""

    marked.__module__ = "torch.nn"
    assert part is stand_in and small.SMALL == 1
    assert part.assume_constant_result(marked) is part.allow_in_graph(marked) is marked
    assert part.disable(marked) is part.disable(recursive=False)(marked) is marked
    assert not hasattr(part, "__wrapped__")
    assert sys.modules["spared_parent.part"] is stand_in


def test_the_compiler_comes_when_it_is_wanted_and_hears_of_the_marks(stand_in: Compiler) -> None:
    import_module("spared_parent.part.small")

    def marked() -> None:
        """A function."""

    stand_in.allow_in_graph(marked)
    assert stand_in.compiled("f") == ("compiled", "f")
    package = sys.modules["spared_parent.part"]
    assert type(package) is ModuleType and package is sys.modules["spared_parent"].part
    assert package.allowed == [marked] and package.small.SMALL == 1
    assert stand_in.compiled("g") == ("compiled", "g") and package.allowed == [marked]


def test_a_large_part_of_the_compiler_comes_with_all_of_it_and_once(stand_in: Compiler) -> None:
    large = import_module("spared_parent.part.large")
    package = sys.modules["spared_parent.part"]
    assert type(package) is ModuleType and package.large is large is sys.modules["spared_parent.part.large"]
    assert large.loads == 1 and large.__spec__.origin == large.__file__
    assert not any(type(each).__module__ == "chatcli.runtime.compiler" for each in sys.meta_path)


@pytest.mark.slow
def test_torch_compiles_after_a_model_was_imported_without_its_compiler() -> None:
    ran = subprocess.run([sys.executable, "-c", COMPILING], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_a_pattern_is_compiled_when_it_is_used() -> None:
    late = Uncompiled(r"(?P<g0>layers\.(\d+))")
    assert deepcopy(late) is late and "_compiled" not in vars(late)
    assert late.search("model.layers.12.weight")[2] == "12"
    assert late.groupindex == {"g0": 1} and late.search("norm") is None
    with pytest.raises(re.error):
        Uncompiled("(").search("")


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Embedding(5, 4, padding_idx=1).weight,
        lambda: nn.Linear(3, 2).weight,
        lambda: 1.0 / (10000.0 ** (torch.arange(0, 8, 2, dtype=torch.float) / 8)),
        lambda: torch.arange(5) / 2,
        lambda: torch.arange(0.0, 2.5, 0.5),
        lambda: torch.arange(3, 9)[:, None] * torch.ones(1, 4),
        lambda: torch.empty_like(torch.empty(2, 3).t(), dtype=torch.float16),
        lambda: torch.empty(2, 3) * 2 / 3.0,
    ],
)
def test_shapes_are_those_that_torch_computes(build: Callable[[], Any]) -> None:
    with torch.device("meta"):
        wanted = build()
        with Unfilled():
            found = build()
    with Unfilled(), torch.device("meta"):
        also = build()
    for each in (found, also):
        assert (each.shape, each.dtype, each.stride(), each.device) == (
            wanted.shape,
            wanted.dtype,
            wanted.stride(),
            wanted.device,
        )


def test_a_tensor_with_memory_is_filled() -> None:
    with Unfilled():
        assert nn.Embedding(50, 4).weight.std() > 0.5
        assert (torch.arange(3) * 2.0).tolist() == [0.0, 2.0, 4.0]
        assert torch.empty_like(torch.empty(2, 3, device="meta"), device="cpu").device.type == "cpu"
