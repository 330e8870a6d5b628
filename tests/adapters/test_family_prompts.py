"""The prompt of every family, to the byte, and what each row claims of itself.

`golden/family_prompts.json` holds the eighty formats as FastChat renders them. Where that is a defect, or
the model's own code says otherwise, "prompts" holds what is right, and "corrected" the reason with what
FastChat writes.
"""

import json
from pathlib import Path

import pytest

from chatcli.adapters.row import Adapter
from chatcli.adapters.table import shipped
from chatcli.adapters.template import render
from chatcli.streaming.stops import StopStrings

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "family_prompts.json").read_text("utf-8"))
ROWS = {row.name: row for row in shipped().rows}
WITH_TEMPLATE = [row for row in ROWS.values() if row.template]
TRIMMING = ("llama-3", "meta-llama-3.1", "gemma")


def prompt(row: str, *texts: str, system: str | None = None, generation: bool = True) -> str:
    """The prompt for texts that are said in turn."""
    head = [] if system is None else [{"role": "system", "content": system}]
    said = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    return render(ROWS[row].template_text, head + said, add_generation_prompt=generation)


@pytest.mark.parametrize("name", GOLDEN["prompts"])
def test_every_format_renders_to_the_byte(name: str) -> None:
    written = {case: prompt(name, *(text for _, text in said)) for case, said in GOLDEN["cases"].items()}
    assert written == GOLDEN["prompts"][name]


def test_all_eighty_formats_are_rows() -> None:
    assert len(GOLDEN["prompts"]) == 80
    assert set(GOLDEN["prompts"]) <= set(ROWS)


@pytest.mark.parametrize("name", GOLDEN["corrected"])
def test_what_is_corrected_has_a_reason_and_a_note(name: str) -> None:
    said = GOLDEN["corrected"][name]
    assert said["why"]
    assert ROWS[name].notes
    for case, fastchat in said["fastchat"].items():
        assert fastchat != GOLDEN["prompts"][name][case]


@pytest.mark.parametrize("row", WITH_TEMPLATE, ids=lambda row: row.name)
def test_every_text_is_in_the_prompt_once_and_in_order(row: Adapter) -> None:
    """Not true of FastChat's cllm, yuan2, falcon, rwkv, gemma, deepseek-coder and yuan."""
    texts = ["Wie heißt\n\ndas?\n", "<n> 北京 🐼\n\n\n- a\n", "und {} nun?"]
    written = prompt(row.name, *texts, system="Sei {} kurz\n\nund gut.")
    position = 0
    for text in ["Sei {} kurz\n\nund gut.", *texts]:
        wanted = text.strip() if row.name in TRIMMING else text
        assert written.count(wanted) == 1
        position = written.index(wanted, position)


@pytest.mark.parametrize("row", WITH_TEMPLATE, ids=lambda row: row.name)
def test_white_space_survives_except_where_the_family_trims(row: Adapter) -> None:
    texts = ["  \n  leading and trailing  \n\n", "\n\n  spaced answer\n\n\nwith gaps \n", "\tfinal question?\r\n"]
    written = prompt(row.name, *texts)
    for text in texts:
        assert (text in written) is (row.name not in TRIMMING)
        assert text.strip() in written


@pytest.mark.parametrize("row", WITH_TEMPLATE, ids=lambda row: row.name)
def test_an_empty_answer_is_an_answer(row: Adapter) -> None:
    """FastChat takes it for the turn that is still to come, and so moves every later one."""
    assert prompt(row.name, "q", "", "r") == prompt(row.name, "q", "@@", "r").replace("@@", "")


# The first question has no round there, ends otherwise, or is answered with thoughts that are then forgotten.
@pytest.mark.parametrize("row", [row for row in WITH_TEMPLATE if row.name not in ("chatglm", "yuan2", "deepseek-r1")])
def test_the_next_turn_goes_on_from_this_ones_prompt(row: Adapter) -> None:
    """What a KV cache lives on."""
    first = prompt(row.name, "q", system="s")
    assert prompt(row.name, "q", "a", "r", system="s").startswith(first.rstrip(" "))


@pytest.mark.parametrize("row", [row for row in WITH_TEMPLATE if row.system], ids=lambda row: row.name)
def test_a_system_message_takes_the_place_of_the_rows_own(row: Adapter) -> None:
    assert row.system
    assert prompt(row.name, "q").count(row.system) == 1
    assert prompt(row.name, "q", system="S0") == prompt(row.name, "q").replace(row.system, "S0")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gemma", "<bos><start_of_turn>user\nS\n\nq<end_of_turn>\n<start_of_turn>model\n"),
        ("deepseek-coder", "S\n### Instruction:\nq\n### Response:\n"),
        ("deepseek-chat", "<｜begin▁of▁sentence｜>S\n\nUser: q\n\nAssistant:"),
        ("yuan", "S\n\nq<sep>"),
        ("yuan2", "S<n>q<sep>"),
        ("falcon", "S\n\nUser: q\n\nAssistant:"),
        ("Yi-34b-chat", "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"),
        ("xdan-v1", "S\n### Human: q\n### Assistant:"),
        ("mistral", "[INST] S\n\nq [/INST]"),
        ("llama-2", "[INST] <<SYS>>\nS\n<</SYS>>\n\nq [/INST]"),
        ("chatglm", "S\nq"),
        ("chatglm2", "S\n\n[Round 1]\n\n问：q\n\n答："),
        ("chatglm3", "<|system|>\nS<|user|>\nq<|assistant|>"),
        ("glm-4", "[gMASK]<sop><|system|>\nS<|user|>\nq<|assistant|>"),
        (
            "meta-llama-3.1",
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
            "Today Date: 26 Jul 2024\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
    ],
)
def test_a_system_message_goes_where_the_family_puts_it(name: str, expected: str) -> None:
    assert prompt(name, "q", system="S") == expected


def test_yuan2_keeps_the_last_letters_of_a_question() -> None:
    assert prompt("yuan2", "Tell me about Berlin") == "Tell me about Berlin<sep>"


@pytest.mark.parametrize("row", WITH_TEMPLATE, ids=lambda row: row.name)
def test_the_start_token_is_written_once(row: Adapter) -> None:
    """FastChat writes it into the prompt and lets the tokenizer add another."""
    text = render(row.template_text, [{"role": "user", "content": "q"}], bos_token="<BOS>")
    opened = ("<bos>", "<|begin_of_text|>", "<｜begin▁of▁sentence｜>", "<BOS_TOKEN>")
    assert text.count("<BOS>") + sum(text.startswith(token) for token in opened) <= 1


ORDINARY = [
    "Here is a plan:\n\n### Step one\n\nDo it.\n\n### Response time\n\n### End of it\n\n#### Human factors",
    "The User table holds users.\nUsers of it: all.\n\nUser stories\n\nA Human: that is a word for people",
    "Q: What?\n\nA: That.\n\nBobs and Alices\n\n### Instructions\n\n### User Message queue",
    "Choose:\nA: the first\nB: the second\n\nIn the log:\nUSER: root\nUSER: nobody",
]


@pytest.mark.parametrize("row", [row for row in ROWS.values() if row.stop], ids=lambda row: row.name)
def test_stop_texts_leave_ordinary_answers_whole(row: Adapter) -> None:
    """FastChat ends answers at any ###, any blank line, any "User" and any "Human:"."""
    for answer in ORDINARY:
        stops = StopStrings(row.stop)
        shown, hit = stops.push(answer)
        assert hit is None
        assert shown + stops.flush() == answer
