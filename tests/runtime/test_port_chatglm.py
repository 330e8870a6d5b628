"""ChatGLM and its successors against what the original code computed on tiny random checkpoints."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from chatcli.runtime import ports
from chatcli.runtime.kv import CACHE
from chatcli.runtime.ports.chatglm1 import ChatGLM1ForCausalLM, visible
from chatcli.runtime.ports.packed import unpack

GOLDEN = Path(__file__).parent.parent / "golden" / "chatglm"
WHOLE = ("chatglm1", "chatglm2", "chatglm3", "glm4")
QUANTISED = (
    *("chatglm1/int8", "chatglm1/int4", "chatglm1/int4-qe"),
    *("chatglm2/int8", "chatglm2/int4", "chatglm3/int8", "chatglm3/int4"),
)
CLOSE = 2e-4
"""What the issue allows in float32."""
PAD_1 = 3


@cache
def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / name / "golden.json").read_text(encoding="utf-8"))
    return found


@cache
def ported(name: str) -> Any:
    ports.register()
    return AutoModelForCausalLM.from_pretrained(GOLDEN / name, dtype=torch.float32).eval()


def cases() -> list[tuple[str, str]]:
    return [(name, case) for name in (*WHOLE, *QUANTISED) for case in recorded(name)["cases"]]


def padding(name: str, case: dict[str, Any]) -> torch.Tensor:
    if "attention_mask" in case:
        return torch.tensor(case["attention_mask"])
    return (torch.tensor(case["input_ids"]) != PAD_1).long()


@torch.no_grad()
def steps(model: Any, ids: torch.Tensor, mask: torch.Tensor | None, positions: list[Any]) -> list[torch.Tensor]:
    """Logits of the prompt and of four greedy tokens after it, at these positions; None where the model tells them."""
    made, cache = [], None
    for position in positions:
        told = None if position is None else torch.tensor(position)
        out = model(ids, attention_mask=mask, position_ids=told, use_cache=True, **{CACHE: cache})
        cache = out[CACHE]
        made.append(out.logits)
        ids = out.logits[:, -1:].argmax(-1)
        mask = None if mask is None else torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return made


def assert_close(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Logits of every step are those that were recorded; prints by how much they differ."""
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs.float(), atol=CLOSE, rtol=0)
    largest = max(float((ours - theirs.float()).abs().max()) for ours, theirs in pairs)
    print(f"largest |difference| of logits: {largest:.1e} of {max(float(t.abs().max()) for _, t in pairs):.1f}")


@pytest.mark.parametrize(("name", "case"), cases())
def test_prompt_and_cached_steps_equal_the_original(name: str, case: str) -> None:
    """The prompt's positions are the model's own where `generate` does not tell them."""
    told = recorded(name)["cases"][case]
    tensors = load_file(GOLDEN / name / "golden.safetensors")
    ids = torch.tensor(told["input_ids"])
    mask = padding(name, told) if case == "batch" else None
    positions = [step["position_ids"] for step in told["steps"]]
    if mask is None or name == "chatglm1":
        positions[0] = None
    made = steps(ported(name), ids, mask, positions)
    pairs = []
    for number, (logits, step) in enumerate(zip(made, told["steps"], strict=True)):
        expected = tensors[f"{case}.step{number}.logits"].float()
        ours = logits[:, -expected.shape[1] :]
        if mask is not None and number == 0:
            ours, expected = ours[mask.bool()], expected[mask.bool()]
        pairs.append((ours, expected))
        assert logits[:, -1].argmax(-1).tolist() == step["argmax_next"]
    assert_close(pairs)


@pytest.mark.parametrize("case", recorded("chatglm1")["cases"])
def test_the_first_chatglm_tells_the_recorded_positions_at_every_step(case: str) -> None:
    told = recorded("chatglm1")["cases"][case]
    final, mask = torch.tensor(told["final_ids"]), padding("chatglm1", told)
    for number, step in enumerate(told["steps"]):
        text = final[:, : mask.shape[1] + number]
        shown = torch.cat([mask, mask.new_ones(len(mask), number)], dim=1)
        fed = len(step["fed_input_ids"][0])
        assert ported("chatglm1").positions(text, shown)[..., -fed:].tolist() == step["position_ids"]


