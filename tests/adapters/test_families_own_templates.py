"""The templates that families ship, written from their documented formats, render as transformers renders them."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from chatcli.adapters.encode import encode
from chatcli.adapters.format import chat_format
from chatcli.adapters.prompt import build
from chatcli.adapters.table import shipped
from chatcli.adapters.template import TemplateRefusal
from chatcli.conversation import Conversation, Message, Tool
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.vocabulary import tokenizer as read_tokenizer

FOLDER = Path(__file__).parent.parent / "golden" / "chat_templates"
TEMPLATES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.jinja"))}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a <city> & 北京's.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
            },
        },
    }
]
DOCUMENTS = [{"title": "Panda", "text": "Pandas eat bamboo.\n"}, {"title": "北京", "text": "  北京是首都。"}]

User, Model, System = (lambda text, role=role: Message(role, text) for role in ("user", "assistant", "system"))
TALKS = {
    "one question": [User("What is the capital of France?")],
    "system": [System("Answer in one sentence."), User("Hi")],
    "turns": [System(" Be brief.\n"), User("One?"), Model("1"), User("Two?"), Model("2, I think."), User("Three?")],
    "no system, turns": [User("One?"), Model("1"), User("Two?")],
    "reasoning": [
        User("1 + 1?"), Message("assistant", "2.", "I add 1 and 1.\n"), User("2 + 2?"),
        Message("assistant", "\n\n4.", "\nNow 2 and 2."), User("And?"),
    ],
    "thoughts in the text": [User("q"), Model("<think>\nhm\n</think>\n\nYes."), User("r")],
    "answered": [User("1 + 1?"), Message("assistant", "2.", "I add 1 and 1.")],
    "white space": [System("\n x \n"), User("  indented:\n\n    code\t\n\n"), Model("  a\n\nb  \n"), User("\n \n")],
    "unicode": [
        System("你好"),
        User("北京 🐼👩‍👩‍👧 e\u0301 <b>&amp;</b> 'q' \"z\" \\n {{ x }} {% y %}"),
        Model("《好》"),
        User("？"),
    ],
    "modes": [System("Be kind. /no_think"), User("hi /nothink")],
    "roles do not alternate": [User("a"), User("b")],
    "a model begins": [Model("Welcome."), User("hi")],
}  # fmt: skip
EXTRAS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "tools": {"tools": TOOLS},
    "documents": {"documents": DOCUMENTS},
    "tools and documents": {"tools": TOOLS, "documents": DOCUMENTS},
    "thinking": {"enable_thinking": True, "thinking": True, "reasoning_effort": "high"},
    "no thinking": {"enable_thinking": False, "thinking": False, "reasoning_effort": "low"},
}
CONTROL = re.compile(r"<[|｜][^|｜<>{}' ]+[|｜]>|\[/?[A-Z_]{4,}\]|</?think>|<(?:start|end)_of_turn>|<sop>|\[gMASK\]")


def tokenizer_for(template: str) -> Tokenizer:
    """Bytes, and every special token that the template writes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokens = [*TOKENS.values(), *sorted(set(CONTROL.findall(template)))]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in tokens])
    return tokenizer


@pytest.fixture(scope="module", params=TEMPLATES)
def family(request: pytest.FixtureRequest) -> tuple[str, Any]:
    """A template's text, and transformers' tokenizer for it."""
    from transformers import PreTrainedTokenizerFast

    template = TEMPLATES[request.param]
    return template, PreTrainedTokenizerFast(tokenizer_object=tokenizer_for(template), **TOKENS)


def as_sent(messages: list[Message]) -> list[dict[str, str]]:
    """Reasoning by both its names, as the newest transformers gives it to templates; older releases only pass it on."""
    return [
        {"role": m.role, "content": m.text}
        | ({"thinking": m.reasoning, "reasoning_content": m.reasoning} if m.reasoning else {})
        for m in messages
    ]


def suits(template: str, extra: str) -> bool:
    """Whether a template made for tools or documents alone gets its own."""
    given = EXTRAS[extra]
    return all(key in given or f"in {key}" not in template or f"if {key}" in template for key in ("tools", "documents"))


