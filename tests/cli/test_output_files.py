"""What `--output` writes to: files behind links, devices, and what is refused before any work."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from chatcli.cli.output import target_of, write_whole
from chatcli.errors import UsageError


def test_a_link_stays_a_link_and_the_file_behind_it_keeps_its_mode(tmp_path: Path) -> None:
    real, link = tmp_path / "real.md", tmp_path / "link.md"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to("real.md")
    write_whole(target_of(str(link)), ["ne", "w"])
    assert link.is_symlink()
    assert (real.read_text(), stat.S_IMODE(real.stat().st_mode)) == ("new", 0o640)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.md", "real.md"]


def test_a_dangling_link_gets_its_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("later.md")
    write_whole(target_of(str(tmp_path / "link")), ["text"])
    assert (tmp_path / "later.md").read_text() == "text"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_whole(target_of(str(pipe)), ["text"])
    reader.join()
    assert read == ["text"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_full_device_is_said_and_left_alone() -> None:
    with pytest.raises(UsageError, match="No space left"):
        write_whole(target_of("/dev/full"), ["text"])
    assert not Path("/dev/full").is_file()


def test_the_longest_name_that_there_is_can_be_written(tmp_path: Path) -> None:
    write_whole(target_of(str(tmp_path / ("n" * 255))), ["text"])
    assert (tmp_path / ("n" * 255)).read_text() == "text"


@pytest.mark.parametrize(("name", "said"), [("", "empty"), ("no/file", "no folder"), (".", "folder")])
def test_what_cannot_be_written_is_refused_by_its_reason(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said):
        target_of(name)


def test_a_private_file_is_readable_by_nobody_else(tmp_path: Path) -> None:
    target = tmp_path / "history.json"
    target.write_text("old")
    target.chmod(0o644)
    write_whole(target, ["new"], private=True)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
