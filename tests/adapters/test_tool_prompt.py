"""Tools, calls and results in prompts: as transformers renders them, as plain text where a template knows none."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from chatcli.adapters.encode import encode
from chatcli.adapters.format import ChatFormat, chat_format
from chatcli.adapters.prompt import build
from chatcli.adapters.table import shipped
from chatcli.adapters.tool_prompt import as_objects, offered, places, tool_format
from chatcli.adapters.tool_words import told_in_words
from chatcli.conversation import Conversation, Message, Tool, ToolCall
from chatcli.errors import UsageError
from chatcli.generation import GenerationSettings
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.vocabulary import tokenizer as read_tokenizer
from chatcli.streaming.tool_formats import FORMATS, HERMES

GOLDEN = Path(__file__).parent.parent / "golden"
TEMPLATES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((GOLDEN / "tool_templates").glob("*"))}
GLM = TEMPLATES.pop("glm-4")
"""Which is in no shape that transformers knows; see test_chatglm_rows.py."""
PLAIN = {path.stem: path.read_text(encoding="utf-8") for path in sorted((GOLDEN / "chat_templates").glob("*"))}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
CONTROL = re.compile(
    r"<[|｜][^|｜<>{}' ]+[|｜]>|\[/?[A-Z_]{4,}\]|</?(?:think|tool_call|tool_response)>|<sop>|\[gMASK\]"
)

WEATHER = Tool(
    "get_weather",
    "The weather of a <city> & 北京's.",
    '{"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}',
)
TIME = Tool("get_time", "The time.", '{"type": "object", "properties": {}}')
CALL = ToolCall("a1B2c3D4e", "get_weather", '{"city": "北京 <&> \'x\'", "days": 2}')
OTHER = ToolCall("f5G6h7I8j", "get_time", "{}")
ASKED = (Message("system", "Be brief."), Message("user", "What is the weather in 北京?"))
CALLED = Message("assistant", "", calls=(CALL,))
RESULT = Message("tool", '{"degrees": 21}', call=CALL.id)
TALKS = {
    "asked": ASKED,
    "no system": ASKED[1:],
    "called": (*ASKED[1:], CALLED, RESULT),
    "a turn later": (*ASKED, CALLED, RESULT, Message("assistant", "21 degrees."), Message("user", "And now?")),
    "two results": (
        *ASKED,
        replace(CALLED, calls=(CALL, OTHER)),
        RESULT,
        Message("tool", "12:00", call=OTHER.id),
        Message("assistant", "21 degrees at noon."),
        Message("user", "Thanks."),
    ),
    "with words": (*ASKED, replace(CALLED, text="Let me look."), RESULT),
}


def tokenizer_for(template: str) -> Tokenizer:
    """Bytes, and every special token that the template writes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokens = [*TOKENS.values(), *sorted(set(CONTROL.findall(template)))]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in tokens])
    return tokenizer


def as_openai(messages: tuple[Message, ...], *, text: bool) -> list[dict[str, Any]]:
    """Messages as transformers is given them, the arguments of calls as the family's template wants them."""
    names = {call.id: call.name for message in messages for call in message.calls}
    made: list[dict[str, Any]] = []
    for message in messages:
        entry: dict[str, Any] = {"role": message.role, "content": message.text}
        if message.calls:
            entry["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {
                        "name": call.name,
                        "arguments": call.arguments if text else json.loads(call.arguments),
                    },
                }
                for call in message.calls
            ]
        if message.role == "tool":
            entry |= {"name": names[message.call], "tool_call_id": message.call}
        made.append(entry)
    return made


