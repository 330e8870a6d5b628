"""Thinking reaches the templates that know it, under their own names, and nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatcli.adapters.prompt import build
from chatcli.adapters.thinking import knobs, thinking, unheard
from chatcli.conversation import Conversation, Message
from chatcli.generation import GenerationSettings

FOLDER = Path(__file__).parent.parent / "golden" / "chat_templates"
TEMPLATES = {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.jinja")}
KNOBS = {"qwen3": "enable_thinking", "smollm3": "enable_thinking", "glm-4.5": "enable_thinking"}
KNOBS |= {"granite-3.3": "thinking", "gpt-oss": "reasoning_effort"}
ON, OFF, OPEN = GenerationSettings(think=True), GenerationSettings(think=False), GenerationSettings()
HIGH = GenerationSettings(reasoning_effort="high")


def prompt(name: str, settings: GenerationSettings) -> str:
    template = TEMPLATES[name]
    return build(template, Conversation((Message("user", "Hi"),)), **thinking(template, settings)).text


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_templates_own_variable_is_found(name: str) -> None:
    assert knobs(TEMPLATES[name]) == ({KNOBS[name]} if name in KNOBS else set())


@pytest.mark.parametrize("name", TEMPLATES)
def test_nothing_is_said_where_nobody_asks(name: str) -> None:
    assert thinking(TEMPLATES[name], OPEN) == {}
    assert unheard(TEMPLATES[name], OPEN) == ""


@pytest.mark.parametrize("name", KNOBS)
def test_on_and_off_are_two_prompts(name: str) -> None:
    assert prompt(name, ON) != prompt(name, OFF)
    assert unheard(TEMPLATES[name], ON) == ""


def test_off_is_what_the_families_document() -> None:
    assert prompt("qwen3", OFF).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert prompt("glm-4.5", OFF).endswith("<|user|>\nHi/nothink<|assistant|>\n<think></think>")
    assert "Reasoning Mode: /no_think" in prompt("smollm3", OFF)
    assert "Write your thoughts" in prompt("granite-3.3", ON)


def test_effort_reaches_the_family_that_has_efforts() -> None:
    assert "Reasoning: high" in prompt("gpt-oss", HIGH)
    assert "Reasoning: medium" in prompt("gpt-oss", ON)
    assert "Reasoning: low" in prompt("gpt-oss", OFF)
    assert "Reasoning: high" in prompt("gpt-oss", GenerationSettings(think=False, reasoning_effort="high"))
    assert thinking(TEMPLATES["qwen3"], HIGH) == {}


def test_a_note_says_what_a_template_cannot_do() -> None:
    assert "no switch for thinking: think = true" in unheard(TEMPLATES["chatml"], ON)
    assert "no switch for thinking: think = false" in unheard(TEMPLATES["deepseek-r1"], OFF)
    assert "cannot switch thinking off" in unheard(TEMPLATES["gpt-oss"], OFF)
    assert "no reasoning effort" in unheard(TEMPLATES["qwen3"], HIGH)
    assert unheard(TEMPLATES["gpt-oss"], HIGH) == ""


def test_a_broken_template_has_no_variables() -> None:
    assert knobs("{% if enable_thinking") == set()
