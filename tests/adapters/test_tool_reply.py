"""Replies that call tools, as ChatGLM3's own code read them; what it ran is only read here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chatcli.adapters.tool_reply import Part, read_reply

GOLDEN = Path(__file__).parent.parent / "golden" / "chatglm" / "chatglm3" / "golden.json"
CASES: list[dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))["process_response"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["output"][:16])
def test_the_recorded_replies(case: dict[str, Any]) -> None:
    parts = read_reply(case["output"])
    added = case["history_out"][len(case["history"]) :]
    assert [(part.tool, part.text) for part in parts] == [(entry["metadata"], entry["content"]) for entry in added]
    last, content = parts[-1], case["content"]
    if isinstance(content, str):
        assert last.text.replace("[[训练时间]]", "2023年") == content
    elif "parameters" in content:
        assert (last.tool, last.arguments) == (content["name"], content["parameters"])
    else:  # the original did not look into it where no tools were offered
        assert (last.tool, last.text) == (content["name"], content["content"])


@pytest.mark.parametrize(
    "call",
    [
        "tool_call(x=__import__('os').system('touch canary'))",
        "__import__('os').system('touch canary')",
        "tool_call(**{'x': 1})",
        "tool_call(1)",
        "tool_call(x=open('canary', 'w'))",
        "tool_call(x=[i for i in range(3)])",
        "tool_call(x=1",
        "(" * 2000,
        "x = 1",
        "",
    ],
)
def test_what_is_no_plain_call_is_not_understood_and_never_run(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (part,) = read_reply(f"get_weather\n```python\n{call}\n```")
    assert (part.tool, part.arguments) == ("get_weather", None)
    assert not list(tmp_path.iterdir())


def test_glm4_writes_its_arguments_as_json() -> None:
    text = '{"city": "北京", "days": 2}'
    assert read_reply(f"get_weather\n{text}") == (Part(text, "get_weather", {"city": "北京", "days": 2}),)
    assert read_reply("get_weather\n" + "[" * 100_000)[0].arguments is None
    assert read_reply("get_weather\n[1]") == (Part("[1]", "get_weather", None),)
