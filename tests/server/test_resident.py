"""A resident model's queue and protocol, over a real socket; the engine behind it is scripted."""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pexpect
import pytest
from gguf_files import write_gguf
from waiting import until

from chatcli import sockets, wire
from chatcli.conversation import Conversation, Message
from chatcli.engines import resident
from chatcli.engines.scripted import ScriptedEngine, failing_after
from chatcli.errors import EngineError, OutOfMemory
from chatcli.generation import EngineFacts, Event, Finished, GenerationSettings, Progress, Text
from chatcli.load_request import NOTHING_SAID
from chatcli.models.checkpoint import LoraFolder, open_checkpoint
from chatcli.models.lora import as_model
from chatcli.server.resident import Resident

SPEC = wire.Spec("scripted", "/nowhere", "", False, NOTHING_SAID, "files", "1")
ASKED = Conversation((Message("user", "Hello?"),))


class Shared(ScriptedEngine):
    """A scripted engine that many talks share, and which counts them."""

    talks = 0

    def another_talk(self) -> Shared:
        self.talks += 1
        return self


class Gated(Shared):
    """One that answers when it may."""

    def __init__(self, scripts: Sequence[str]) -> None:
        super().__init__(scripts)
        self.may = threading.Event()

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        self.may.wait()
        yield from super().stream(conversation, settings)


class Held:
    """A resident model in threads of this process, behind a socket in `place`."""

    def __init__(self, place: Path, engine: Shared, *, loading: threading.Event | None = None) -> None:
        self.resident = Resident(SPEC, resident.socket_path(place, SPEC))
        self.engine = engine
        self.listener = sockets.listen(resident.socket_path(place, SPEC))
        threading.Thread(target=self.resident.accept, args=(self.listener,), daemon=True).start()
        self.thread = threading.Thread(target=self._run, args=(loading,), daemon=True)
        self.thread.start()

    def _run(self, loading: threading.Event | None) -> None:
        def opened(report: object) -> Shared:
            if loading:
                loading.wait()
            return self.engine

        threading.Thread(target=self.resident.load, args=(opened,), daemon=True).start()
        self.resident.work()
        self.resident.leave()


Hold = Callable[..., Held]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    assert sockets.is_private(folder)
    return folder


@pytest.fixture
def hold(place: Path) -> Iterator[Hold]:
    held: list[Held] = []

    def holding(engine: Shared, *, loading: threading.Event | None = None) -> Held:
        held.append(Held(place, engine, loading=loading))
        return held[-1]

    yield holding
    for each in held:
        each.resident.stop()
        each.thread.join()
        each.listener.close()


def engine_at(place: Path, keep_alive: float = 60) -> resident.ResidentEngine:
    found = resident.find_resident(SPEC, place, keep_alive, lambda progress: None)
    assert found
    return found


