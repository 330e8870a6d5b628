from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcli.adapters.prompt import Prompt, Templates, begun, build, choose_templates
from chatcli.adapters.table import Match, shipped
from chatcli.conversation import Conversation, Message
from chatcli.errors import NotAChatModel
from chatcli.models.checkpoint import Checkpoint

ROWS = {row.name: row for row in shipped().rows}
CONTROL = frozenset({"<|im_start|>", "<|im_end|>", "<s>", "ab", "bc"})
CHATML = ROWS["chatml"].template_text


def talk(*texts: str) -> Conversation:
    roles = ("user", "assistant")
    return Conversation(tuple(Message(roles[i % 2], text) for i, text in enumerate(texts)))


def test_a_typed_control_text_is_cut_after_its_first_character() -> None:
    prompt = build(CHATML, talk("say <|im_end|> now"), control=CONTROL)
    assert prompt.text == "<|im_start|>user\nsay <|im_end|> now<|im_end|>\n<|im_start|>assistant\n"
    assert [prompt.text[:cut][-5:] + "^" + prompt.text[cut:][:5] for cut in prompt.cuts] == ["say <^|im_e"]


def test_overlapping_control_texts_are_all_cut() -> None:
    prompt = build("{{ messages[0].content }}", talk("abc"), control=CONTROL)
    assert prompt.cuts == (1, 2)


def test_a_control_text_that_only_arises_in_the_template_belongs_to_it() -> None:
    prompt = build("{{ '<' + messages[0].content + '>' }}", talk("s"), control=CONTROL)
    assert (prompt.text, prompt.cuts) == ("<s>", ())


@given(st.lists(st.text(st.sampled_from("abc<s>|im_end \n\ufdd0\ufdd1x")), min_size=1, max_size=5))
def test_no_typed_control_text_is_left_whole(texts: list[str]) -> None:
    text = "".join(texts)
    prompt = build("{{ messages[0].content }}", talk(text), control=CONTROL)
    assert prompt.text == text
    pieces = [prompt.text[a:b] for a, b in zip((0, *prompt.cuts), (*prompt.cuts, len(text)), strict=True)]
    assert not any(token in piece for piece in pieces for token in CONTROL)


@pytest.mark.parametrize("name", sorted(name for name, row in ROWS.items() if row.template))
def test_replies_are_found_where_they_stand(name: str) -> None:
    conversation = talk("Yes", "Yes", "a", "  a, 好\n", "and?", "", "well?")
    prompt = build(ROWS[name].template_text, conversation, control=CONTROL)
    found = [prompt.text[start:end] for start, end in prompt.replies]
    assert found == ["Yes", "a, 好"]
    assert prompt.replies[0][0] > prompt.text.index("Yes"), "the question is not taken for the answer"


def test_a_template_that_reads_replies_leaves_them_unknown() -> None:
    template = "{% for m in messages %}{{ m.content | length }} {{ m.content }}\n{% endfor %}"
    prompt = build(template, talk("q", "answer", "q"))
    assert prompt.text == "1 q\n6 answer\n1 q\n"
    assert prompt.replies == ()


def test_lone_surrogates_become_replacement_characters() -> None:
    assert build("{{ messages[0].content }}", talk("a\udc80b")).text == "a\ufffdb"


def test_a_refused_system_message_moves_into_the_first_question() -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}"
        "{{ m.content }};{% endfor %}"
    )
    assert build(template, talk("q", "a", "r").with_system("S")).text == "S\n\nq;a;r;"


def checkpoint(tmp_path, template: str = "") -> Checkpoint:
    if template:
        (tmp_path / "chat_template.jinja").write_text(template)
    return Checkpoint("org/thing", tmp_path, "", {"model_type": "llama"}, {})


@pytest.mark.parametrize(
    ("overrules", "own", "row", "expected"),
    [(True, "OWN", True, "ROW"), (False, "OWN", True, "OWN"), (False, "", True, "ROW"), (False, "OWN", False, "OWN")],
)
def test_which_template_applies(tmp_path, overrules: bool, own: str, row: bool, expected: str) -> None:
    adapter = replace(ROWS["vicuna_v1.1"], overrules=overrules)
    match = Match(adapter, "the name fits vicuna*", "name") if row else None
    templates = choose_templates(checkpoint(tmp_path, own), match)
    assert templates.select() == (adapter.template_text if expected == "ROW" else expected)
    assert templates.origin


def test_a_named_template_is_chosen_by_what_is_passed() -> None:
    named = Templates({"rag": "R", "default": "D", "tool_use": "T"}, "x")
    assert named.select() == "D"
    assert named.select(tools=True) == "T"
    assert named.select(documents=True) == "R"
    assert named.select(tools=True, documents=True) == "T"
    assert Templates({"default": "D"}, "x").select(tools=True, documents=True) == "D"
    assert Templates({"rag": "R"}, "x").select() == "R"


def test_a_base_model_is_told_from_a_chat_model(tmp_path) -> None:
    with pytest.raises(NotAChatModel, match="org/thing is a base model"):
        choose_templates(checkpoint(tmp_path), None)
    with pytest.raises(NotAChatModel, match="base model"):
        choose_templates(checkpoint(tmp_path), Match(ROWS["gemma"], "config.json says so", "model_type"))
    with pytest.raises(NotAChatModel, match="base model"):
        choose_templates(checkpoint(tmp_path), Match(ROWS["gemma"], "the name fits gemma*, a base model", "base"))
    templates = choose_templates(checkpoint(tmp_path), Match(ROWS["chatglm"], "config.json says so", "model_type"))
    assert templates.select() == ROWS["chatglm"].template_text


THINK = ("<think>", "</think>")
CHANNELS = ("<|channel|>analysis<|message|>", "<|end|>", "<|start|>assistant<|channel|>final<|message|>")


@pytest.mark.parametrize(
    ("prompt", "tags", "reasoning", "text", "expected"),
    [
        ("A:", THINK, "", "Half an", "A:Half an"),
        ("A:", THINK, "Hm", "", "A:<think>\nHm"),
        ("A:", THINK, "Hm", "Half", "A:<think>\nHm\n</think>\n\nHalf"),
        ("A:<think>\n", THINK, "Hm", "", "A:<think>\nHm"),
        ("A:<think>\n", THINK, "Hm", "Half", "A:<think>\nHm\n</think>\n\nHalf"),
        ("A:<think>\n", THINK, "", "Half", "A:<think>\n\n</think>\n\nHalf"),
        ("A:<think>\n\n</think>\n\n", THINK, "", "Half", "A:<think>\n\n</think>\n\nHalf"),
        ("A:", CHANNELS, "Hm", "", f"A:{CHANNELS[0]}Hm"),
        ("A:", CHANNELS, "Hm", "Half", f"A:{CHANNELS[0]}Hm{CHANNELS[1]}{CHANNELS[2]}Half"),
        ("A:", CHANNELS, "", "Half", f"A:{CHANNELS[2]}Half"),
    ],
)
def test_a_reply_that_is_begun_stands_behind_the_prompt_as_the_family_writes_it(
    prompt: str, tags: tuple[str, ...], reasoning: str, text: str, expected: str
) -> None:
    made = begun(Prompt(prompt), Message("assistant", text, reasoning), tags)
    assert made.text == expected
    assert len(prompt) in made.cuts


def test_a_control_token_in_a_reply_that_is_begun_stays_text() -> None:
    made = begun(Prompt("A:"), Message("assistant", "so <|im_end|> it"), THINK, {"<|im_end|>"})
    assert made.cuts == (2, len("A:so <"))
