"""Pictures in the history: kept whole, once, for as long as a talk has them; exported, imported, shown."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from chatcli.conversation import Attachment
from chatcli.engines.scripted import ScriptedEngine
from chatcli.generation import GenerationSettings
from chatcli.history.export import export
from chatcli.history.importing import read_conversations
from chatcli.history.migrations import MIGRATIONS
from chatcli.history.store import Store
from chatcli.images import image_of
from chatcli.session import Session

# A whole PNG of one pixel.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
IMAGE = image_of(PIXEL, "pixel.png")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "history.db")


def talk(store: Store, *images: Attachment, name: str = "") -> Session:
    session = Session(ScriptedEngine(["A dot."]), GenerationSettings(), store)
    list(session.say(f"What is this{name}?", images))
    return session


def kept(store: Store) -> int:
    with closing(sqlite3.connect(store.path)) as database:
        return int(database.execute("SELECT count(*) FROM pictures").fetchone()[0])


def test_a_talk_goes_on_after_the_file_is_gone(store: Store) -> None:
    notes = Attachment("notes.md", 3, "ff", "abc")
    first = talk(store, IMAGE, notes)
    engine = ScriptedEngine(["Still a dot."])
    session = Session(engine, GenerationSettings(), Store.open(store.path), resume=first.id)
    list(session.say("And now?"))
    question = engine.asked[-1].messages[0]
    assert question.images == (IMAGE,)
    assert question.text.startswith("notes.md:\n```md\nabc\n```")


def test_a_picture_is_stored_once_and_goes_with_its_last_talk(store: Store) -> None:
    one, two = talk(store, IMAGE), talk(store, IMAGE)
    assert kept(store) == 1
    store.delete([one.id])
    assert kept(store) == 1
    assert store.load(two.id).messages[0].attachments == (IMAGE,)
    store.delete([two.id])
    assert kept(store) == 0


def test_an_export_brings_it_back(store: Store, tmp_path: Path) -> None:
    session = talk(store, IMAGE)
    text = export(session.stored(), "json")
    with closing(Store.open(tmp_path / "other.db")) as other:
        other.add_imported(read_conversations(text, 0.0).conversations)
        assert other.load(session.id).messages[0].attachments == (IMAGE,)


def test_an_export_that_was_changed_brings_no_picture(store: Store) -> None:
    document = json.loads(export(talk(store, IMAGE).stored(), "json"))
    attached = document["messages"][0]["attachments"][0]
    for data in ("%%%", base64.b64encode(b"<script>").decode(), base64.b64encode(PIXEL + b"x").decode(), 7):
        attached["data"] = data
        found = read_conversations(json.dumps(document), 0.0).conversations[0].messages[0].attachments[0]
        assert (found.name, found.data, found.media) == ("pixel.png", b"", "")


def test_the_page_shows_it_and_fetches_nothing(store: Store) -> None:
    page = export(talk(store, IMAGE).stored(), "html")
    assert f'src="data:image/png;base64,{base64.b64encode(PIXEL).decode()}"' in page
    assert "default-src 'none'" in page and "img-src data:" in page and "http:" not in page
    markdown = export(talk(store, IMAGE).stored(), "md")
    assert f"Attached: pixel.png ({len(PIXEL)} bytes)" in markdown


def test_two_talks_about_two_pictures_are_two(store: Store) -> None:
    """Without an id they are known by what is in them."""
    documents = []
    for image in (IMAGE, image_of(PIXEL + b"\0", "pixel.png")):
        document = json.loads(export(talk(store, image).stored(), "json"))
        documents.append({name: value for name, value in document.items() if name != "id"})
    with closing(Store.in_memory()) as other:
        assert all(other.add_imported(read_conversations(json.dumps(documents), 0.0).conversations))


def test_an_unanswered_question_keeps_its_picture(store: Store) -> None:
    session = Session(ScriptedEngine([[]]), GenerationSettings(), store)
    list(session.say("What is this?", [IMAGE]))
    again = Session(ScriptedEngine(["A dot."]), GenerationSettings(), store, resume=session.id)
    assert again.question and again.question.images == (IMAGE,)
    list(again.retry())
    assert again.conversation.images == (IMAGE,)


def test_a_history_from_before_pictures_takes_them(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parent.parent / "golden" / "history_v1.db", tmp_path / "history.db")
    with closing(Store.open(tmp_path / "history.db")) as store:
        session = talk(store, IMAGE)
        assert store.load(session.id).messages[0].attachments == (IMAGE,)
        assert len(store.recent(5)) == 3
    with closing(sqlite3.connect(tmp_path / "history.db")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