@pytest.mark.parametrize("case", ["single", "mask_infill", "sop_inside_prompt", "mask_and_gmask", "batch"])
def test_the_first_chatglm_sees_what_the_original_saw(case: str) -> None:
    told = recorded("chatglm1")["cases"][case]
    mask = padding("chatglm1", told)
    hidden = told["tokenizer_attention_mask"] if case == "batch" else told["steps"][0]["attention_mask"]
    block = torch.tensor(told["steps"][0]["position_ids"])[:, 1]
    seen = visible(block, mask if case == "batch" else None, 0)
    assert seen is not None
    rows = mask.bool()[:, None]  # what a pad sees means nothing
    assert torch.equal(seen[rows], torch.tensor(hidden)[rows] == 0)


@pytest.mark.parametrize(("name", "key"), [(n, k) for n in WHOLE for k in recorded(n) if k.startswith("generate_")])
def test_generate_of_transformers_gives_the_recorded_ids(name: str, key: str) -> None:
    told = recorded(name)[key]
    ids = torch.tensor(recorded(name)["cases"]["single"]["input_ids"])
    expected = told if name == "chatglm1" else told["out"]
    ends = {} if name == "chatglm1" else {"eos_token_id": told["eos"]}
    length = int(key.rpartition("_")[2].removeprefix("plus")) + (0 if name == "chatglm1" else ids.shape[1])
    out = ported(name).generate(ids, do_sample=False, max_length=length, num_beams=3 if "beam3" in key else 1, **ends)
    assert out.tolist() == expected


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("beams", [1, 3])
def test_a_padded_batch_generates_what_each_text_alone_does(name: str, beams: int) -> None:
    model, told = ported(name), recorded(name)["cases"]["batch"]
    ids, mask = torch.tensor(told["input_ids"]), padding(name, told)
    settings: dict[str, Any] = {"do_sample": False, "max_new_tokens": 8, "min_new_tokens": 8, "num_beams": beams}
    together = model.generate(ids, attention_mask=mask, **settings)
    for row, (text, shown) in enumerate(zip(ids, mask, strict=True)):
        alone = model.generate(text[shown.bool()][None], **settings)
        assert together[row, -8:].tolist() == alone[0, -8:].tolist()


@pytest.mark.parametrize("name", QUANTISED)
def test_quantised_matrices_unpack_to_the_originals_very_bits(name: str) -> None:
    expected = load_file(GOLDEN / name / "golden.safetensors")
    state = dict(ported(name).named_parameters())
    matrix = (
        "transformer.layers.0.mlp.dense_h_to_4h.weight"
        if "chatglm1" in name
        else "model.layers.0.mlp.gate_up_proj.weight"
    )
    assert torch.equal(state[matrix], expected["dequant.layers0.dense_h_to_4h"].float())
    if "dequant.word_embeddings" in expected:
        assert torch.equal(state["transformer.word_embeddings.weight"], expected["dequant.word_embeddings"].float())


def test_every_byte_holds_two_signed_columns() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(torch.int8)[:, None]
    expected = [[(b >> 4) - 16 * (b >= 128), (b & 15) - 16 * (b & 8 > 0)] for b in range(256)]
    assert unpack(every, torch.ones(256), 4).tolist() == expected


@pytest.fixture(scope="module", params=[(n, v) for n in WHOLE[:3] for v in ("plain", "projection")], ids="-".join)
def tuned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with the base model's tensors and those of a prefix, and what was recorded of it."""
    name, kind = request.param
    folder = tmp_path_factory.mktemp("tuned")
    files = [*(GOLDEN / name).glob("pytorch_model-*.bin"), GOLDEN / name / "ptuning" / f"pytorch_model_{kind}.bin"]
    tensors = {key: value for file in files for key, value in torch.load(file, weights_only=True).items()}
    torch.save(tensors, folder / "pytorch_model.bin")
    told = json.loads((GOLDEN / name / "ptuning" / f"golden_{kind}.json").read_text())
    config = json.loads((GOLDEN / name / "config.json").read_text())
    config |= {key: told[key] for key in ("pre_seq_len", "prefix_projection")}
    (folder / "config.json").write_text(json.dumps(config))
    ports.register()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, told, load_file(GOLDEN / name / "ptuning" / f"golden_{kind}.safetensors")