@pytest.mark.parametrize("talk", TALKS)
def test_it_renders_and_encodes_as_transformers_does(family: tuple[str, Any], talk: str) -> None:
    template, reference = family
    messages = TALKS[talk]
    for extra, generation in itertools.product((e for e in EXTRAS if suits(template, e)), (True, False)):
        options = {"chat_template": template, "add_generation_prompt": generation, **EXTRAS[extra]}
        given = {**TOKENS, "add_generation_prompt": generation, **EXTRAS[extra]}
        try:
            expected = reference.apply_chat_template(as_sent(messages), tokenize=False, **options)
        except Exception as error:
            if messages[0].role == "system" and "ystem" in str(error):
                continue  # what becomes of a refused system message is tested below
            with pytest.raises(TemplateRefusal, match=re.escape(str(error)[:40])):
                build(template, Conversation(tuple(messages)), **given)
            continue
        prompt = build(template, Conversation(tuple(messages)), **given)
        assert prompt.text == expected
        ids = reference.apply_chat_template(as_sent(messages), tokenize=True, return_dict=False, **options)
        assert encode(reference.backend_tokenizer, prompt) == ids


def test_there_are_a_dozen_families() -> None:
    assert len({name.partition(".")[0] for name in TEMPLATES}) >= 12


def test_gemmas_refusal_of_a_system_message_puts_it_before_the_question() -> None:
    messages = (System("Be brief."), User("One?"), Model("1"), User("Two?"))
    moved = (User("Be brief.\n\nOne?"), *messages[2:])
    template = TEMPLATES["gemma-2"]
    assert build(template, Conversation(messages)) == build(template, Conversation(moved))


def test_mistrals_system_rules_differ_by_version() -> None:
    talk = Conversation((System("S"), User("a"), Model("b"), User("c")))
    v3 = build(TEMPLATES["mistral-v3"], talk, **TOKENS).text
    v7 = build(TEMPLATES["mistral-v7"], talk, **TOKENS).text
    assert v3 == "<s>[INST] a[/INST] b</s>[INST] S\n\nc[/INST]"
    assert v7 == "<s>[SYSTEM_PROMPT]S[/SYSTEM_PROMPT][INST]a[/INST]b</s>[INST]c[/INST]"


THOUGHT = (User("q"), Message("assistant", "Yes.", "SECRET"), User("r"))


@pytest.mark.parametrize("name", [n for n in TEMPLATES if n not in ("command-r.rag", "command-r.tool_use")])
def test_thoughts_of_earlier_turns_are_left_out_as_the_family_wants(name: str) -> None:
    text = build(TEMPLATES[name], Conversation(THOUGHT), **TOKENS).text
    assert "SECRET" not in text
    assert "Yes." in text


@pytest.mark.parametrize("name", ["qwen3", "glm-4.5"])
def test_a_template_may_keep_the_latest_thoughts(name: str) -> None:
    prompt = build(TEMPLATES[name], Conversation(THOUGHT[:2]), add_generation_prompt=False)
    assert "SECRET" in prompt.text


def checkpoint_files(folder: Path, template: str, **settings: object) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **TOKENS, **settings})
    )
    tokenizer_for(template).save(str(folder / "tokenizer.json"))


COMMAND_R = {name.partition(".")[2] or "default": TEMPLATES[name] for name in TEMPLATES if "command-r" in name}


@pytest.mark.parametrize("place", ["config", "files"])
def test_named_templates_are_read_and_chosen_as_transformers_does(tmp_path: Path, place: str) -> None:
    from transformers import PreTrainedTokenizerFast

    listed = [{"name": name, "template": text} for name, text in COMMAND_R.items()]
    checkpoint_files(tmp_path, "".join(COMMAND_R.values()), **({"chat_template": listed} if place == "config" else {}))
    if place == "files":
        (tmp_path / "additional_chat_templates").mkdir()
        for name, text in COMMAND_R.items():
            path = "chat_template" if name == "default" else f"additional_chat_templates/{name}"
            (tmp_path / f"{path}.jinja").write_text(text)
    reference = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    checkpoint = open_checkpoint(tmp_path, "someone/thing")
    chat = chat_format(checkpoint, read_tokenizer(checkpoint), shipped())
    talk = TALKS["turns"]
    function = TOOLS[0]["function"]
    tool = Tool(function["name"], function["description"], json.dumps(function["parameters"]))
    offered = Conversation(tuple(talk), tools=(tool,))
    for extra, asked_for, said, documents in (
        ("nothing", None, Conversation(tuple(talk)), None),
        ("nothing", None, replace(offered, tool_choice="none"), None),
        ("tools", None, offered, None),
        ("documents", "rag", Conversation(tuple(talk)), DOCUMENTS),
    ):
        ids = reference.apply_chat_template(
            as_sent(talk), chat_template=asked_for, add_generation_prompt=True, return_dict=False, **EXTRAS[extra]
        )
        assert chat.encode(said, documents=documents) == ids
