"""How many GPUs a replica needs, and how vLLM divides a model among them.

Arithmetic over the plan that `chatcli run` makes as well; it asks no machine anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chatcli.errors import OutOfMemory
from chatcli.load_request import LoadRequest
from chatcli.models.checkpoint import Checkpoint, text_config
from chatcli.models.plan import plan
from chatcli.models.plan.values import Device, amount
from chatcli.models.weights import Weights

FOR_WEIGHTS = 0.7
"""Share of a GPU that vLLM's weights may take; the rest is KV cache, without which there is no batch."""


@dataclass(frozen=True, slots=True)
class Division:
    """A model over many GPUs: every layer over `tensor` of them, the layers in `pipeline` parts one after another."""

    tensor: int = 1
    pipeline: int = 1

    @property
    def gpus(self) -> int:
        """All that are taken."""
        return self.tensor * self.pipeline


def gpus_needed(
    checkpoint: Checkpoint, weights: Weights, devices: Sequence[Device], request: LoadRequest, copies: int = 1
) -> int:
    """GPUs that one replica takes on a machine that has these devices; 0 where it computes on the CPU.

    There are `copies` replicas on the machine, which share its main memory.

    Raises:
        OutOfMemory: a replica fits nowhere.
    """
    shared = [replace(each, free_bytes=each.free_bytes // copies) if each.kind == "cpu" else each for each in devices]
    chosen = plan(checkpoint.config, weights.tensors, shared, request, stored_bytes=weights.bytes)
    if chosen.placement == "auto":
        return sum(isinstance(each, int) for each in chosen.max_memory)
    return int(chosen.device.startswith(("cuda", "xpu")))


def divided(config: Mapping[str, Any], weights_bytes: int, gpus: Sequence[Device]) -> Division:
    """How vLLM spreads weights of this size over machines that have these GPUs each.

    Tensor parallelism talks at every layer, so it stays within a machine, and it divides the attention heads evenly;
    what does not fit into one machine is a pipeline over several.

    Raises:
        OutOfMemory: there is no GPU, or not one layer's share would fit.
    """
    if not gpus:
        raise OutOfMemory("vLLM computes on GPUs, and there is none: leave --engine vllm out.")
    room = min(each.free_bytes for each in gpus) * FOR_WEIGHTS
    heads = int(text_config(config).get("num_attention_heads") or 1)
    layers = int(text_config(config).get("num_hidden_layers") or 1)
    tensor = 1
    while tensor * 2 <= len(gpus) and heads % (tensor * 2) == 0 and weights_bytes > room * tensor:
        tensor *= 2
    pipeline = max(-(-weights_bytes // int(room * tensor)), 1)
    if pipeline > layers:
        raise OutOfMemory(
            f"The weights take {amount(weights_bytes)}, and {len(gpus)} GPUs a machine with {amount(int(room))} each "
            "for weights are too small for a layer: use larger ones, or a smaller model."
        )
    return Division(tensor, pipeline)