@pytest.fixture(scope="module", params=TEMPLATES)
def family(request: pytest.FixtureRequest) -> tuple[str, str, Any]:
    from transformers import PreTrainedTokenizerFast

    template = TEMPLATES[request.param]
    return request.param, template, PreTrainedTokenizerFast(tokenizer_object=tokenizer_for(template), **TOKENS)


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("offer", [(), (WEATHER, TIME)])
def test_a_template_that_knows_tools_renders_as_in_transformers(
    family: tuple[str, str, Any], talk: str, offer: tuple[Tool, ...]
) -> None:
    name, template, reference = family
    messages = TALKS[talk]
    if name == "mistral-v3":  # its system message is tested elsewhere
        messages = tuple(message for message in messages if message.role != "system")
    if name == "deepseek-r1":  # its template loses the calls of an answer with a text; see below
        messages = tuple(replace(message, text="") if message.calls else message for message in messages)
    sent = as_openai(messages, text=name == "deepseek-r1")
    if name == "deepseek-r1":  # as OpenAI's API has it; this release of transformers drops a content that is None
        template = template.replace("message.content is none", "not message.content")
    options = {"chat_template": template, "add_generation_prompt": True, "tools": as_objects(offer)}
    given = {**TOKENS, "tools": as_objects(offer), "form": tool_format(TEMPLATES[name], "")}
    if (name, talk) == ("llama-3.1", "two results"):
        with pytest.raises(UsageError, match="single tool-calls"):
            build(TEMPLATES[name], Conversation(messages), **given)
        return
    expected = reference.apply_chat_template(sent, tokenize=False, **options)
    prompt = build(TEMPLATES[name], Conversation(messages), **given)
    assert prompt.text == expected
    ids = reference.apply_chat_template(sent, tokenize=True, return_dict=False, **options)
    assert encode(reference.backend_tokenizer, prompt) == ids


def test_each_family_is_told_by_its_template() -> None:
    told = {name: tool_format(template, "") for name, template in TEMPLATES.items()}
    named = {name: next(n for n, form in FORMATS.items() if form is told[name]) for name in told}
    assert named == {
        "command-a": "command-a",
        "deepseek-r1": "deepseek",
        "glm-4.5": "glm-4.5",
        "llama-3.1": "llama-3",
        "mistral-v3": "mistral",
        "qwen2.5": "hermes",
        "qwen3-coder": "qwen3-coder",
    }
    assert tool_format(PLAIN["gpt-oss"], "gpt-oss") is FORMATS["gpt-oss"]
    assert tool_format(PLAIN["gemma-2"], "") is HERMES


def test_what_a_template_has_a_place_for() -> None:
    assert not places(TEMPLATES["deepseek-r1"]).tools
    assert (places(TEMPLATES["deepseek-r1"]).text, places(TEMPLATES["deepseek-r1"]).none) == (True, True)
    assert all(places(TEMPLATES[name]).calls for name in TEMPLATES)
    for name in ("chatml", "phi-4", "gemma-2", "mistral-v7"):
        assert not any((places(PLAIN[name]).tools, places(PLAIN[name]).calls, places(PLAIN[name]).results)), name


def test_an_answer_whose_words_would_cost_the_calls_has_both_as_text() -> None:
    template = TEMPLATES["deepseek-r1"]
    text = build(template, Conversation(TALKS["with words"]), form=tool_format(template, ""), **TOKENS).text
    assert "Let me look.\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json" in text


def test_a_template_that_wants_parts_of_content_gets_the_calls_as_one() -> None:
    template = "{% for m in messages %}{{ m.role }}:{% for p in m.content %}{{ p.text }}{% endfor %};{% endfor %}"
    talk = told_in_words(Conversation(TALKS["called"]), template, HERMES, "")
    text = build(template, talk, form=HERMES).text
    assert 'assistant:<tool_call>\n{"name": "get_weather", "arguments": {"city": "北京' in text
    assert text.endswith('user:<tool_response>\n{"degrees": 21}\n</tool_response>;')


