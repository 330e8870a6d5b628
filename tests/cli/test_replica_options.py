"""What `--replicas`, `--ray-address` and `--engine` say together."""

from __future__ import annotations

import pytest

from chatcli.cli.replicas import Wanted, wanted
from chatcli.errors import EngineError, UsageError
from chatcli.server.replicas.cluster import join


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (("", "", "local"), None),
        (("1", "", "local"), Wanted(1, 1, "", "local")),
        (("4", "", "local"), Wanted(4, 4, "", "local")),
        (("1-8", "head:6379", "local"), Wanted(1, 8, "head:6379", "local")),
        (("", "head:6379", "local"), Wanted(1, 1, "head:6379", "local")),
        (("", "", "vllm"), Wanted(1, 1, "", "vllm")),
    ],
)
def test_they_say_how_many_and_where(said: tuple[str, str, str], expected: Wanted | None) -> None:
    assert wanted(1, *said) == expected


@pytest.mark.parametrize("replicas", ["0", "-1", "2-1", "0-4", "many", "1-", "1.5"])
def test_what_is_no_number_of_replicas_is_refused(replicas: str) -> None:
    with pytest.raises(UsageError, match="write 2, or 1-8"):
        wanted(1, replicas, "", "local")


def test_engines_are_two_and_vllm_runs_one_model() -> None:
    with pytest.raises(UsageError, match="local or vllm"):
        wanted(1, "", "", "trt")
    with pytest.raises(UsageError, match="one model"):
        wanted(2, "", "", "vllm")


def test_a_cluster_is_joined_with_a_token_at_an_address_where_somebody_listens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UsageError, match="wants a token"):
        join("127.0.0.1:1", {})
    with pytest.raises(UsageError, match="write HOST:PORT"):
        join("head", {"RAY_AUTH_TOKEN": "t"})
    with pytest.raises(EngineError, match="No Ray cluster is at"):
        join("127.0.0.1:1", {"RAY_AUTH_TOKEN": "t"})
