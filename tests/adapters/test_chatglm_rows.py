"""A folder of ChatGLM gets the row of its family whatever the folder is called."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from chatcli.adapters.format import ChatFormat, chat_format
from chatcli.adapters.table import ports, shipped
from chatcli.conversation import Conversation, Message, Tool, ToolCall
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.vocabulary import tokenizer

GOLDEN = Path(__file__).parent.parent / "golden" / "chatglm"


def opened(tmp_path: Path, name: str, template: str = "", **keys: Any) -> ChatFormat:
    """The chat format of a copy of a recorded folder, under a name that says nothing, with a `template` of its own."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for file in ("ice_text.model", "tokenizer.model", "tokenizer_config.json"):
        if (GOLDEN / name / file).is_file():
            shutil.copy(GOLDEN / name / file, folder)
    config = json.loads((GOLDEN / name / "config.json").read_text()) | {"_name_or_path": "", **keys}
    (folder / "config.json").write_text(json.dumps(config))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("name_or_path", None)
    settings.pop("chat_template", None)
    if template:
        settings["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    checkpoint = open_checkpoint(folder)
    made = tokenizer(checkpoint)
    assert made is not None
    return chat_format(checkpoint, made, shipped())


HELLO = Conversation((Message("user", "你好"),))
CASES: list[tuple[str, dict[str, Any], str, list[int], set[int]]] = [
    ("chatglm1", {}, "chatglm", [5, 41, 145, 517, 520], {521}),
    ("chatglm3", {}, "chatglm3", [901, 903, 906, 577, 13, 478, 686, 907], {2, 906, 908}),
    ("chatglm3", {"rotary_percent": 0.5}, "codegeex", [901, 903, 478, 686, 13, 13], {2}),
    ("glm4", {}, "chatglm4", [702, 704, 707, 198, 343, 161, 519, 708], {700, 707, 709}),
]


@pytest.mark.parametrize(("name", "keys", "row", "ids", "end"), CASES)
def test_the_row_its_prompt_and_what_ends_a_reply(
    tmp_path: Path, name: str, keys: dict[str, Any], row: str, ids: list[int], end: set[int]
) -> None:
    chat = opened(tmp_path, name, **keys)
    assert chat.row == row
    assert chat.encode(HELLO) == ids
    assert chat.end == end


def test_chatglm2_is_told_by_its_longer_context(tmp_path: Path) -> None:
    chat = opened(tmp_path, "chatglm2")
    assert chat.row == "chatglm2"
    told = json.loads((GOLDEN / "chatglm2" / "golden.json").read_text(encoding="utf-8"))
    second = Conversation(
        (
            Message("user", "你好"),
            Message("assistant", "很高兴见到你，欢迎问我任何问题。"),
            Message("user", "Write a poem about  the moon"),
        )
    )
    assert [chat.encode(second)] == told["cases"]["multiturn"]["input_ids"]


def test_a_reply_of_the_first_chatglm_goes_on_behind_sop(tmp_path: Path) -> None:
    chat = opened(tmp_path, "chatglm1")
    begun = HELLO.add(Message("assistant", "你好"))
    assert chat.encode(begun) == [5, 41, 145, 517, 520, 5, 41, 145]


def test_one_port_stands_behind_all_of_them() -> None:
    assert ports()["chatglm"] == "chatglm"


TALKS_WITH_TOOLS = [
    case
    for case in json.loads((GOLDEN / "chatglm3" / "golden.json").read_text(encoding="utf-8"))["build_chat_input"]
    if any("tools" in entry for entry in case["history"])
]


@pytest.mark.parametrize("case", TALKS_WITH_TOOLS, ids=lambda case: case["role"])
def test_chatglm3_is_told_of_tools_as_by_its_own_code(tmp_path: Path, case: dict[str, Any]) -> None:
    chat = opened(tmp_path, "chatglm3")
    tools = [Tool(t["name"], t["description"], json.dumps(t["parameters"])) for t in case["history"][0]["tools"]]
    call = ToolCall("1", "get_weather", '{"city": "北京"}')
    said = [Message("user", case["query"])]
    if case["role"] == "observation":
        asked = case["history"][1]["content"]
        said = [
            Message("user", asked),
            Message("assistant", "", calls=(call,)),
            Message("tool", case["query"], call="1"),
        ]
    assert [chat.encode(Conversation(tuple(said), tools=tuple(tools)))] == case["input_ids"]


@pytest.mark.parametrize("template", ["", "glm-4.jinja"], ids=["our template", "its own"])
def test_glm4_is_told_of_tools_as_by_its_own_code(tmp_path: Path, template: str) -> None:
    recorded = json.loads((GOLDEN / "glm4" / "golden.json").read_text(encoding="utf-8"))["apply_chat_template"][2]
    own = (GOLDEN.parent / "tool_templates" / template).read_text(encoding="utf-8") if template else ""
    chat = opened(tmp_path, "glm4", template=own)
    function = recorded["messages"][0]["tools"][0]["function"]
    tool = Tool(function["name"], function["description"], json.dumps(function["parameters"]))
    call = ToolCall("1", "get_weather", recorded["messages"][2]["content"])
    said = (
        Message("user", recorded["messages"][1]["content"]),
        Message("assistant", "", calls=(call,)),
        Message("tool", recorded["messages"][3]["content"], call="1"),
    )
    text = chat.tokenizer.decode(chat.encode(Conversation(said, tools=(tool,))), skip_special_tokens=False)
    # It was recorded with the interpreter as a second tool, which no API offers.
    before, _, after = recorded["text"].partition("\n## python\n\n")
    assert text == before + after[after.index("<|user|>") :]
