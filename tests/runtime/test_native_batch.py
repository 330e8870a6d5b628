"""A batch whose prompts and steps share passes of our own step: each request comes to the tokens that it does alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from asking import Heard, alone, ask, text
from transformers import AutoModelForCausalLM

from chatcli.generation import Progress
from chatcli.runtime.continuous import Continuous
from chatcli.runtime.cpu import AS_TORCH_DOES
from chatcli.runtime.model import CausalModel
from chatcli.runtime.native.build import Library
from chatcli.runtime.native.passes import NativePasses
from chatcli.runtime.schedule import ALIKE


@pytest.fixture(scope="module")
def module(make_checkpoint: Callable[..., Path]) -> Any:
    folder = make_checkpoint("llama", seed=4, hidden_size=64)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def native(module: Any, compiled: Library, *, always: bool) -> tuple[CausalModel, list[int]]:
    """The model over our step, and of how many texts each pass was that had several."""
    model, passes, shared = CausalModel(module), NativePasses(module, compiled), list[int]()
    model.one_row, model.some_rows, model.together = passes.one_row(AS_TORCH_DOES), passes.some_rows, passes.together
    together = passes._step.texts

    def counted(texts: Any) -> torch.Tensor:
        shared.append(len(texts))
        return together(texts)

    passes._step.texts = counted  # type: ignore[method-assign]
    if always:
        passes._is_faster = lambda kind: True  # type: ignore[method-assign]
    return model, shared


@pytest.mark.parametrize("always", [True, False])
def test_tokens_are_those_of_each_alone(always: bool, module: Any, compiled: Library) -> None:
    """Prompts that share beginnings or go on with an answer, at random moments; also where each way has some passes."""
    draw, reference = Random(always), CausalModel(module)
    model, shared = native(module, compiled, always=always)
    batch, asked, system = Continuous(model), list[Heard](), text(9, 45)
    while len(asked) < 24 or batch.advance():
        for _ in range(draw.choice([0, 0, 1, 5]) if len(asked) < 24 else 0):
            beginning = draw.choice(
                [[], system, system[:20], [*asked[0].request.ids, *asked[0].tokens] if asked else []]
            )
            asked.append(ask([*beginning, *text(len(asked), draw.choice([1, 4, 30, 90, 300]))]))
            batch.add(asked[-1].request)
        batch.advance()
    for each in asked:
        assert each.tokens == alone(reference, list(each.request.ids))
    assert not always or max(shared) > 2


def test_what_prompts_have_in_common_is_read_once(module: Any, compiled: Library) -> None:
    model, shared = native(module, compiled, always=True)
    system, batch = text(9, 200), Continuous(model)
    first = ask(text(8, 5))
    asked = [ask([*system, *text(each, 20)]) for each in range(4)]
    for each in (first, *asked):
        batch.add(each.request)
        if each is first:
            batch.advance()
    while batch.advance():
        pass
    read = [told.total - told.done for each in asked if isinstance(told := each.told[0], Progress)]
    *others, most = sorted(read)
    assert most == 220 and max(others) <= 20 + ALIKE
    assert max(shared) > 2  # what is left of the others goes together


def test_who_leaves_in_the_middle_of_a_shared_pass_ends_it_and_the_others_are_read_again(
    module: Any, compiled: Library
) -> None:
    model, shared = native(module, compiled, always=True)
    first = ask(text(8, 5))
    batch = Continuous(model)
    batch.add(first.request)
    batch.advance()
    leaving, staying = ask(text(1, 20)), [ask(text(2, 30)), ask(text(3, 9))]
    hook = module.model.layers[1].register_forward_pre_hook(
        lambda *_: setattr(leaving.request, "cancelled", bool(shared))
    )
    for each in (staying[0], leaving, staying[1]):
        batch.add(each.request)
    while batch.advance():
        pass
    hook.remove()
    assert 3 in shared and not leaving.tokens
    for each in (first, *staying):
        assert each.tokens == alone(CausalModel(module), list(each.request.ids))
