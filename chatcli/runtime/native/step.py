"""A model of the Llama shape computes its tokens by `step.c` instead of by its layers.

They follow each other in one text, or each ends a text of its own in a batch. It reads the weights and the cache
where they lie, so it can take over from the model, or leave off, between any two passes. It knows modules and
addresses; what the addresses are read for, and how, is `step.c`'s.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import CFUNCTYPE, POINTER, Array, Structure, c_float, c_int, c_int64, c_void_p
from functools import cache
from itertools import accumulate
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutputWithPast

from chatcli.runtime.columns import ColumnLayer
from chatcli.runtime.kv import CACHE, GrowingLayer, growing_cache
from chatcli.runtime.packing import GROUP
from chatcli.runtime.quantized_layers import Int4Linear, Int8Linear
from chatcli.runtime.upcast import UpcastLinear

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""Model types whose layers are what `step.c` computes; others may look alike and differ in a factor."""
LANES = 8
"""Numbers that `step.c` takes at once: a head has a multiple of it."""
FEW = 6
"""Tokens from which on it takes them in lanes, a multiple of that."""
MOST = 64
"""Tokens that it computes at once: a weight costs hardly more than its products then."""


class _Matrix(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("weight", "scale", "bias")),
        *((name, c_int64) for name in ("rows", "columns", "kind", "block")),
    ]


class _Layer(Structure):
    _fields_ = [
        *((name, _Matrix) for name in ("query", "key", "value", "output", "gate", "up", "down")),
        *((name, c_void_p) for name in ("before_attention", "before_mlp", "query_norm", "key_norm")),
    ]


class _Held(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("keys", "values")),
        *((name, c_int64) for name in ("key_text", "key_head", "key_token", "value_text", "value_head", "value_token")),
    ]


class _Fed(Structure):
    _fields_ = [(name, c_int64) for name in ("cache", "text", "first", "tokens")]


class _Model(Structure):
    _fields_ = [
        ("layers", POINTER(_Layer)),
        ("logits", _Matrix),
        ("last_norm", c_void_p),
        *((name, c_void_p) for name in ("stream", "normal", "last", "queries", "keys", "values", "attended", "inner")),
        *((name, c_int64) for name in ("depth", "hidden", "heads", "shared_heads", "width", "inner_width", "kind")),
        *((name, c_float) for name in ("epsilon", "scaling")),
    ]


_GIVEN_UP = CFUNCTYPE(c_int, c_int64)


class _Call(Structure):
    _fields_ = [
        ("held", POINTER(_Held)),
        ("fed", POINTER(_Fed)),
        *((name, c_void_p) for name in ("cosines", "sines", "which", "logits")),
        *((name, c_int64) for name in ("count", "lanes", "caches", "wanted", "wanted_lanes")),
        ("given_up", _GIVEN_UP),
    ]


_KINDS = {torch.float32: 0, torch.bfloat16: 1}
_INT8, _INT4 = 2, 3


_Place: TypeAlias = tuple[int, int, int, int]
"""The numbers of a `_Fed`."""


class NotOfThisShapeError(Exception):
    """A model has something that `step.c` does not compute; the message says what, as the end of a sentence."""