def test_glm4_is_told_of_calls_and_results_by_its_own_names() -> None:
    talk = told_in_words(Conversation(TALKS["two results"][1:]), GLM, FORMATS["glm-4"], "")
    assert build(GLM, talk, form=FORMATS["glm-4"]).text == (
        "[gMASK]<sop><|user|>\nWhat is the weather in 北京?"
        '<|assistant|>get_weather\n{"city": "北京 <&> \'x\'", "days": 2}<|observation|>\n{"degrees": 21}'
        "<|assistant|>get_time\n{}<|observation|>\n12:00"
        "<|assistant|>\n21 degrees at noon.<|user|>\nThanks.<|assistant|>"
    )
    talk = told_in_words(Conversation(TALKS["with words"][1:]), GLM, FORMATS["glm-4"], "")
    assert "<|assistant|>\nLet me look.<|assistant|>get_weather\n{" in build(GLM, talk, form=FORMATS["glm-4"]).text


def test_calls_that_a_template_takes_one_at_a_time_come_one_by_one(tmp_path: Path) -> None:
    """Llama 3.1's refuses two; its models write them all the same."""
    chat = checkpoint_with(tmp_path, TEMPLATES["llama-3.1"])
    answers = [found[1] for found in re.finditer(r"<\|end_header_id\|>\n\n(.*?)<\|eot_id\|>", rendered(
        chat, Conversation(TALKS["two results"])), re.DOTALL)]  # fmt: skip
    assert answers[2:6] == [
        '{"name": "get_weather", "parameters": {"city": "北京 <&> \'x\'", "days": 2}}',
        '"{\\"degrees\\": 21}"',
        '{"name": "get_time", "parameters": {}}',
        '"12:00"',
    ]


def test_what_came_of_calls_stays_with_them_where_a_later_answer_has_the_same_ids(tmp_path: Path) -> None:
    """Some servers and programs number the calls of every answer from 0."""
    chat = checkpoint_with(tmp_path, TEMPLATES["llama-3.1"])
    calls = tuple(ToolCall(f"call_{number}", "get_time", "{}") for number in range(2))
    talk = Conversation(())
    for turn in range(2):
        talk = talk.add(Message("user", "?")).add(Message("assistant", "", calls=calls))
        for number in (1, 0):
            talk = talk.add(Message("tool", f"turn {turn} call {number}", call=f"call_{number}"))
    said = re.findall(r"turn \d call \d", rendered(chat, talk))
    assert said == ["turn 0 call 0", "turn 0 call 1", "turn 1 call 0", "turn 1 call 1"]


def test_ids_that_mistral_refuses_become_some_that_it_takes() -> None:
    call = replace(CALL, id="call_0123456789abcdefghijklmn")
    talk = Conversation((*ASKED[1:], replace(CALLED, calls=(call,)), replace(RESULT, call=call.id)))
    text = build(TEMPLATES["mistral-v3"], talk, form=FORMATS["mistral"], **TOKENS).text
    assert len(set(re.findall(r'"(?:call_)?id": "([0-9a-f]{9})"', text))) == 1


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_calls_and_results_say_never_becomes_a_control_token(name: str) -> None:
    template, special = TEMPLATES[name], sorted({*CONTROL.findall(TEMPLATES[name]), *TOKENS.values()})
    tokenizer = tokenizer_for(template)

    def controls(said: str) -> list[int]:
        call = ToolCall("a1B2c3D4e", "get_weather", json.dumps({"city": f"a {said} b"}, ensure_ascii=False))
        talk = Conversation(
            (ASKED[1], replace(CALLED, calls=(call,)), Message("tool", f"x {said} y", call=call.id)),
            tools=(replace(WEATHER, description=f"tells {said} all"),),
        )
        prompt = build(
            template, talk, control=special, tools=as_objects(talk.tools), form=tool_format(template, ""), **TOKENS
        )
        ids = [tokenizer.token_to_id(token) for token in special]
        return [i for i in encode(tokenizer, prompt, (), frozenset(special)) if i in ids]

    assert controls("".join(special)) == controls("harmless")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_nor_where_they_are_written_as_text(name: str) -> None:
    form, template = FORMATS[name], PLAIN["chatml"]
    special = sorted({"<|im_start|>", "<|im_end|>", *(t for text in form.texts for t in CONTROL.findall(text))})
    tokenizer = tokenizer_for("".join([template, *form.texts]))

    def controls(said: str) -> list[int]:
        call = ToolCall("1", "get_weather", json.dumps({"city": f"a {said} b"}, ensure_ascii=False))
        talk = Conversation(
            (ASKED[1], replace(CALLED, calls=(call,)), Message("tool", f"x {said} y", call="1")),
            tools=(replace(WEATHER, description=f"tells {said} all"),),
        )
        talk = told_in_words(talk, template, form, "")
        ids = encode(tokenizer, build(template, talk, control=special, form=form), (), frozenset(special))
        return [i for i in ids if i in {tokenizer.token_to_id(token) for token in special}]

    assert controls("".join(special)) == controls("harmless")


