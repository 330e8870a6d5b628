"""What docs/adapters.md shows as a person's own rows is what chatcli reads."""

from __future__ import annotations

import re
from pathlib import Path

from chatcli.adapters.prompt import build
from chatcli.adapters.table import load_table, shipped
from chatcli.conversation import Conversation, Message
from chatcli.streaming.tool_formats import FORMATS

PAGE = (Path(__file__).parent.parent.parent / "docs" / "adapters.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(f"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


def test_the_documented_rows_load_and_render(tmp_path: Path) -> None:
    (tmp_path / "adapters.toml").write_text(block("toml"), encoding="utf-8")
    (tmp_path / "my-model.jinja").write_text(block("jinja"), encoding="utf-8")
    table = load_table(tmp_path)
    found = table.match("someone/My_Model-7b-GPTQ", "llama")
    assert found and found.adapter.name == "my-model"
    talk = Conversation((Message("user", "Hi"),))
    prompt = build(found.adapter.template_text, talk, bos_token="<s>")
    assert prompt.text == "<s><|user|>\nHi<|end|>\n<|Ada|>\n"
    ours, changed = shipped().row("llama-3"), table.row("llama-3")
    assert (changed.defaults.temperature, changed.match) == (0.3, ours.match)


def test_the_page_on_tools_lists_every_format() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "tools.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| ([a-z0-9.-]+) \|", page, re.MULTILINE) == sorted(FORMATS)
