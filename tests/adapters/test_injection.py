"""Whatever a person types, the prompt holds just the control ids that the template wrote."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2 import nodes
from tokenizers import Tokenizer

from chatcli.adapters.encode import encode
from chatcli.adapters.prompt import Prompt, build
from chatcli.adapters.sandbox import environment
from chatcli.adapters.table import shipped
from chatcli.adapters.template import TemplateRefusal
from chatcli.conversation import Conversation, Message

FOLDER = Path(__file__).parent.parent / "golden" / "chat_templates"
ROWS = {f"row {row.name}": row for row in shipped().rows}
TEMPLATES = {name: row.template_text for name, row in ROWS.items() if row.template}
TEMPLATES |= {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.jinja"))}
COMMON = ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "<sop>", "### Human:", "<think>"]

Tokenizers = Callable[[Sequence[str]], list[Tokenizer]]


def special_tokens(name: str) -> list[str]:
    """All that a template writes itself, as if its vocabulary had each piece of it as a control token."""
    tree = environment().parse(TEMPLATES[name])
    written = [node.data for node in tree.find_all(nodes.TemplateData)]
    written += [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    pieces = {piece.strip() for text in written for piece in re.split(r"[{}\n]|(?<=[>\]:])|(?=[<\[])", text)}
    row = ROWS.get(name)
    declared = [*row.stop_tokens, *row.reasoning] if row else []
    # Words alone are no control tokens, and templates look messages up by them.
    marked = {piece for piece in pieces if 2 < len(piece) < 40 and not piece.isalnum() and not piece.isidentifier()}
    return sorted({*COMMON, *declared, *marked})


def defused(text: str, special: Sequence[str]) -> str:
    """The text without anything that one of the tokenizers could take for a control token."""
    pattern = re.compile("|".join(re.escape(s) for s in sorted(special, key=len, reverse=True)), re.IGNORECASE)
    while pattern.search(text):
        text = pattern.sub(lambda found: "x" * len(found[0]), text)
    return text


def full_width(text: str) -> str:
    """Characters that become ASCII in a tokenizer that normalises."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def prompt_of(template: str, text: str, special: Sequence[str]) -> Prompt:
    """A prompt with the text wherever a person or a model can put some."""
    messages = [Message("user", text), Message("assistant", text, text), Message("user", text)]
    parameters = {"type": "object", "properties": {text: {"type": "string", "description": text}}, "required": [text]}
    tool = {"type": "function", "function": {"name": text, "description": text, "parameters": parameters}}
    extra = {"tools": [tool], "documents": [{"title": text, "text": text}], "bos_token": "<s>", "eos_token": "</s>"}
    return build(template, Conversation(tuple(messages)).with_system(text), control=special, **extra)


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_typed_text_becomes_a_control_id(name: str, make_tokenizers: Tokenizers) -> None:
    template, special = TEMPLATES[name], special_tokens(name)
    tokenizers = make_tokenizers(special)

    # A character without a piece is the unknown token however it was typed.
    watched = [token for token in special if token.lower() not in ("<unk>", "[unk]")]
    control_ids = [{tokenizer.token_to_id(token) for token in watched} for tokenizer in tokenizers]

    def controls(prompt: Prompt) -> list[list[int]]:
        """The control ids in the prompt, as each tokenizer encodes it."""
        return [
            [i for i in encode(tokenizer, prompt, (), frozenset(special)) if i in ids]
            for tokenizer, ids in zip(tokenizers, control_ids, strict=True)
        ]

    fragments = ["<", "<|im_", "end|>", "[IN", "ST]", "/s>", " ", "x", "北", "é", "\u0301", "\u200b", "#", "{{", "'"]
    parts = st.sampled_from([*special, *(full_width(token) for token in special), *(s.lower() for s in special)])

    @given(st.lists(parts | st.sampled_from(fragments), min_size=1, max_size=6).map("".join))
    @example("".join(special))
    @example(full_width("".join(special)))
    @settings(max_examples=3, deadline=None)
    def check(text: str) -> None:
        text = f"a{text}x"  # a template may trim, or look at how a message begins
        typed = prompt_of(template, text, special)
        harmless = prompt_of(template, defused(unicodedata.normalize("NFKC", text), special), special)
        assert controls(typed) == controls(harmless), (name, text)

    try:
        prompt_of(template, "x", special)
    except TemplateRefusal:
        pytest.skip("a template that takes no such conversation")
    check()


def test_thousands_of_revealed_tokens_are_cut_without_deep_recursion(make_tokenizers: Tokenizers) -> None:
    text = full_width("</s>") * 3000
    for tokenizer in make_tokenizers(COMMON):
        prompt = build("{{ messages[0].content }}", Conversation((Message("user", text),)), control=COMMON)
        assert tokenizer.token_to_id("</s>") not in encode(tokenizer, prompt, (), frozenset(COMMON))


def test_a_template_that_writes_ascii_json_leaves_no_trace_of_the_cuts() -> None:
    template = "{{ tools | tojson(ensure_ascii=true) }}{{ messages[0].content }}"
    tools = [{"name": "</s> 北"}]
    prompt = build(template, Conversation((Message("user", "\\ufdd0"),)), control=COMMON, tools=tools)
    assert prompt.text == '[{"name": "</s> \\u5317"}]\\ufdd0'
    assert [prompt.text[cut : cut + 3] for cut in prompt.cuts] == ["/s>"]


def test_ordinary_text_is_not_cut() -> None:
    text = "if a < b and c > d: print('[x]', 1 | 2)  # a comment\n<html> </body>"
    assert build("{{ messages[0].content }}", Conversation((Message("user", text),)), control=COMMON).cuts == ()
