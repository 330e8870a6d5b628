"""The memory runs out in the middle of a chat: a sentence says what to do, and the chat goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import Terminal

NARROW = Path(__file__).with_name("narrow_chat.py")
CTRL_C, CTRL_D, ENTER = "\x03", "\x04", "\r"


def prompts(count: int) -> Callable[[str], bool]:
    return lambda text: sum(line.startswith(">") for line in text.split("\n")) >= count


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a process to so much memory")
def test_out_of_memory_in_a_chat_frees_the_cache_and_the_next_turn_works(
    make_checkpoint: Callable[..., Path],
    open_chat: Callable[..., Terminal],
    saved: Callable[[], list[tuple[str, str]]],
) -> None:
    """A long question takes 60000 floats a token, more than 100 MB: torch's own allocator fails."""
    folder = make_checkpoint(intermediate_size=60_000, num_hidden_layers=1, max_position_embeddings=4096)
    chat = open_chat(command=(sys.executable, str(NARROW), str(folder), "100"), rows=60, MALLOC_ARENA_MAX="1")
    chat.wait(prompts(1))
    chat.send("hello" + ENTER)
    chat.wait(prompts(2))
    chat.send("brown fox " * 150 + ENTER)
    chat.wait("ran out of memory while answering; the cache is freed")
    chat.wait("/undo")
    chat.wait(lambda text: text.count("> brown fox") == 2)
    chat.send(CTRL_C)
    chat.wait(lambda text: text.count("> brown fox") == 1)
    chat.send("and now" + ENTER)
    chat.wait(prompts(4))
    chat.send(CTRL_D)
    assert chat.exit_code() == 0
    messages = saved()
    assert [role for role, _ in messages] == ["user", "assistant", "user", "assistant"]
    assert [text for role, text in messages if role == "user"] == ["hello", "and now"]
    assert all(text for _, text in messages)
