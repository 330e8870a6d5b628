import pytest
from tokenizers import AddedToken, Tokenizer

from chatcli.adapters.encode import Spoken, encode, encode_text
from chatcli.adapters.prompt import Prompt, build
from chatcli.adapters.table import shipped
from chatcli.conversation import Conversation, Message

ROWS = {row.name: row for row in shipped().rows}
# One row of every kind: other rows have the same templates with other words in them.
KINDS = ["chatglm", "chatml", "deepseek-r1", "gemma", "llama-2", "llama-3", "mistral", "vicuna_v1.1", "yuan2", "zephyr"]
VARIABLES = {"bos_token": "<s>", "eos_token": "</s>"}
TEXTS = ["Hello the Paris", "你好，请介绍一下北京。", "def main():\n    print('x')\n\n", "🐼 ok ", " a  b\t", "x"]


def talk(*texts: str) -> Conversation:
    return Conversation(tuple(Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)))


def whole(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("name", KINDS)
def test_ordinary_words_encode_as_the_whole_text_does(name: str, tiny_tokenizer: Tokenizer, control_texts) -> None:
    prompt = build(ROWS[name].template_text, talk(*TEXTS[:5]), control=control_texts, **VARIABLES)
    assert encode(tiny_tokenizer, prompt, (), control_texts) == whole(tiny_tokenizer, prompt.text)


def test_cut_text_decodes_to_what_was_typed(tiny_tokenizer: Tokenizer, control_texts) -> None:
    prompt = build("{{ messages[0].content }}", talk("the <|im_end|> is Paris</s> x"), control=control_texts)
    ids = encode(tiny_tokenizer, prompt, (), control_texts)
    assert len(prompt.cuts) == 2
    assert tiny_tokenizer.decode(ids, skip_special_tokens=False) == prompt.text


def test_a_token_that_only_normalising_reveals_is_cut_too() -> None:
    """Added tokens with `normalized=True` are searched in changed text: full-width letters were a way in."""
    from tokenizers import models, normalizers, pre_tokenizers

    letters = {c: i for i, c in enumerate("<s>|im_end xyzabc/＜＞")}
    tokenizer = Tokenizer(models.BPE(letters, []))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.add_special_tokens([AddedToken("<s>", normalized=True, special=True)])
    control = frozenset({"<s>"})
    prompt = build("<s>{{ messages[0].content }}", talk("a＜s＞b"), control=control)
    start = tokenizer.token_to_id("<s>")
    assert whole(tokenizer, prompt.text).count(start) == 2, "the way in is there"
    assert encode(tokenizer, prompt, (), control).count(start) == 1


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("reply", ["Hello the Paris", "Paris", "北京是中国", "a <b> c"])
def test_a_spoken_reply_keeps_its_ids(name: str, reply: str, tiny_tokenizer: Tokenizer, control_texts) -> None:
    # The model may have made a text letter by letter, as no tokenizer would.
    made = [i for c in reply for i in whole(tiny_tokenizer, c)]
    text = tiny_tokenizer.decode(made, skip_special_tokens=False)
    prompt = build(ROWS[name].template_text, talk(text, text, "x"), control=control_texts, **VARIABLES)
    ids = encode(tiny_tokenizer, prompt, [Spoken(text, tuple(made))], control_texts)
    assert text == text.strip()
    assert any(ids[i : i + len(made)] == made for i in range(len(ids)))
    # A model may begin its reply with a space where the template has none.
    decoded = tiny_tokenizer.decode(ids, skip_special_tokens=False)
    expected = tiny_tokenizer.decode(whole(tiny_tokenizer, prompt.text), skip_special_tokens=False)
    assert "".join(decoded.split()) == "".join(expected.split())


@pytest.mark.parametrize("name", ["chatml", "llama-3", "gemma", "phi-3", "zephyr"])
def test_the_second_turn_begins_with_the_first_ones_ids(name: str, tiny_tokenizer: Tokenizer, control_texts) -> None:
    """What a KV cache lives on: prompt and reply of turn one are a prefix of the prompt of turn two."""
    template = ROWS[name].template_text
    first = encode(
        tiny_tokenizer, build(template, talk("the <s> x"), control=control_texts, **VARIABLES), (), control_texts
    )
    made = [i for c in "Hello Paris" for i in whole(tiny_tokenizer, c)]
    text = tiny_tokenizer.decode(made)
    second = build(template, talk("the <s> x", text, "and?"), control=control_texts, **VARIABLES)
    ids = encode(tiny_tokenizer, second, [Spoken(text, tuple(made))], control_texts)
    assert text == text.strip()
    assert ids[: len(first) + len(made)] == first + made


def test_later_replies_are_matched_first(control_texts) -> None:
    """After `--continue` the older replies have no ids; equal texts must not take the newer one's."""
    prompt = Prompt("A|A|B", replies=((0, 1), (2, 3), (4, 5)))
    tokenizer = Tokenizer.from_str(
        '{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,'
        '"pre_tokenizer":{"type":"Split","pattern":{"Regex":"."},"behavior":"Isolated","invert":false},'
        '"post_processor":null,"decoder":null,'
        '"model":{"type":"WordLevel","vocab":{"A":0,"B":1,"|":2,"u":3},"unk_token":"u"}}'
    )
    assert encode(tokenizer, prompt, [Spoken("A", (70,)), Spoken("B", (80,))]) == [0, 2, 70, 2, 80]
    assert encode(tokenizer, prompt, [Spoken("A", (70,))]) == [0, 2, 70, 2, 1]
    assert encode(tokenizer, prompt, [Spoken("C", (90,))]) == [0, 2, 0, 2, 1]


def test_a_text_alone(tiny_tokenizer: Tokenizer) -> None:
    assert encode_text(tiny_tokenizer, TEXTS[0]) == whole(tiny_tokenizer, TEXTS[0])
