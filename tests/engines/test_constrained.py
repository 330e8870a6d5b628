"""Answers held to a schema, a pattern or choices, from a model with random weights: every one conforms."""

from __future__ import annotations

import json
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from chatcli.adapters.table import shipped
from chatcli.constraints import choice, grammar, json_schema, regex
from chatcli.conversation import Conversation, Message
from chatcli.engines.local import LocalEngine, open_local
from chatcli.errors import UsageError
from chatcli.generation import Constraint, Finished, GenerationSettings, Text
from chatcli.models.chatglm import Variant, pieces
from chatcli.models.checkpoint import open_checkpoint
from chatcli.runtime.constrain import TokenConstraint, Vocabulary

QUESTION = Conversation((Message("user", "Hello"),))


@pytest.fixture(scope="module")
def engine(tiny_llama: Path) -> LocalEngine:
    return open_local(open_checkpoint(tiny_llama), shipped(), lambda progress: None)


def answer(engine: LocalEngine, constraint: Constraint, **settings: Any) -> tuple[str, Finished]:
    with closing(engine.stream(QUESTION, GenerationSettings(constraint=constraint, **settings))) as stream:
        events = list(stream)
    finished = events[-1]
    assert isinstance(finished, Finished)
    return "".join(event.text for event in events if isinstance(event, Text)), finished


def random_schema(chance: random.Random, depth: int = 0) -> dict[str, Any]:
    """Any schema of the keywords that people use, three levels deep."""
    simple = ["string", "integer", "number", "boolean", "null", "enum", "pattern", "const"]
    kind = chance.choice(simple if depth > 2 else [*simple, "object", "object", "object", "array", "array", "anyOf"])
    if kind == "string":
        low = chance.randrange(4)
        return {"type": "string", "minLength": low, "maxLength": low + chance.randrange(1, 9)}
    if kind in ("integer", "number"):
        low = chance.randrange(-50, 50)
        return {"type": kind, "minimum": low, "maximum": low + chance.randrange(100)}
    if kind == "enum":
        return {"enum": chance.sample(["red", "绿", 'a "quote"', 7, None, True, 1.5], 3)}
    if kind == "pattern":
        return {"type": "string", "pattern": chance.choice(["^[a-z]{2,5}$", "^\\d{4}-\\d{2}$", "^(yes|no)$"])}
    if kind == "const":
        return {"const": chance.choice(["fixed", 3, ["a", 1], {"k": "v"}])}
    if kind == "array":
        low = chance.randrange(3)
        return {"type": "array", "items": random_schema(chance, depth + 1), "minItems": low, "maxItems": low + 2}
    if kind == "anyOf":
        return {"anyOf": [random_schema(chance, depth + 1) for _ in range(2)]}
    if kind == "object":
        names = chance.sample(["name", "age", "tags", "città", "a b", "x"], chance.randrange(1, 5))
        return {
            "type": "object",
            "properties": {name: random_schema(chance, depth + 1) for name in names},
            "required": chance.sample(names, chance.randrange(len(names) + 1)),
            "additionalProperties": False,
        }
    return {"type": kind}


@pytest.mark.slow
def test_two_hundred_random_schemas_give_two_hundred_valid_answers(engine: LocalEngine) -> None:
    chance = random.Random(7)
    for number in range(200):
        schema = random_schema(chance)
        text, finished = answer(engine, json_schema(json.dumps(schema)), temperature=1.0, seed=number)
        assert finished.reason == "stop", (schema, text)
        jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize("limit", [12, 40])
def test_a_text_without_end_is_closed_before_the_limit(engine: LocalEngine, limit: int) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    text, finished = answer(engine, json_schema(json.dumps(schema)), temperature=1.0, seed=1, max_new_tokens=limit)
    assert finished.reason == "stop"
    assert isinstance(json.loads(text)["a"], str)


def test_a_pattern_and_choices_hold(engine: LocalEngine) -> None:
    text, _ = answer(engine, regex("[a-f]{3}-\\d+"), temperature=1.0, seed=3, max_new_tokens=40)
    assert re.fullmatch("[a-f]{3}-\\d+", text)
    found = {answer(engine, choice(["yes", "no", '说 "不"']), temperature=1.5, seed=seed)[0] for seed in range(8)}
    assert len(found) > 1
    assert found <= {"yes", "no", '说 "不"'}


def test_a_stop_string_of_the_family_does_not_cut_a_constrained_answer(engine: LocalEngine) -> None:
    text, _ = answer(engine, choice(["before STOP after"]), stop=("STOP",))
    assert text == "before STOP after"


