"""Models that see, on tiny checkpoints: prompts as the family's processor makes them, replies as `generate` does."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from seeing_models import FAMILIES, picture, processor_of

from chatcli.adapters.table import shipped
from chatcli.conversation import Attachment, Conversation, Message
from chatcli.engines.local import LocalEngine, open_local
from chatcli.errors import BrokenCheckpoint, ContextOverflow, UsageError
from chatcli.generation import Finished, GenerationSettings, Progress, Text
from chatcli.images import image_of
from chatcli.models.checkpoint import open_checkpoint
from chatcli.models.sight import SEEING
from chatcli.runtime.pictures import _FAMILIES

GREEDY = GenerationSettings(temperature=0.0, max_new_tokens=12)
WIDE = image_of(picture(40, 24), "wide.png")
TALL = image_of(picture(16, 56, shift=5), "tall.png")
OTHER = image_of(picture(40, 24, shift=99), "other.png")


class Seeing:
    """One family's checkpoint, an engine on it, and the model and the processor that transformers has for it."""

    def __init__(self, folder: Path, family: str) -> None:
        import torch
        import transformers

        self.folder, self.family = folder, family
        self.engine = self.fresh()
        self.processor = processor_of(folder, family)
        precision = getattr(torch, self.engine.facts.precision)
        self.model = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype=precision)

    def fresh(self) -> LocalEngine:
        return open_local(open_checkpoint(self.folder, f"tiny-{self.family}"), shipped(), lambda progress: None)

    def processed(self, talk: Conversation) -> Any:
        """What the family's own processor makes of a talk."""
        from PIL import Image

        messages = []
        for each in talk.messages:
            images = [{"type": "image", "image": Image.open(io.BytesIO(i.data)).convert("RGB")} for i in each.images]
            messages.append({"role": each.role, "content": [*images, {"type": "text", "text": each.text}]})
        return self.processor.apply_chat_template(
            messages, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )

    def generated(self, talk: Conversation, ids: list[int]) -> list[int]:
        """The ids that `generate` adds to a prompt, with the processor's tensors for the pictures."""
        import torch

        told = {name: tensor for name, tensor in self.processed(talk).items() if name != "attention_mask"}
        told["pixel_values"] = told["pixel_values"].to(self.model.dtype)
        told["input_ids"] = torch.tensor([ids])
        for name in ("mm_token_type_ids", "token_type_ids"):
            if name in told:
                told[name] = (told["input_ids"] == self.model.config.image_token_id).long()
        out = self.model.generate(**told, do_sample=False, max_new_tokens=12)
        return list(takewhile(lambda each: each not in self.engine._chat.end, out[0, len(ids) :].tolist()))


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def seeing(request: pytest.FixtureRequest, make_seeing_checkpoint: Callable[[str], Path]) -> Seeing:
    return Seeing(make_seeing_checkpoint(request.param), request.param)


@pytest.fixture(scope="module")
def qwen(make_seeing_checkpoint: Callable[[str], Path]) -> Seeing:
    return Seeing(make_seeing_checkpoint("qwen2_vl"), "qwen2_vl")


def asked(text: str, *images: Attachment) -> Message:
    return Message("user", text, attachments=images)


def said(events: list[Any]) -> Message:
    return Message("assistant", "".join(each.text for each in events if isinstance(each, Text)))


def ask(engine: LocalEngine, talk: Conversation) -> tuple[Message, list[int], Finished]:
    """The reply, its ids and how it ended."""
    events = list(engine.stream(talk, GREEDY))
    reply = said(events)
    assert isinstance(events[-1], Finished)
    return reply, list(engine._made[reply]), events[-1]


def test_every_family_is_tested() -> None:
    assert set(FAMILIES) == SEEING == set(_FAMILIES)


def test_the_prompt_is_what_the_familys_processor_makes(seeing: Seeing) -> None:
    talk = Conversation((asked("What is on these?", WIDE, TALL),))
    later = (
        talk.add(Message("assistant", "Two fields.")).add(asked("And here?", OTHER)).add(Message("assistant", "One."))
    )
    for each in (talk, later.add(asked("Thank you."))):
        expected = seeing.processed(each)["input_ids"][0].tolist()
        assert seeing.engine._encode(each, GREEDY) == expected
        assert seeing.engine.count(each) == len(expected)


def test_a_talk_of_two_turns_and_two_pictures_goes_as_with_generate(seeing: Seeing) -> None:
    """The second turn reads the second picture only, at its positions; a family that looks both ways reads all."""
    engine = seeing.fresh()
    talk = Conversation((asked("What is this?", WIDE),))
    for turn, image in enumerate((TALL, None)):
        prompt = engine._encode(talk, GREEDY)
        reply, made, finished = ask(engine, talk)
        assert made == seeing.generated(talk, prompt)
        assert len(set(made)) > 1
        if turn:
            all_again = seeing.family == "gemma3"
            assert finished.cached_tokens == 0 if all_again else finished.cached_tokens > finished.prompt_tokens // 3
        talk = talk.add(reply).add(asked("And this?", *([image] if image else [])))
    prompt = engine._encode(talk, GREEDY)
    _, made, finished = ask(engine, talk)
    assert made == seeing.generated(talk, prompt)
    assert finished.cached_tokens > finished.prompt_tokens // 2


def test_another_picture_of_the_same_size_is_not_taken_for_the_first(seeing: Seeing) -> None:
    engine = seeing.fresh()
    first, other = (Conversation((asked("What is this?", image),)) for image in (WIDE, OTHER))
    prompt = engine._encode(first, GREEDY)
    assert prompt == engine._encode(other, GREEDY)
    _, made, _ = ask(engine, first)
    _, instead, finished = ask(engine, other)
    assert finished.cached_tokens < prompt.index(seeing.model.config.image_token_id) + 1
    assert instead == ask(seeing.fresh(), other)[1] == seeing.generated(other, prompt)
    _, again, finished = ask(engine, other)
    assert (again, finished.cached_tokens) == (instead, len(prompt) - 1)
    assert made != instead


