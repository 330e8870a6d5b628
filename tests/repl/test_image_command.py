"""/image in the chat: a picture goes with the next message, also by @ and /file; what is refused, and when."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from seeing_models import picture
from terminal import Terminal

from chatcli.engines.scripted import ScriptedEngine
from chatcli.environment import Environment
from chatcli.errors import UsageError
from chatcli.generation import EngineFacts, GenerationSettings
from chatcli.history.store import Store
from chatcli.images import image_of
from chatcli.repl.attach import attach_again, described, files_with
from chatcli.repl.commands import COMMANDS
from chatcli.repl.completion import Completions
from chatcli.repl.state import Chat
from chatcli.session import Session

PHOTO = picture(8, 6)


class Blind(ScriptedEngine):
    """An engine that is known to read text only."""

    @property
    def facts(self) -> EngineFacts:
        return EngineFacts("owner/blind", context=4096, sees=False)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("photo.png", "my photo.PNG"):
        Path(name).write_bytes(PHOTO)
    Path("notes.md").write_text("Buy milk.\n")
    Path("pictures").mkdir()
    return tmp_path


@pytest.fixture
def chat(environment: Environment) -> Iterator[Chat]:
    with closing(Store.in_memory()) as store:
        yield Chat(Session(ScriptedEngine(["A field."]), GenerationSettings(), store), environment)


def image(chat: Chat, argument: str) -> str:
    chat.environment.stdout.seek(0)  # type: ignore[attr-defined]
    chat.environment.stdout.truncate()  # type: ignore[attr-defined]
    COMMANDS["image"].run(chat, argument)
    return str(chat.environment.stdout.getvalue())  # type: ignore[attr-defined]


def test_it_goes_with_the_next_message(chat: Chat) -> None:
    assert "No picture is attached" in image(chat, "")
    assert f"photo.png, a picture of {len(PHOTO):,} bytes" in image(chat, "photo.png")
    assert "They go with the next message" in image(chat, '"my photo.PNG"')
    images = files_with(chat, "What is this?")
    list(chat.session.say("What is this?", images))
    assert chat.session.conversation.images == (image_of(PHOTO, "photo.png"), image_of(PHOTO, "my photo.PNG"))


def test_a_dash_takes_pictures_back_and_leaves_files(chat: Chat) -> None:
    COMMANDS["file"].run(chat, "notes.md")
    image(chat, "photo.png")
    assert "notes.md" in image(chat, "-")
    assert [each.name for each in chat.attached] == ["notes.md"]


def test_a_picture_may_be_named_as_any_file(chat: Chat) -> None:
    COMMANDS["file"].run(chat, "photo.png")
    assert chat.attached == [image_of(PHOTO, "photo.png")]
    chat.attached.clear()
    assert files_with(chat, "What is @photo.png?") == [image_of(PHOTO, "photo.png")]
    assert "a picture of" in described(image_of(PHOTO, "photo.png"), chat.session.engine)


def test_a_question_that_is_edited_keeps_it(chat: Chat) -> None:
    image(chat, "photo.png")
    list(chat.session.say("What is this?", files_with(chat, "")))
    attach_again(chat, chat.session.question)
    assert chat.attached == [image_of(PHOTO, "photo.png")]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none.png", "cannot be read"),
        ("notes.md", "is no picture"),
        ("pictures", "is a folder"),
        ("https://example.org/a.png", "fetches no pictures"),
    ],
)
def test_what_is_no_picture_is_refused(chat: Chat, name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        image(chat, name)
    assert not chat.attached


def test_a_model_that_is_known_not_to_see_is_named_at_once(environment: Environment) -> None:
    with closing(Store.in_memory()) as store:
        chat = Chat(Session(Blind(["x"]), GenerationSettings(), store), environment)
        for call in (lambda: image(chat, "photo.png"), lambda: files_with(chat, "See @photo.png")):
            with pytest.raises(UsageError, match="owner/blind cannot be shown pictures"):
                call()


def test_tab_offers_pictures_and_folders() -> None:
    completions = Completions(lambda kind: ())
    offered = [each.text for each in completions.get_completions(Document("/image "), CompleteEvent())]
    assert offered == ["my photo.PNG", "photo.png", "pictures/"]


@pytest.mark.slow
def test_a_picture_that_is_piped_in_goes_with_the_first_message(
    tmp_path: Path, make_seeing_checkpoint: Callable[[str], Path]
) -> None:
    line = f'cat photo.png | "$0" -m chatcli run {make_seeing_checkpoint("qwen2_vl")} --max-tokens 5 -a - -p "What?"'
    terminal = Terminal(tmp_path / "home", command=("bash", "-c", line, sys.executable), HF_HUB_OFFLINE="1")
    try:
        terminal.wait(f"standard input, a picture of {len(PHOTO):,} bytes")
        terminal.wait("tokens/s")
    finally:
        terminal.close()
    with closing(Store.open(tmp_path / "home" / "data" / "history.db")) as store:
        asked, answer = store.load(store.find("@1")).messages
    assert asked.message.images == (image_of(PHOTO, "standard input"),)
    assert (answer.completion_tokens or 0) > 0