def test_many_that_ask_at_once_read_the_vocabulary_once(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes seconds, and every thread of a server read it for itself."""
    read = [0]

    class Counted(Vocabulary):
        def __init__(self, *given: Any) -> None:
            read[0] += 1
            time.sleep(0.2)  # long enough for the others to come to it
            super().__init__(*given)

    monkeypatch.setattr("chatcli.runtime.constrain.Vocabulary", Counted)
    monkeypatch.setattr(engine.model, "_vocabulary", None)
    with ThreadPoolExecutor(4) as threads:
        made = [
            threads.submit(engine._constraint, GenerationSettings(constraint=choice(["a"])), 9, (), inside=False)
            for _ in range(4)
        ]
    assert all(each.result() for each in made) and read == [1]


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ('{"type": "strin"}', "strin"),
        ('{"not": {"type": "string"}}', "not"),
        ('{"type": "string", "minLength": 5, "maxLength": 2}', "minLength"),
        ('{"type": "array", "uniqueItems": true}', "uniqueItems"),
        ("[1]", "object"),
        ('{"minimum": NaN}', "cannot be followed"),
        ('{"items": ' * 150 + "{}" + "}" * 150, "cannot be followed"),
        ('{"type": ', "no JSON"),
        ("missing.json", "missing.json"),
    ],
)
def test_a_schema_that_cannot_be_followed_is_a_usage_error_that_names_the_keyword(schema: str, named: str) -> None:
    with pytest.raises(UsageError, match=re.escape(named)):
        json_schema(schema)


@pytest.mark.parametrize("pattern", ["a(b", "(?=a)b", "x*" * 2000])
def test_a_pattern_that_cannot_be_followed_is_a_usage_error(pattern: str) -> None:
    with pytest.raises(UsageError, match="--regex"):
        regex(pattern)


def test_choices_may_not_be_empty() -> None:
    for choices in ([], ["a", ""]):
        with pytest.raises(UsageError, match="--choice"):
            choice(choices)


def test_there_are_as_many_logprobs_as_tokens_where_the_model_ends_its_answer(engine: LocalEngine) -> None:
    text, finished = answer(engine, choice(["left", "right"]), temperature=0, top_logprobs=0)
    assert finished.reason == "stop" and len(finished.logprobs) == finished.completion_tokens
    assert "".join(each.text for each in finished.logprobs) == text


def test_logprobs_are_those_of_the_plain_model(engine: LocalEngine) -> None:
    import torch

    with closing(engine.stream(QUESTION, GenerationSettings(temperature=0, max_new_tokens=5, top_logprobs=2))) as said:
        finished = list(said)[-1]
    assert isinstance(finished, Finished)
    assert len(finished.logprobs) == finished.completion_tokens == 5
    ids = engine._encode(QUESTION, GenerationSettings())
    with torch.inference_mode():
        for each in finished.logprobs:
            expected = engine._model._model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
            assert each.logprob == pytest.approx(float(expected[each.id]), abs=1e-3)
            assert each.top[0].id == int(expected.argmax()) == each.id
            assert [each.top[1].logprob] == pytest.approx([float(expected.topk(2).values[1])], abs=1e-3)
            ids.append(each.id)


@pytest.mark.parametrize("family", ["chatglm", "chatglm2", "chatglm3"])
def test_a_sentencepiece_vocabulary_is_held_to_a_constraint_too(family: Variant) -> None:
    """Its spaces, blanks in a row, newlines and single bytes are spelled as they will be read."""
    folder = {"chatglm": "chatglm1"}.get(family, family)
    tokenizer = pieces(family, Path(__file__).parents[1] / "golden" / "chatglm" / folder)
    end = tokenizer.token_to_id("</s>")
    assert end is not None
    size = len(tokenizer) + 5  # a model's rows are often more than its tokens
    vocabulary = Vocabulary(tokenizer, [end], size)
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}
    schema |= {"required": ["a", "b"], "additionalProperties": False}
    choices = ["yes", "也许 不", "a\nb  c", "🚀"]
    random_logits = torch.Generator().manual_seed(5)

    def drawn(constraint: Constraint) -> str:
        held, ids = TokenConstraint(vocabulary, grammar(constraint), 200), list[int]()
        while len(ids) < 200:
            logits = held.allow(torch.randn(size, generator=random_logits))
            ids.append(int(logits.argmax()))
            held.take(ids[-1])
            if ids[-1] == end:
                return tokenizer.decode(ids[:-1])
        raise AssertionError(tokenizer.decode(ids))

    for _ in range(5):
        jsonschema.validate(json.loads(drawn(json_schema(json.dumps(schema)))), schema)
        assert drawn(choice(choices)) in choices
        assert re.fullmatch(r"[0-9]{3} [a-z]{2}x", drawn(regex("[0-9]{3} [a-z]{2}x")))