def test_words_alone_are_read_as_before_and_after_a_picture(seeing: Seeing) -> None:
    words = Conversation((asked("Hello there"),))
    engine = seeing.fresh()
    before = ask(engine, words)[1]
    ask(engine, Conversation((asked("What is this?", TALL),)))
    assert ask(engine, words)[1] == before
    assert before == ask(seeing.fresh(), words)[1]


def test_a_long_talk_before_a_picture_is_read_in_pieces(seeing: Seeing) -> None:
    talk = Conversation((asked("So many words. " * 60), Message("assistant", "Yes."), asked("And this?", WIDE, TALL)))
    prompt = seeing.fresh()._encode(talk, GREEDY)
    assert len(prompt) > 600
    engine = seeing.fresh()
    events = list(engine.stream(talk, GREEDY))
    assert list(engine._made[said(events)]) == seeing.generated(talk, prompt)
    pieces = [each.done for each in events if isinstance(each, Progress) and each.stage == "reading"]
    assert pieces == sorted(set(pieces))
    assert len(pieces) >= (2 if seeing.family != "gemma3" else 1)


def test_a_picture_is_not_typed(seeing: Seeing) -> None:
    """The text of every token of a picture is text, in a question with a picture and in one without."""
    typed = "".join(FAMILIES[seeing.family][1]) + "What?"
    ids = seeing.engine._encode(Conversation((asked(typed, WIDE),)), GREEDY)
    plain = seeing.engine._encode(Conversation((asked("What?", WIDE),)), GREEDY)
    patch = seeing.model.config.image_token_id
    assert ids.count(patch) == plain.count(patch) > 0
    assert patch not in seeing.engine._encode(Conversation((asked(typed),)), GREEDY)
    reply, _, _ = ask(seeing.fresh(), Conversation((asked(typed, WIDE),)))
    assert reply.text


def test_a_reply_about_a_picture_goes_on(qwen: Seeing) -> None:
    talk = Conversation((asked("What is this?", WIDE),))
    engine = qwen.fresh()
    _, whole, _ = ask(engine, talk)
    engine = qwen.fresh()
    begun = said(list(engine.stream(talk, replace(GREEDY, max_new_tokens=5))))
    rest = said(list(engine.stream(talk.add(begun), replace(GREEDY, max_new_tokens=7))))
    assert list(engine._made[Message("assistant", begun.text + rest.text)]) == whole


def test_oldest_pictures_leave_a_full_context_with_their_question(qwen: Seeing) -> None:
    engine = qwen.fresh()
    talk = Conversation((asked("What is this?", WIDE), Message("assistant", "A field."), asked("And this?", TALL)))
    engine.facts = replace(engine.facts, context=engine.count(talk) + 5)
    kept = Conversation(talk.messages[2:])
    events = list(engine.stream(talk, GREEDY))
    assert any("oldest exchange" in each.note for each in events if isinstance(each, Progress))
    assert list(engine._made[said(events)]) == ask(qwen.fresh(), kept)[1]
    engine.facts = replace(engine.facts, context=40)
    with pytest.raises(ContextOverflow):
        ask(engine, kept)


def test_closing_in_the_midst_of_reading_leaves_the_next_turn_right(qwen: Seeing) -> None:
    talk = Conversation((asked("So many words. " * 60, WIDE, TALL),))
    engine = qwen.fresh()
    events: Iterator[Any] = engine.stream(talk, GREEDY)
    next(events), next(events)
    events.close()  # type: ignore[attr-defined]
    assert ask(engine, talk)[1] == ask(qwen.fresh(), talk)[1]


def test_a_model_that_reads_text_only_says_so(tiny_llama: Path) -> None:
    engine = open_local(open_checkpoint(tiny_llama, "tiny"), shipped(), lambda progress: None)
    seen = Conversation((asked("What is this?", WIDE),))
    with pytest.raises(UsageError, match="tiny reads text only: ask without it"):
        list(engine.stream(seen, GREEDY))
    talk = seen.add(Message("assistant", "A field.")).add(asked("Thank you"))
    events = list(engine.stream(talk, GREEDY))
    assert any("those of earlier questions are left out" in e.note for e in events if isinstance(e, Progress))
    assert list(engine._made[said(events)]) == ask(engine, talk.without_images)[1]


def test_without_the_files_of_its_pictures_a_model_talks(qwen: Seeing, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(qwen.folder, tmp_path / "blind"))
    told = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    engine = open_local(open_checkpoint(folder, "blind"), shipped(), lambda progress: None)
    words = Conversation((asked("Hello there"),))
    assert ask(engine, words)[1] == ask(qwen.fresh(), words)[1]
    with pytest.raises(UsageError, match=r"blind lacks preprocessor_config\.json"):
        ask(engine, Conversation((asked("What?", WIDE),)))
    # transformers 5 writes one file for all parts of a processor.
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": told}))
    engine = open_local(open_checkpoint(folder, "seeing"), shipped(), lambda progress: None)
    talk = Conversation((asked("What?", WIDE),))
    assert ask(engine, talk)[1] == ask(qwen.fresh(), talk)[1]


def test_a_template_without_a_place_for_pictures_is_named(qwen: Seeing, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(qwen.folder, tmp_path / "deaf"))
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    engine = open_local(open_checkpoint(folder, "deaf"), shipped(), lambda progress: None)
    with pytest.raises(BrokenCheckpoint, match="0 places for 1 pictures"):
        ask(engine, Conversation((asked("What?", WIDE),)))
