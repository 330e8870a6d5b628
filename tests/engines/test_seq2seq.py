"""T5 on a tiny real checkpoint: the encoder reads the question, the decoder answers as `generate` would."""

from __future__ import annotations

import string
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from chatcli.adapters.format import specials
from chatcli.adapters.table import shipped
from chatcli.cli.main import app
from chatcli.conversation import Conversation, Message
from chatcli.engines.local import LocalEngine, open_local
from chatcli.errors import ContextOverflow, NotAChatModel, UsageError
from chatcli.generation import Constraint, Embedded, Finished, GenerationSettings, Progress, Text
from chatcli.history.store import Store
from chatcli.models.checkpoint import open_checkpoint
from chatcli.session import Session

GREEDY = GenerationSettings(temperature=0.0, max_new_tokens=16)
SAID = [
    "What is the capital of France? It is Paris, a large town.",
    "Translate this to German: how old are you, my friend?",
    "Once upon a time there was a king who had three sons.",
]


def make_t5(folder: Path, *, model_type: str = "t5", seed: int = 9, **config: Any) -> Path:
    """A T5 with its own kind of files: a Unigram tokenizer.json that ends each text with </s>, tied embeddings."""
    import torch
    from transformers import AutoConfig, AutoModelForSeq2SeqLM, T5Tokenizer

    words = sorted({f"▁{word}" for text in SAID for word in text.split()})
    # Written down, for what a trainer makes changes from run to run, and a control character is not shown as it is.
    named = ["<pad>", "</s>", "<unk>", "▁", *words, *string.printable.strip()]
    pieces = [(piece, -float(rank)) for rank, piece in enumerate(named)]
    tokenizer = T5Tokenizer(vocab=pieces, extra_ids=4)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "initializer_factor": 1.0}
    settings = AutoConfig.for_model(
        model_type,
        vocab_size=len(tokenizer),
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
        **sizes | config,
    )
    model = AutoModelForSeq2SeqLM.from_config(settings, dtype=torch.float32)
    with torch.no_grad():  # random weights of this size say one word only, whatever the question
        for parameter in model.parameters():
            parameter.normal_(0, 0.35)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_t5(tmp_path_factory.mktemp("tiny-flan-t5"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> LocalEngine:
    return opened(folder)


def opened(folder: Path, name: str = "") -> LocalEngine:
    return open_local(open_checkpoint(folder, name or folder.name), shipped(), lambda progress: None)


def ask(engine: LocalEngine, talk: Conversation, settings: GenerationSettings = GREEDY) -> tuple[str, Finished]:
    events = list(engine.stream(talk, settings))
    finished = events[-1]
    assert isinstance(finished, Finished)
    return "".join(each.text for each in events if isinstance(each, Text)), finished


def question(text: str) -> Conversation:
    return Conversation((Message("user", text),))


def generated(folder: Path, prompt: str, precision: str) -> tuple[list[int], str]:
    """What transformers makes of a plain text, as FLAN-T5's card shows it, with the penalty that FastChat gives T5."""
    import torch
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = T5ForConditionalGeneration.from_pretrained(folder, dtype=getattr(torch, precision))
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    out = model.generate(ids, do_sample=False, max_new_tokens=16, repetition_penalty=1.2)
    return ids[0].tolist(), tokenizer.decode(out[0], skip_special_tokens=True)


def test_the_answer_is_what_transformers_generates_from_the_plain_question(engine: LocalEngine, folder: Path) -> None:
    asked = "What is the capital of France?"
    ids, expected = generated(folder, asked, engine.facts.precision)
    text, finished = ask(engine, question(asked))
    assert text.strip() == expected.strip()
    assert len(set(text)) > 3
    assert (finished.prompt_tokens, finished.cached_tokens) == (len(ids), 0)
    assert finished.reason in ("stop", "length")


def test_the_second_turn_reads_the_whole_talk_anew(engine: LocalEngine, folder: Path) -> None:
    session = Session(engine, GREEDY, Store.in_memory())
    list(session.say("Once upon a time"))
    answer = session.conversation.messages[-1].text
    list(session.say("And then?"))
    ids, expected = generated(folder, f"Once upon a time\n{answer}\nAnd then?", engine.facts.precision)
    assert session.conversation.messages[-1].text.strip() == expected.strip()
    assert session.last
    assert (session.last.prompt_tokens, session.last.cached_tokens) == (len(ids), 0)


def test_what_a_person_types_is_no_control_token(engine: LocalEngine) -> None:
    ids = engine._chat.encode(question("</s><extra_id_0> <pad>"))
    assert ids[-1] == 1
    assert not set(specials(engine._chat.tokenizer).values()) & set(ids[:-1])


def test_a_reply_that_was_cut_goes_on_as_if_it_had_not_been(engine: LocalEngine) -> None:
    whole, _ = ask(engine, question("How old are you?"))
    begun, cut = ask(engine, question("How old are you?"), GenerationSettings(temperature=0.0, max_new_tokens=5))
    assert cut.reason == "length"
    talk = question("How old are you?").add(Message("assistant", begun))
    rest, _ = ask(engine, talk, GenerationSettings(temperature=0.0, max_new_tokens=11))
    assert begun + rest == whole


def test_stop_strings_limits_seeds_and_closing(engine: LocalEngine) -> None:
    whole, finished = ask(engine, question("How old are you?"))
    assert finished.completion_tokens <= 16
    stop = whole[6:9]
    text, ended = ask(engine, question("How old are you?"), GenerationSettings(temperature=0.0, stop=(stop,)))
    assert (text, ended.reason) == (whole[: whole.index(stop)], "stop")

    def sampled(seed: int) -> str:
        return ask(engine, question("A king"), GenerationSettings(temperature=1.5, seed=seed, max_new_tokens=16))[0]

    assert sampled(1) == sampled(1) != sampled(2)
    with closing(engine.stream(question("A king"), GREEDY)) as events:
        assert any(isinstance(event, Text) for event in events)
    assert ask(engine, question("How old are you?"))[0] == whole


def test_a_constraint_that_cannot_be_followed_is_refused(engine: LocalEngine) -> None:
    """llguidance does not know SentencePiece's Unigram vocabularies."""
    settings = GenerationSettings(temperature=0.0, constraint=Constraint("choice", '["Paris", "king"]'))
    with pytest.raises(UsageError, match="cannot be held to a constraint"):
        ask(engine, question("Who?"), settings)


def test_many_questions_are_answered_as_each_alone(engine: LocalEngine) -> None:
    asked = [question(text) for text in ("How old are you?", "A king", "What is it?")]
    together = {a.index: a.message.text for a in engine.answer_together([(each, GREEDY) for each in asked])}
    assert [together[index] for index in range(3)] == [ask(engine, each)[0] for each in asked]


def test_a_question_longer_than_the_context_is_refused(engine: LocalEngine) -> None:
    with pytest.raises(ContextOverflow, match="2048"):
        ask(engine, question("king " * 3000))


def test_reading_is_reported(engine: LocalEngine) -> None:
    events = list(engine.stream(question("A king"), GREEDY))
    assert next(each for each in events if isinstance(each, Progress) and each.stage == "reading").total > 1


@pytest.mark.parametrize("family", ["mt5", "umt5"])
def test_its_relatives_chat_too(family: str, tmp_path: Path) -> None:
    text, _ = ask(opened(make_t5(tmp_path, model_type=family), "mt0-small"), question("A king"))
    assert text


def test_fastchats_t5_has_its_turns(folder: Path) -> None:
    engine = opened(folder, "lmsys/fastchat-t5-3b-v1.0")
    text = engine._chat.tokenizer.decode(engine._chat.encode(question("A king")), skip_special_tokens=False)
    assert "Human: A king" in text and text.endswith("</s>")


def test_what_only_fills_gaps_is_a_base_model(folder: Path) -> None:
    with pytest.raises(NotAChatModel, match="base model"):
        opened(folder, "google/mt5-small")


def test_ask(folder: Path, tmp_path: Path) -> None:
    command = ["ask", "-m", str(folder), "--temperature", "0", "--max-tokens", "8", "A king"]
    done = CliRunner(env={"CHATCLI_HOME": str(tmp_path)}).invoke(app, command)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_a_text_is_the_vector_of_what_the_encoder_sees(folder: Path) -> None:
    vectors, (alone,) = (
        next(event.vectors for event in opened(folder).embed(texts) if isinstance(event, Embedded))
        for texts in (SAID, SAID[:1])
    )
    assert [len(vector) for vector in vectors] == [32, 32, 32]
    assert vectors[0] == pytest.approx(alone, abs=1e-5)
    assert vectors[0] != pytest.approx(vectors[1], abs=0.01)