def test_a_tuned_prefix_gives_the_recorded_logits(tuned: Any) -> None:
    model, told, tensors = tuned
    positions = [None, *(step["position_ids"] for step in told["steps"][1:])]
    made = steps(model, torch.tensor(told["input_ids"]), None, positions)
    assert_close([(logits, tensors[f"single.step{number}.logits"]) for number, logits in enumerate(made)])
    for logits, step in zip(made, told["steps"], strict=True):
        assert logits[:, -1].argmax(-1).tolist() == step["argmax_next"]


def test_a_tuned_prefix_serves_generate_and_our_own_loop(tuned: Any) -> None:
    from chatcli.generation import DEFAULTS, GenerationSettings
    from chatcli.runtime.model import CausalModel

    model, told, _ = tuned
    (ids,) = told["input_ids"]
    expected = [step["argmax_next"][0] for step in told["steps"]]
    out = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=3)
    assert out[0, len(ids) :].tolist() == expected
    talking = CausalModel(model)
    for _ in range(2):  # the second time what was read is cached, the prefix before it included
        made = [
            i
            for i in talking.generate(ids, GenerationSettings(temperature=0.0).over(DEFAULTS), end=(), limit=3)
            if isinstance(i, int)
        ]
        assert made == expected


def test_a_stored_head_that_differs_is_ignored(tmp_path: Path) -> None:
    """The original ties its head; transformers 5 would keep two matrices that differ."""
    tensors = {k: v for f in (GOLDEN / "chatglm1").glob("*.bin") for k, v in torch.load(f, weights_only=True).items()}
    tensors["lm_head.weight"] = torch.randn_like(tensors["lm_head.weight"])
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_bytes((GOLDEN / "chatglm1" / "config.json").read_bytes())
    ports.register()
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize(
    "key", ["add_bias_linear", "fp32_residual_connection", "original_rope", "multi_query_attention"]
)
def test_arithmetic_that_no_published_model_has_is_refused(tmp_path: Path, key: str) -> None:
    config = json.loads((GOLDEN / "chatglm2" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, key: not config[key]}))
    ports.register()
    with pytest.raises(ValueError, match=key):
        AutoConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "rope"),
    [
        ("THUDM/chatglm2-6b-32k", ("linear", 10000.0)),
        ("THUDM/chatglm3-6b-32k", ("default", 500000.0)),
        ("THUDM/chatglm3-6b-128k", ("default", 500000.0)),
    ],
)
def test_a_longer_context_interpolates_positions_or_raises_the_base(tmp_path: Path, name: str, rope: Any) -> None:
    config = json.loads((GOLDEN / "chatglm3" / "config.json").read_text()) | {"_name_or_path": name, "rope_ratio": 50}
    (tmp_path / "config.json").write_text(json.dumps(config))
    ports.register()
    parameters = AutoConfig.from_pretrained(tmp_path).rope_parameters
    assert (parameters["rope_type"], parameters["rope_theta"]) == rope
    assert parameters.get("factor", 50.0) == 50.0


def test_masks_that_config_leaves_out_stand_before_sop() -> None:
    config = {k: v for k, v in json.loads((GOLDEN / "chatglm1" / "config.json").read_text()).items() if "mask" not in k}
    ports.register()
    found = AutoConfig.for_model("chatglm").from_dict(config)
    assert (found.mask_token_id, found.gmask_token_id) == (516, 517)


def test_a_prompt_without_sop_is_an_error() -> None:
    model = ported("chatglm1")
    assert isinstance(model, ChatGLM1ForCausalLM)
    with pytest.raises(ValueError, match="<sop>"):
        model(torch.tensor([[5, 41, 145]]))