class Step:
    """Computes tokens of `model` over any cache that it can write to.

    Raises:
        NotOfThisShapeError: it has something that `step.c` does not compute.
    """

    def __init__(self, model: Any) -> None:
        _require(
            model.config.model_type in FAMILIES, f"the family {model.config.model_type}, only for {', '.join(FAMILIES)}"
        )
        _require("forward" not in vars(model), "a model in several places")
        _require(
            all(type(layer) is GrowingLayer for layer in growing_cache(model.config).layers),
            "attention to a sliding window",
        )
        self._run: Any = None
        self._own = model.forward
        self._kept: list[Any] = []  # everything whose address is given away
        try:
            self._embedding, self._rotary = model.get_input_embeddings(), model.model.rotary_emb
            # What a pass of several texts, or a part of a prompt, would tell them is not what each is told alone.
            _require(self._rotary.rope_type not in ("dynamic", "longrope"), "positions that change with the length")
            self.dtype = model.dtype
            self._described = self._describe(model)
        except AttributeError as error:  # an adapter lies around it, or its parts have other names by now
            raise NotOfThisShapeError(f"there is no step for a model like this ({error})") from error
        self._taken = torch.zeros(0, dtype=torch.int64)

    def link(self, library: ctypes.CDLL) -> None:
        """Compute by `library` from now on."""
        self._run = library.some_tokens
        self._run.restype = None
        library.pieces_of_work.restype = c_int64
        self._taken = torch.zeros(library.pieces_of_work(ctypes.byref(self._described)), dtype=torch.int64)

    def __call__(
        self,
        *,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        logits_to_keep: int = 0,
        **told: Any,
    ) -> CausalLMOutputWithPast:
        """What the model's own forward pass gives, with logits in float32.

        `input_ids` are (1, tokens) over a cache of one text, or (texts, 1) over `Columns`; logits (the same,
        vocabulary), of the last `logits_to_keep` or all. More texts than `MOST`, and masks of others, are the model's.

        Raises:
            GivenUpError: whatever a hook before a layer raises, which is asked as in the model's own pass.
        """
        layers, count = told[CACHE].layers, input_ids.numel()
        columns = layers[0].columns if type(layers[0]) is ColumnLayer else None
        if count > MOST if columns else attention_mask is not None or len(input_ids) > 1:
            found: CausalLMOutputWithPast = self._own(
                input_ids=input_ids,
                position_ids=position_ids,
                attention_mask=attention_mask,
                logits_to_keep=logits_to_keep,
                **told,
            )
            return found
        if columns:
            fed = [(0, text, columns.end - len(ids), len(ids) + 1) for text, ids in enumerate(columns.ids)]
        else:
            fed = self._let_in(layers, count)
        ids, which = input_ids.flatten(), range(0 if columns or not logits_to_keep else count - logits_to_keep, count)
        logits = self._logits(ids, position_ids, fed, _held([layers]), which)
        return CausalLMOutputWithPast(logits=logits.view(len(input_ids), -1, logits.shape[-1]))

    def texts(self, texts: Sequence[tuple[Any, Sequence[int]]]) -> Tensor:
        """Logits (texts, vocabulary) after new ids of each text, which join its cache; in as few passes as they fit in.

        Raises:
            GivenUpError: as a pass of its own.
        """
        fed = [each for at, (cache, ids) in enumerate(texts) for each in self._let_in(cache.layers, len(ids), at)]
        ends = [end - 1 for end in accumulate(len(ids) for _, ids in texts)]
        every = torch.tensor([each for _, ids in texts for each in ids])
        return self._logits(every, None, fed, _held([cache.layers for cache, _ in texts]), ends)

    def _logits(
        self, ids: Tensor, positions: Tensor | None, fed: Sequence[_Place], held: Array[_Held], which: Sequence[int]
    ) -> Tensor:
        """Logits (which, vocabulary) of some of `ids`, (tokens), at their `positions`, or behind so many others."""
        if positions is None:
            positions = torch.tensor([tokens - 1 for *_, tokens in fed])
        positions = positions.reshape(-1, 1)
        found = []
        for begin in range(0, len(fed), MOST):
            part = slice(begin, begin + MOST)
            wanted = [each - begin for each in which if begin <= each < begin + MOST]
            found.append(self._pass(ids[part], positions[part], fed[part], held, wanted))
        return torch.cat(found)

    def _pass(
        self, ids: Tensor, positions: Tensor, fed: Sequence[_Place], held: Array[_Held], which: Sequence[int]
    ) -> Tensor:
        """The same of up to `MOST` tokens."""
        count, lanes, wanted = len(fed), _lanes(len(fed)), len(which)
        stream = self._stream[: self._described.hidden * lanes].view(-1, lanes).zero_()
        stream[:, :count] = self._embedding(ids).T
        turns = torch.zeros(2, self._described.width, lanes)
        for turn, each in zip(turns, self._rotary(self._like, positions), strict=True):
            turn[:, :count] = each[:, 0].T
        logits, chosen = torch.empty(wanted, self._described.logits.rows), torch.tensor(which, dtype=torch.int64)
        errors: list[BaseException] = []
        call = _Call(
            held,
            (_Fed * count)(*(_Fed(*each) for each in fed)),
            *(each.data_ptr() for each in (*turns, chosen, logits)),
            *(count, lanes, len(held) // self._described.depth, wanted, _lanes(wanted)),
            self._asking(errors),
        )
        threads, taken = c_int64(torch.get_num_threads()), c_void_p(self._taken.zero_().data_ptr())
        self._run(ctypes.byref(self._described), ctypes.byref(call), threads, taken)
        for error in errors:
            raise error
        return logits

    def _let_in(self, layers: Any, count: int, cache: int = 0) -> list[_Place]:
        """Have each layer of a cache of one text make room for so many tokens more; returns where these are."""
        before, nothing = layers[0].get_seq_length(), self._nothing.expand(-1, -1, count, -1)
        for layer in layers:
            keys, values = layer.update(nothing, nothing)
            if keys.shape != values.shape or keys.shape[2] != before + count:
                raise RuntimeError(f"a layer of the cache that shows {tuple(keys.shape)} for {before + count} tokens")
        return [(cache, 0, 0, before + each + 1) for each in range(count)]

    def _asking(self, errors: list[BaseException]) -> Any:
        """What `step.c` calls before each layer: its hooks, which may want the pass to end; nothing without any."""
        if not any(layer._forward_pre_hooks for layer in self._layers):
            return _GIVEN_UP()

        def given_up(number: int) -> bool:
            layer = self._layers[number]
            try:
                for hook in list(layer._forward_pre_hooks.values()):
                    hook(layer, ())
            except BaseException as error:
                errors.append(error)
            return bool(errors)

        return _GIVEN_UP(given_up)

    def _describe(self, model: Any) -> _Model:
        """The model as `step.c` reads it, with room for what it works on."""
        self._layers = layers = list(model.model.layers)
        attention = layers[0].self_attn
        config, width = model.config, attention.head_dim
        heads, shared = config.num_attention_heads, config.num_key_value_heads
        dtype = self.dtype
        _require(dtype in _KINDS and model.device.type == "cpu", f"{dtype} on {model.device}")
        _require(config.hidden_act == "silu" and width % LANES == 0, f"{config.hidden_act} with heads of {width}")
        self._nothing = torch.zeros(1, shared, 1, width, dtype=dtype)
        self._like = torch.zeros(1, dtype=dtype)
        self._stream = self._room(config.hidden_size)
        return _Model(
            layers=(_Layer * len(layers))(*map(self._layer, layers)),
            logits=self._matrix(model.lm_head),
            last_norm=self._floats(model.model.norm.weight),
            stream=self._stream.data_ptr(),
            normal=self._room(config.hidden_size).data_ptr(),
            last=self._room(config.hidden_size).data_ptr(),
            queries=self._room(heads * width).data_ptr(),
            keys=self._room(shared * width).data_ptr(),
            values=self._room(shared * width).data_ptr(),
            attended=self._room(heads * width).data_ptr(),
            inner=self._room(config.intermediate_size).data_ptr(),
            depth=len(layers),
            hidden=config.hidden_size,
            heads=heads,
            shared_heads=shared,
            width=width,
            inner_width=config.intermediate_size,
            kind=_KINDS[dtype],
            epsilon=config.rms_norm_eps,
            scaling=attention.scaling,
        )

    def _layer(self, layer: Any) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        norms = [getattr(getattr(attention, name, None), "weight", None) for name in ("q_norm", "k_norm")]
        return _Layer(
            *(self._matrix(getattr(attention, f"{name}_proj")) for name in "qkvo"),
            *(self._matrix(getattr(mlp, f"{name}_proj")) for name in ("gate", "up", "down")),
            self._floats(layer.input_layernorm.weight),
            self._floats(layer.post_attention_layernorm.weight),
            *map(self._floats, norms),
        )

    def _matrix(self, layer: Any) -> _Matrix:
        """The weight of a linear layer where it lies."""
        kind, scale, block = _KINDS.get(layer.weight.dtype, -1), None, 0
        rows, columns = layer.out_features, layer.in_features
        if type(layer) is Int8Linear:
            kind, scale = _INT8, layer.scale
        elif type(layer) is Int4Linear:
            kind, scale, block = _INT4, layer.scale, int4_block()
            _require(
                block and rows % block == 0 and scale.shape == (columns // GROUP, rows, 2), "int4 in another layout"
            )
        else:
            _require(
                type(layer) in (nn.Linear, UpcastLinear) and kind >= 0, f"layers of the kind {type(layer).__name__}"
            )
        for each in (layer.weight,) if scale is None else (layer.weight, scale):
            _require(each.is_contiguous() and each.device.type == "cpu", f"weights on {each.device}")
        _require(getattr(layer, "order", None) is None, "columns in another order")
        _require(scale is None or scale.dtype == torch.bfloat16, "such scales")
        address = None if scale is None else scale.data_ptr()
        return _Matrix(layer.weight.data_ptr(), address, self._floats(layer.bias), rows, columns, kind, block)

    def _floats(self, numbers: Tensor | None) -> int | None:
        """Where a float32 copy of a few numbers lies."""
        if numbers is None:
            return None
        self._kept.append(numbers.detach().float().contiguous().clone())
        return int(self._kept[-1].data_ptr())

    def _room(self, numbers: int) -> Tensor:
        """Room for so many numbers of each token."""
        self._kept.append(torch.zeros(numbers * MOST))
        room: Tensor = self._kept[-1]
        return room


def _lanes(tokens: int) -> int:
    """In how many lanes so many tokens lie."""
    return tokens if tokens < FEW else -(-tokens // LANES) * LANES


def _held(caches: Sequence[Any]) -> Array[_Held]:
    """Where the layers of each cache keep keys and values: (layers, caches)."""
    found = (_Held * (len(caches) * len(caches[0])))()
    for held, layer in zip(found, (layer for same in zip(*caches, strict=True) for layer in same), strict=True):
        keys, values = layer.keys, layer.values
        held.keys, held.values = keys.data_ptr(), values.data_ptr()
        held.key_text, held.key_head, held.key_token, _ = keys.stride()
        held.value_text, held.value_head, held.value_token, _ = values.stride()
    return found


def _require(true: object, what: str) -> None:
    if not true:
        raise NotOfThisShapeError(f"there is no step for {what}")


@cache
def int4_block() -> int:
    """How many rows torch's int4 layout puts side by side on this processor; 0 where it is another layout."""
    codes = torch.randint(16, (64, GROUP), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    try:
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1).flatten()
    except (RuntimeError, NotImplementedError, AttributeError):
        return 0
    for block in (32, 64):
        low, high = codes.unflatten(0, (-1, 2, block // 2)).transpose(2, 3).unbind(1)
        if torch.equal(packed, (high << 4 | low).to(torch.uint8).flatten()):
            return block
    return 0