def checkpoint_with(folder: Path, template: str | None, name: str = "someone/thing") -> ChatFormat:
    (folder / "config.json").write_text('{"model_type": "llama"}')
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **TOKENS,
        **({"chat_template": template} if template else {}),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer_for(template or "<|im_start|><|im_end|>").save(str(folder / "tokenizer.json"))
    checkpoint = open_checkpoint(folder, name)
    tokenizer = read_tokenizer(checkpoint)
    assert tokenizer
    return chat_format(checkpoint, tokenizer, shipped())


def rendered(chat: ChatFormat, talk: Conversation) -> str:
    return chat.tokenizer.decode(chat.encode(talk), skip_special_tokens=False)


def test_a_template_without_a_place_is_told_as_qwen_tells_it(tmp_path: Path) -> None:
    """Plain ChatML with tools is just what Qwen's own template writes."""
    from transformers import PreTrainedTokenizerFast

    chat = checkpoint_with(tmp_path, PLAIN["chatml"])
    reference = PreTrainedTokenizerFast(tokenizer_object=tokenizer_for(TEMPLATES["qwen2.5"]), **TOKENS)
    for talk in ("asked", "a turn later", "two results", "with words"):
        said = Conversation(TALKS[talk], tools=(WEATHER, TIME))
        expected = reference.apply_chat_template(
            as_openai(TALKS[talk], text=False), chat_template=TEMPLATES["qwen2.5"], tokenize=False,
            tools=as_objects(said.tools), add_generation_prompt=True,
        )  # fmt: skip
        assert rendered(chat, said) == expected
    assert "described in the system message" in " ".join(chat.notes(said, GenerationSettings()))


def test_without_tools_and_with_none_the_prompt_is_the_plain_one(tmp_path: Path) -> None:
    chat = checkpoint_with(tmp_path, TEMPLATES["qwen2.5"])
    plain = Conversation(ASKED)
    assert chat.encode(replace(plain, tools=(WEATHER,), tool_choice="none")) == chat.encode(plain)
    assert chat.encode(replace(plain, tools=(WEATHER,))) != chat.encode(plain)


def test_what_cannot_be_offered_is_said_in_a_sentence() -> None:
    talk = Conversation(ASKED, tools=(WEATHER, TIME))
    with pytest.raises(UsageError, match='no tool "get_wether", only get_weather, get_time'):
        offered(replace(talk, tool_choice="get_wether"))
    with pytest.raises(UsageError, match="the conversation has no tools"):
        offered(Conversation(ASKED, tool_choice="required"))
    assert as_objects([Tool("x")]) == [
        {
            "type": "function",
            "function": {"name": "x", "description": "", "parameters": {"type": "object", "properties": {}}},
        }
    ]
    with pytest.raises(UsageError, match="parameters of the tool x are no JSON"):
        as_objects([Tool("x", parameters="{")])
    with pytest.raises(UsageError, match="arguments of a call of x must be a JSON object"):
        build(PLAIN["chatml"], Conversation((*ASKED, Message("assistant", "", calls=(ToolCall("1", "x", "[]"),)))))
