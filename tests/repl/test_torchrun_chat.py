"""A chat under torchrun: Ctrl-C ends the reply alone, and leaving ends every process, at any time."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import Terminal

CTRL_C, CTRL_D, ENTER = "\x03", "\x04", "\r"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs libuv there, and pexpect a terminal"),
]


def prompts(count: int) -> Callable[[str], bool]:
    return lambda text: sum(line.startswith(">") for line in text.split("\n")) >= count


@pytest.fixture
def shared(
    open_chat: Callable[..., Terminal], tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Terminal]:
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    monkeypatch.setitem(os.environ, "CUDA_VISIBLE_DEVICES", "")
    command = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "chatcli", "run")
    return lambda: open_chat(str(tiny_llama), "--temperature", "0", command=command)


def test_ctrl_c_ends_the_reply_and_no_process(
    shared: Callable[[], Terminal], saved: Callable[[], list[tuple[str, str]]]
) -> None:
    """torchrun itself ends everything at a Ctrl-C, which the terminal sends to it alone."""
    chat = shared()
    chat.wait(prompts(1))
    for number, question in enumerate(("hello", "and now"), start=1):
        chat.send(question + ENTER)
        chat.wait(lambda _, place=2 * number - 1: len(saved()) > place and len(saved()[place][1]) > 20)
        chat.send(CTRL_C)
        chat.wait(lambda text, times=number: text.count("[stopped]") == times)
        chat.wait(prompts(number + 1))
    chat.send(CTRL_D)
    assert chat.exit_code() == 0
    messages = saved()
    assert [role for role, _ in messages] == ["user", "assistant"] * 2
    assert all(text for _, text in messages)


def test_who_leaves_before_the_model_is_there_takes_the_others_along(shared: Callable[[], Terminal]) -> None:
    chat = shared()
    chat.wait(prompts(1))
    chat.send(CTRL_D)
    assert chat.exit_code() == 0