def text_of(events: Iterator[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def test_answers_facts_and_counts_are_those_of_the_engine(place: Path, hold: Hold) -> None:
    engine = Shared(["One two three.", "Four."])
    hold(engine)
    client = engine_at(place)
    assert client.facts == engine.facts
    events = list(client.stream(ASKED, GenerationSettings(temperature=0.5)))
    assert text_of(iter(events)) == "One two three."
    assert events[-1] == Finished("stop", 8, 3, 0, 0.01, 0.01)
    assert client.count(Conversation((Message("user", "a b c"),))) == 3
    assert engine.asked == [ASKED]


def test_each_client_is_a_talk_of_its_own_and_stays_one(place: Path, hold: Hold) -> None:
    engine = Shared(["Yes."])
    hold(engine)
    first, second = engine_at(place), engine_at(place)
    for client in (first, second, first):
        list(client.stream(ASKED, GenerationSettings()))
    assert engine.talks == 2


def test_an_error_of_the_engine_comes_as_itself_behind_what_was_said(place: Path, hold: Hold) -> None:
    full = [Text("Before."), OutOfMemory("The device is full.")]
    hold(Shared([full, failing_after(2, "One two three"), "Fine."]))
    client = engine_at(place)
    got: list[Event] = []
    with pytest.raises(OutOfMemory, match=r"^The device is full\.$"):
        got.extend(client.stream(ASKED, GenerationSettings()))
    with pytest.raises(EngineError, match="told to fail"):
        list(client.stream(ASKED, GenerationSettings()))
    assert text_of(client.stream(ASKED, GenerationSettings())) == "Fine."


class Defective(Shared):
    """An engine with a defect."""

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        yield from super().stream(conversation, settings)
        raise AssertionError("no such layer")


def test_a_defect_is_told_once_and_its_process_leaves(place: Path, hold: Hold) -> None:
    engine = Defective([[Progress("reading")]])
    held = hold(engine)
    with pytest.raises(EngineError, match=r"unexpected AssertionError: no such layer\. .* --keep-alive 0 --debug"):
        list(engine_at(place).stream(ASKED, GenerationSettings()))
    held.thread.join()
    assert engine.asked == [ASKED]


def test_requests_are_served_in_the_order_in_which_they_came(place: Path, hold: Hold) -> None:
    engine = Gated(["first first first", "second", "third"])
    held = hold(engine)
    asked = [Conversation((Message("user", str(number)),)) for number in range(3)]
    streams = [engine_at(place).stream(each, GenerationSettings()) for each in asked]
    for number, events in enumerate(streams):
        next(events)
        until(lambda number=number: len(held.resident._waiting) == number + 1)  # type: ignore[misc]
    engine.may.set()
    assert [text_of(events) for events in streams] == ["first first first", "second", "third"]
    assert engine.asked == asked


def test_who_waits_is_told_so(place: Path, hold: Hold) -> None:
    hold(Shared(["slow " * 5000, "next"], seconds_per_piece=0.02))
    slow = engine_at(place).stream(ASKED, GenerationSettings())
    while not isinstance(next(slow), Text):
        pass
    events = engine_at(place).stream(ASKED, GenerationSettings())
    while (first := next(events)) == Progress("starting"):  # its own word for as long as it has heard nothing
        pass
    assert first == Progress("waiting")
    slow.close()
    assert text_of(events) == "next"


def test_a_client_that_leaves_frees_the_model_for_the_next(place: Path, hold: Hold) -> None:
    engine = Shared(["word " * 5000, "next"], seconds_per_piece=0.02)
    hold(engine)
    events = engine_at(place).stream(ASKED, GenerationSettings())
    while not isinstance(next(events), Text):
        pass
    events.close()
    assert text_of(engine_at(place).stream(ASKED, GenerationSettings())) == "next"
    assert engine.cancelled == 1


def test_a_client_that_leaves_is_missed_though_a_process_was_forked_meanwhile(place: Path, hold: Hold) -> None:
    """The copy of its connection that a child has kept the model answering nobody."""
    engine = Shared(["word " * 5000, "next"], seconds_per_piece=0.02)
    hold(engine)
    events = engine_at(place).stream(ASKED, GenerationSettings())
    while not isinstance(next(events), Text):
        pass
    child = os.fork()
    if not child:
        signal.pause()
    try:
        events.close()
        until(lambda: engine.cancelled)
        assert text_of(engine_at(place).stream(ASKED, GenerationSettings())) == "next"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_client_that_left_while_it_waited_is_not_answered(place: Path, hold: Hold) -> None:
    engine = Gated(["one two three four", "second"])
    waiting = hold(engine).resident._waiting
    first, left = (engine_at(place).stream(ASKED, GenerationSettings()) for _ in range(2))
    for number, events in enumerate((first, left)):
        next(events)
        until(lambda number=number: len(waiting) == number + 1)  # type: ignore[misc]
    left.close()
    waiting[1].gone.wait()
    engine.may.set()
    assert text_of(first) == "one two three four"
    assert text_of(engine_at(place).stream(ASKED, GenerationSettings())) == "second"


def test_a_client_that_reads_nothing_holds_up_nobody(place: Path, hold: Hold) -> None:
    """Found by `ask | less`: once the socket's buffer was full, the model waited with it."""
    hold(Shared([[*[Text("x" * 1000)] * 5000, Finished("stop")], "next"]))
    stopped = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stopped.connect(str(resident.socket_path(place, SPEC)))
    with closing(stopped):
        stopped.sendall(wire.encode(wire.Ask("talk", ASKED, GenerationSettings(), 60)))
        assert stopped.recv(1)  # it is queued
        assert text_of(engine_at(place).stream(ASKED, GenerationSettings())) == "next"


def test_a_draft_is_read_ahead_and_gives_way_to_a_question(place: Path, hold: Hold) -> None:
    engine = Shared(["Yes."], seconds_per_piece=0.02)
    waiting = hold(engine).resident._waiting
    client = engine_at(place)
    assert all(isinstance(event, Progress) for event in client.prepare(ASKED, GenerationSettings()))
    assert engine.prepared == [ASKED]
    long = Conversation((Message("user", "word " * 5000),))
    reading = client.prepare(long, GenerationSettings())
    until(lambda: not waiting)
    next(reading)
    until(lambda: waiting)
    assert text_of(engine_at(place).stream(ASKED, GenerationSettings())) == "Yes."
    assert all(isinstance(event, Progress) for event in reading)
    assert engine.prepared == [ASKED]


def test_status_tells_what_is_under_way(place: Path, hold: Hold) -> None:
    loading = threading.Event()
    hold(Shared(["word " * 5000], seconds_per_piece=0.02), loading=loading)
    ((path, status),) = resident.statuses(place)
    assert (status.state, status.model, status.pid) == ("loading", "scripted", os.getpid())
    loading.set()
    client = engine_at(place, keep_alive=600)
    ((_, status),) = resident.statuses(place)
    assert status.state == "idle"
    assert 500 < status.remaining <= 600
    events = client.stream(ASKED, GenerationSettings())
    while not isinstance(next(events), Text):
        pass
    assert resident.statuses(place)[0][1].state == "answering"
    assert not resident.stop(path, if_idle=True)
    assert isinstance(next(events), Event.__args__)  # type: ignore[attr-defined]
    events.close()


@pytest.mark.parametrize("columns", [80, 40, 20])
def test_the_list_of_models_keeps_within_the_window(place: Path, hold: Hold, columns: int) -> None:
    hold(Shared(["One."]))
    shell = pexpect.spawn(
        sys.executable,
        ["-m", "chatcli", "ps"],
        env={**os.environ, "CHATCLI_HOME": str(place.parent)},
        dimensions=(24, columns),
        timeout=None,
        encoding="utf-8",
    )
    lines = shell.read().splitlines()
    assert all(len(line) <= columns for line in lines)
    assert "scripted" in lines[-1] and "idle" in lines[-1]


def test_one_that_is_still_loading_leaves_at_once_and_says_so_to_who_waits(place: Path, hold: Hold) -> None:
    """`chatcli stop` said that it had left, and it loaded on for a minute."""
    loading = threading.Event()
    held = hold(Shared(["Yes."]), loading=loading)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            engine_at(place)
        except EngineError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    until(lambda: held.resident._opening)
    # This process does not end, as the one with the model would, and who tells it to would wait for that.
    threading.Thread(target=resident.stop, args=(resident.socket_path(place, SPEC),), daemon=True).start()
    held.thread.join()
    waiting.join()
    assert [str(error) for error in errors] == ["The process that holds scripted was stopped."]
    loading.set()


def test_stopping_ends_the_answer_under_way_with_a_sentence(place: Path, hold: Hold) -> None:
    hold(Shared(["word " * 5000], seconds_per_piece=0.02))
    events = engine_at(place).stream(ASKED, GenerationSettings())
    while not isinstance(next(events), Text):
        pass
    threading.Thread(target=resident.stop, args=(resident.socket_path(place, SPEC),), daemon=True).start()
    with pytest.raises(EngineError, match="scripted was stopped in the middle of its answer"):
        list(events)


def test_a_model_that_nobody_asks_leaves_in_time(place: Path, hold: Hold) -> None:
    held = hold(Shared(["Yes."]))
    client = engine_at(place, keep_alive=600)
    client._keep_alive = 0.1  # from the question on, or it might leave before that
    list(client.stream(ASKED, GenerationSettings()))
    held.thread.join()


def test_a_model_whose_socket_is_gone_leaves_for_nobody_can_ask(place: Path, hold: Hold) -> None:
    held = hold(Shared(["Yes."]))
    engine_at(place, keep_alive=600)
    resident.socket_path(place, SPEC).unlink()
    held.thread.join()


def test_loading_is_told_to_who_waits_and_its_error_too(place: Path) -> None:
    held = Resident(SPEC, resident.socket_path(place, SPEC))
    listener = sockets.listen(resident.socket_path(place, SPEC))
    threading.Thread(target=held.accept, args=(listener,), daemon=True).start()
    told: list[Progress] = []

    def failing(report: Callable[[Progress], None]) -> Shared:
        until(lambda: held._opening)
        report(Progress("loading", 1, 2, "B"))
        raise OutOfMemory("It does not fit.")

    thread = threading.Thread(target=held.load, args=(failing,))
    thread.start()
    with pytest.raises(OutOfMemory, match="It does not fit"):
        try:
            resident.find_resident(SPEC, place, 60, told.append)
        finally:
            thread.join()
            listener.close()
    assert Progress("loading", 1, 2, "B") in told


def test_what_is_no_request_of_ours_ends_the_connection_and_nothing_else(place: Path, hold: Hold) -> None:
    hold(Shared(["Yes."]))
    for line in (b"GET / HTTP/1.1\r\n\r\n", b'{"is": "Text", "text": "?"}\n', b"\xff\n", b"[" * 10**5 + b"\n"):
        stranger = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stranger.connect(str(resident.socket_path(place, SPEC)))
        with closing(stranger):
            stranger.sendall(line)
            assert stranger.recv(1) == b""
    assert text_of(engine_at(place).stream(ASKED, GenerationSettings())) == "Yes."


def test_a_process_that_ends_in_its_answer_is_no_end_of_the_answer(place: Path, hold: Hold) -> None:
    hold(Shared(["Yes."]))
    client = engine_at(place)
    path = resident.socket_path(place, SPEC)
    path.unlink()
    with closing(sockets.listen(path)) as dying:
        events = client.stream(ASKED, GenerationSettings())
        answer = threading.Thread(target=_die_after_a_word, args=(dying,))
        answer.start()
        got: list[Event] = []
        with pytest.raises(EngineError, match="ended in the middle of its answer; what was said is kept"):
            for event in events:
                got.append(event)
        answer.join()
    assert text_of(iter(got)) == "Half"


def _die_after_a_word(listener: socket.socket) -> None:
    with closing(listener.accept()[0]) as client:
        client.recv(1 << 16)
        client.sendall(wire.encode(Progress("reading")) + wire.encode(Text("Half")) + b'{"is": "Te')


def test_only_its_owner_can_open_a_socket(place: Path) -> None:
    path = place / "one.sock"
    with closing(sockets.listen(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(place.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_folder_that_others_may_enter_is_not_used(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    assert not sockets.is_private(folder)


def test_a_symbolic_link_in_the_folders_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert not sockets.is_private(tmp_path / "link")


def test_a_dead_socket_is_taken_away_when_somebody_looks(place: Path) -> None:
    path = place / "dead.sock"
    sockets.listen(path).close()
    assert resident.statuses(place) == []
    assert not path.exists()


def test_a_long_home_still_has_a_place_for_sockets(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    place = sockets.folder({"CHATCLI_HOME": str(long)})
    assert len(str(place / "0123456789ab.sock")) < 104
    assert place != sockets.folder({"CHATCLI_HOME": str(long) + "y"})


def test_facts_before_the_model_is_there_wait_for_it(place: Path, hold: Hold) -> None:
    loading = threading.Event()
    hold(Shared(["Yes."]), loading=loading)
    told: list[Progress] = []

    def hear(progress: Progress) -> None:
        told.append(progress)
        loading.set()

    found = resident.find_resident(SPEC, place, 60, hear)
    assert found
    assert isinstance(found.facts, EngineFacts)
    assert told


def test_the_process_opens_the_checkpoint_that_is_meant(tiny_llama: Path, tmp_path: Path) -> None:
    """Adapters were left out without a word, and a GGUF file was not found."""
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_text("{}")
    plain = replace(open_checkpoint(tiny_llama, "org/plain"), trusted=True)
    worn = as_model(plain, LoraFolder("org/adapter", tmp_path, 0.5), "main")
    gguf = open_checkpoint(write_gguf(tmp_path / "model.gguf", tiny_llama, "llama"), "one")
    specs = [resident.specify(each, NOTHING_SAID, tmp_path / "config", {}) for each in (plain, worn, gguf)]
    for checkpoint, spec in zip((plain, worn, gguf), specs, strict=True):
        assert resident.specified(wire.decode(wire.encode(spec))) == checkpoint
    (tmp_path / "adapter_model.safetensors").write_text("another")
    assert resident.specify(worn, NOTHING_SAID, tmp_path / "config", {}) != specs[1]


def test_who_opens_a_model_has_its_whole_time_from_then_on(place: Path, hold: Hold) -> None:
    held = hold(Shared(["Yes."]))
    engine_at(place, keep_alive=600)
    held.resident._used -= 500
    engine_at(place, keep_alive=600)
    assert resident.statuses(place)[0][1].remaining > 500


def test_a_model_with_a_question_in_its_queue_is_not_idle(place: Path) -> None:
    """It was, from one question's end to the next one's beginning, and was sent away under that one."""
    held = Resident(SPEC, resident.socket_path(place, SPEC))
    held.load(lambda report: Shared(["Yes."]))  # type: ignore[arg-type,return-value]
    with closing(sockets.listen(resident.socket_path(place, SPEC))) as listener:
        threading.Thread(target=held.accept, args=(listener,), daemon=True).start()
        events = engine_at(place).stream(ASKED, GenerationSettings())
        next(events)  # it is queued, and nobody works
        ((path, status),) = resident.statuses(place)
        assert status.state == "answering"
        assert not resident.stop(path, if_idle=True)
        threading.Thread(target=held.work, daemon=True).start()
        assert text_of(events) == "Yes."
        held.stop()


def test_a_question_that_came_too_late_goes_to_the_next_process(place: Path, hold: Hold) -> None:
    held = hold(Shared(["Old."]))
    client = engine_at(place)
    held.resident.stop()
    held.thread.join()
    path = resident.socket_path(place, SPEC)
    old = sockets.connect(path)
    assert old
    with closing(old):
        old.sendall(wire.encode(wire.Ask("talk", ASKED, GenerationSettings(), 60)))
        assert b"Failure" not in b"".join(iter(lambda: old.recv(1 << 16), b""))
    path.unlink()
    hold(Shared(["New."]))
    assert text_of(client.stream(ASKED, GenerationSettings())) == "New."


def test_who_takes_over_a_socket_is_the_one_that_listens(place: Path) -> None:
    """The process did not know its own socket once the one that had started it was gone, and left it behind."""
    path = place / "handed.sock"
    listener, (ready, told) = sockets.listen(path), os.pipe()
    child = os.fork()
    if not child:
        sockets.take_over(listener.fileno())
        os.write(told, b".")
        signal.pause()
    try:
        assert os.read(ready, 1)
        connection = sockets.connect(path)
        assert connection
        with closing(listener), closing(connection):
            assert sockets.peer(connection) in (None, (child, os.getuid()))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
