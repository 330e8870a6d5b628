"""Calls of tools found in answers: every family's, however the stream is cut; what is none stays text."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatcli.conversation import Tool, ToolCall
from chatcli.generation import Text, ToolCalled
from chatcli.streaming.tool_calls import ToolSplitter
from chatcli.streaming.tool_formats import FORMATS, ToolFormat

TOOLS = (
    Tool(
        "get_weather",
        parameters='{"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}',
    ),
    Tool("run"),
)
Said = list[str | tuple[str, dict[str, Any]]]


def split(form: ToolFormat, pieces: list[str], unshown: tuple[str, ...] = (), tools: tuple[Tool, ...] = TOOLS) -> Said:
    """What came out, texts in a row as one."""
    splitter, said = ToolSplitter(form, tools, unshown), Said()
    for event in [*(each for piece in pieces for each in splitter.push(piece)), *splitter.flush()]:
        if isinstance(event, ToolCalled):
            said.append((event.call.name, json.loads(event.call.arguments)))
        elif said and isinstance(said[-1], str):
            said[-1] += event.text
        else:
            said.append(event.text)
    return said


def cut(text: str, at: list[int]) -> list[str]:
    edges = [0, *sorted({place % (len(text) + 1) for place in at}), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges)]


WEATHER, RUN = ("get_weather", {"city": "北京", "days": 2}), ("run", {})
# As the families' documentation and chat templates have it.
EXAMPLES: dict[str, list[tuple[str, Said]]] = {
    "hermes": [
        ('<tool_call>\n{"name": "get_weather", "arguments": {"city": "北京", "days": 2}}\n</tool_call>', [WEATHER]),
        (
            'I look.\n\n<tool_call>\n{"arguments": {}, "name": "run"}\n</tool_call>\n<tool_call>\n'
            '{"name": "get_weather", "arguments": "{\\"city\\": \\"北京\\", \\"days\\": 2}"}\n</tool_call>',
            ["I look.", RUN, WEATHER],
        ),
        ('<tool_call>[{"name": "run", "arguments": {}}, {"name": "run"}]</tool_call>', [RUN, RUN]),
        ('<tool_call>\n{"name": "run", "arguments": {}}', [RUN]),
        ('<tool_call>{"name": "run"}</tool_call> Wait.', [RUN, " Wait."]),
        ('<tool_call>\n{"name": "run", "arguments": {}\n</tool_call>', None),
        ("Write <tool_call> and then </tool_call>.", None),
        ('<tool_call>{"name": 3}</tool_call>', None),
        ('<tool_call>{"name": "run", "arguments": [1]}</tool_call>', None),
        ('<tool_call>{"name": "run", "arguments": {"x": NaN}}</tool_call>', None),
        ('<tool_call> no <tool_call>{"name": "run"}</tool_call>', ["<tool_call> no", RUN]),
        ("<tool_call>" + "[" * 100_000 + "</tool_call>", None),
    ],
    "qwen3-coder": [
        (
            "<tool_call>\n<function=get_weather>\n<parameter=city>\n北京\n</parameter>\n<parameter=days>\n2\n</parameter>\n"
            "</function>\n</tool_call>",
            [WEATHER],
        ),
        ("<tool_call>\n<function=run>\n</function>\n</tool_call>", [RUN]),
        (
            "<tool_call>\n<function=run>\n<parameter=text>\na <b>\n\n</tool_call>\n</parameter>\n</function>\n"
            "</tool_call>",
            [("run", {"text": "a <b>\n\n</tool_call>"})],
        ),
        ("<tool_call>\n<function=run>\nnow\n</function>\n</tool_call>", None),
        ("<tool_call>\n<function=run>\n<parameter=x>\n1\n</parameter>\nnow</function></tool_call>", None),
        ("<tool_call><function=run>" + "<parameter=x>" * 20_000 + "</tool_call>", None),
    ],
    "glm-4.5": [
        (
            "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>北京</arg_value>\n<arg_key>days</arg_key>\n"
            "<arg_value>2</arg_value>\n</tool_call>",
            [WEATHER],
        ),
        ("\n<tool_call>run\n</tool_call>\n<tool_call>run</tool_call>", [RUN, RUN]),
        ("<tool_call>nothing</tool_call>", None),
    ],
    "llama-3": [
        ('{"name": "get_weather", "parameters": {"city": "北京", "days": 2}}', [WEATHER]),
        ('<|python_tag|>{"name": "run", "parameters": {}}; {"name": "run", "parameters": {}}', [RUN, RUN]),
        ('{"type": "function", "function": {"name": "run", "parameters": {}}}', [RUN]),
        ('{"name": "Ada", "parameters": {}}', None),
        ('{"answer": 42}', None),
        ('The object is {"name": "run", "parameters": {}}.', None),
    ],
    "llama-4": [
        ("[get_weather(city='北京', days=2), run()]", [WEATHER, RUN]),
        ("<|python_start|>[run(x=[true, null, {'a': 1.5}])]<|python_end|>", [("run", {"x": [True, None, {"a": 1.5}]})]),
        ("[1] is a source.", None),
        ("[run(print(1))]", None),
    ],
    "mistral": [
        ('[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "北京", "days": 2}, "id": "a1B2"}]', [WEATHER]),
        ('[TOOL_CALLS][{"name": "run", "arguments": {}}, {"name": "run", "arguments": {}}]', [RUN, RUN]),
    ],
    "mistral-v11": [
        ('[TOOL_CALLS]get_weather[ARGS]{"city": "北京", "days": 2}[TOOL_CALLS]run[ARGS]{}', [WEATHER, RUN]),
        ('Well.[TOOL_CALLS]run[CALL_ID]a1B2c3D4e[ARGS]{"x": "]}"}', ["Well.", ("run", {"x": "]}"})]),
        ("[TOOL_CALLS]run", None),
    ],
    "deepseek": [
        (
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
            '{"city": "北京", "days": 2}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>run\n'
            "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            [WEATHER, RUN],
        )
    ],
    "deepseek-v3.1": [
        (
            'Yes.\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "北京", "days": 2}'
            "<｜tool▁call▁end｜><｜tool▁call▁begin｜>run<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            ["Yes.", WEATHER, RUN],
        )
    ],
    "gpt-oss": [
        (
            '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "北京", "days": 2}',
            [WEATHER],
        ),
        ("to=functions." + "a" * 50_000 + "}", None),
        (" to=functions.run<|channel|>commentary json<|message|>{}", [RUN]),
        (
            "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>commentary to=functions.run "
            "<|constrain|>json<|message|>{}",
            ["I look.", RUN],
        ),
    ],
    "internlm2": [
        ('I look.<|action_start|><|plugin|>\n{"name": "run", "parameters": {}}<|action_end|>\n', ["I look.", RUN]),
    ],
    "command-r": [
        ('Action: ```json\n[\n    {\n        "tool_name": "run",\n        "parameters": {}\n    }\n]```', [RUN]),
        ('Action: ```json\n[{"tool_name": "directly_answer", "parameters": {}}]\n```Answer: Yes.', ["Answer: Yes."]),
    ],
    "command-a": [
        (
            '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "run", "parameters": {}}\n]<|END_ACTION|>',
            [RUN],
        )
    ],
    "granite": [('<|tool_call|>[{"name": "run", "arguments": {}}, {"name": "run", "arguments": {}}]', [RUN, RUN])],
    "phi-4-mini": [
        ('<|tool_call|>[{"name": "run", "arguments": {}}]<|/tool_call|>', [RUN]),
        ('<|tool_call|>{"name": "run", "arguments": {}}<|/tool_call|>', [RUN]),
    ],
    "glm-4": [
        ('get_weather\n{"city": "北京", "days": 2}', [WEATHER]),
        ("\nget_weather is a tool.", None),
        ("get_weather\n\nis a tool.", None),
        ('\nI look.<|assistant|>run\n{"x": {}}', ["\nI look.", ("run", {"x": {}})]),
        ('other\n{"city": "北京"}', None),
    ],
    "chatglm3": [
        ("get_weather\n ```python\ntool_call(city='北京', days=2)\n```", [WEATHER]),
        ("run\n```python\ntool_call(x={'a': 1}, y='}')\n```", [("run", {"x": {"a": 1}, "y": "}"})]),
        ("run\n ```python\ntool_call(**{'x': 1})\n```", None),
    ],
}  # fmt: skip
CASES = [(name, text, said) for name, cases in EXAMPLES.items() for text, said in cases]


def test_every_format_has_examples() -> None:
    assert set(EXAMPLES) == set(FORMATS)


@pytest.mark.parametrize(("name", "text", "said"), CASES, ids=[f"{name}-{text[:24]}" for name, text, _ in CASES])
def test_what_the_families_write(name: str, text: str, said: Said | None) -> None:
    expected = [text] if said is None else said
    assert split(FORMATS[name], [text]) == expected
    if len(text) < 1000:
        assert split(FORMATS[name], list(text)) == expected


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
KEYS = st.from_regex("[a-z_]{1,6}", fullmatch=True).filter(lambda key: key not in ("in", "is", "if", "as", "or"))
TRAPS = st.sampled_from(["</tool_call>", "}", "]}", '"', "```", "[ARGS]", "<｜tool▁call▁end｜>", "\\", "'", "\n", ");"])
TEXTS = st.lists(TRAPS | st.text(max_size=3), max_size=4).map("".join)
LETTERS = st.text(st.characters(codec="ascii", categories=("L", "Nd")), min_size=1, max_size=8)


@given(
    name=st.sampled_from(sorted(FORMATS)),
    city=TEXTS,
    more=st.dictionaries(KEYS, VALUES, max_size=2),
    words=st.sampled_from(["", "Let me look."]),
    at=st.lists(st.integers(0, 400), max_size=30),
)
@example(name="hermes", city="a</tool_call>b", more={}, words="", at=[30])
def test_what_is_written_is_read_wherever_it_is_cut(
    name: str, city: str, more: dict[str, Any], words: str, at: list[int]
) -> None:
    form = FORMATS[name]
    if form.style in ("parameter", "arg_key"):  # values without quotes: texts of other tools' types read as JSON
        city = city.replace("<", "").replace(">", "")
        more = {key: value for key, value in more.items() if not isinstance(value, str)}
        more = json.loads(json.dumps(more).replace("<", "").replace(">", ""))
    if form.style == "python" or form.closes == ("```",) or form.shed or form.opens == ("<｜tool▁call▁begin｜>",):
        city = city.replace("```", "").replace("<｜tool▁call▁end｜>", "")
    arguments = {"city": city, **{key: value for key, value in more.items() if key != "city"}}
    calls = [ToolCall("1", "get_weather", json.dumps(arguments)), ToolCall("2", "run", "{}")]
    calls = calls if form.several else calls[:1]
    words = "" if form.begins and name != "gpt-oss" else words
    text = words + "\n" * bool(words) + form.written(calls)
    expected: Said = [("get_weather", arguments), ("run", {})][: len(calls)]
    assert split(form, cut(text, at)) == ([words] if words else []) + expected


PIECES = st.lists(
    st.sampled_from(
        [
            *(
                "<tool_call>",
                "</tool_call>",
                "[TOOL_CALLS]",
                "[ARGS]",
                "<|python_tag|>",
                "<|tool_call|>",
                "<|assistant|>",
            ),
            *(
                "<｜tool▁calls▁begin｜>",
                "<｜tool▁call▁begin｜>",
                "<｜tool▁sep｜>",
                "<｜tool▁call▁end｜>",
                "to=functions.",
            ),
            *(
                '{"name": "run", "arguments": {}}',
                '{"name": "run", "parameters": {}}',
                '{"a": "',
                "run",
                "run\n",
                "[run(",
            ),
            *(
                "<function=run>",
                "</function>",
                "<arg_key>",
                "```",
                "```json\n",
                "Action: ",
                "[",
                "]",
                "{",
                "}",
                ")",
                '"',
            ),
            *(" ", "\n", "x", "北", "; ", ", "),
        ]
    ),
    max_size=9,
).map("".join)


@given(name=st.sampled_from(sorted(FORMATS)), text=PIECES, at=st.lists(st.integers(0, 200), max_size=12))
def test_where_a_stream_is_cut_never_matters_and_no_word_is_lost(name: str, text: str, at: list[int]) -> None:
    form = FORMATS[name]
    whole = split(form, [text])
    assert split(form, cut(text, at)) == whole == split(form, list(text))
    if all(isinstance(each, str) for each in whole):
        left = text.replace(form.anew, "") if form.anew else text
        for shed in form.shed:
            left = left.replace(shed, "")
        assert "".join(map(str, whole)).split() == left.split() or name == "command-r"


def test_text_comes_at_once_and_a_call_when_it_is_whole() -> None:
    splitter = ToolSplitter(FORMATS["hermes"], TOOLS)
    assert splitter.push("Hello") == [Text("Hello")]
    assert splitter.push(" there <") == [Text(" there")]
    assert splitter.push("b>") == [Text(" <b>")]
    assert splitter.push('<tool_call>{"name": "run"}</tool_call') == []
    (called,) = splitter.push(">")
    assert isinstance(called, ToolCalled)
    assert (called.call.name, called.call.arguments) == ("run", "{}")


def test_special_tokens_of_the_frame_are_hidden_where_there_is_no_call() -> None:
    pieces = ["[TOOL_CALLS]", "What", " [ARGS]", " now", "?"]
    assert split(FORMATS["mistral-v11"], pieces, unshown=("[TOOL_CALLS]", "[ARGS]")) == ["What  now?"]


def test_ids_are_unique_and_as_the_family_wants_them() -> None:
    made = {FORMATS["hermes"].new_id() for _ in range(50)}
    assert len(made) == 50
    assert all(len(each) == 29 and each.startswith("call_") and each[5:].isalnum() for each in made)
    assert {len(FORMATS[name].new_id()) for name in ("mistral", "mistral-v11")} == {9}


GOLDEN = Path(__file__).parent.parent / "golden" / "chatglm" / "chatglm3" / "golden.json"
RECORDED: list[dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))["process_response"]


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case["output"][:16])
def test_the_recorded_replies_of_chatglm3(case: dict[str, Any]) -> None:
    """As its own code read them; where no tool was offered, that took a first line for a tool's name all the same."""
    offered = tuple(Tool(each["name"]) for each in case["history"][0].get("tools", ()))
    said = split(FORMATS["chatglm3"], [case["output"]], tools=offered)
    if isinstance(case["content"], dict) and offered:
        assert said[-1] == (case["content"]["name"], case["content"]["parameters"])
        assert [str(each).strip() for each in said[:-1]] == [
            each["content"] for each in case["history_out"][len(case["history"]) : -1]
        ]
    else:
        assert "".join(map(str, said)) == case["output"]


@pytest.mark.parametrize(
    "call",
    [
        "tool_call(x=__import__('os').system('touch canary'))",
        "__import__('os').system('touch canary')",
        "tool_call(**{'x': 1})",
        "tool_call(1)",
        "tool_call(x=open('canary', 'w'))",
        "tool_call(x=[i for i in range(3)])",
        "tool_call(x={1, 2})",
        "tool_call(x=b'bytes')",
        "tool_call(x=1",
        "(" * 2000,
        "x = 1",
    ],
)
def test_python_that_is_no_plain_call_is_text_and_is_never_run(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = f"get_weather\n```python\n{call}\n```"
    assert split(FORMATS["chatglm3"], [text]) == [text]
    assert not list(tmp_path.iterdir())
