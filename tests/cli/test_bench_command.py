"""`bench` as a shell sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from chatcli.cli.main import app

BENCH = [sys.executable, "-m", "chatcli", "bench"]


def bench(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    surroundings = {**os.environ, "CHATCLI_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    return subprocess.run([*BENCH, *arguments], env=surroundings, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_it_measures_the_built_in_model_for_programs(tmp_path: Path) -> None:
    done = bench(tmp_path, "--prompt", "20", "--tokens", "4", "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert (found["model"], found["prompt"], found["tokens"], found["rounds"]) == ("guide", 20, 4, 1)
    for way in ("ours", "plain", "ratios"):
        assert all(number > 0 for number in found[way].values())
    assert found["share"] == pytest.approx(found["ours"]["decode"] * found["bytes_per_token"] / found["bandwidth"])
    assert found["machine"]["threads"] >= 1


def bench_here(tmp_path: Path, *arguments: str) -> Result:
    return CliRunner(env={"CHATCLI_HOME": str(tmp_path)}).invoke(app, ["bench", *arguments])


def test_lengths_that_measure_nothing_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    for arguments in (("--tokens", "1"), ("--prompt", "0"), ("--rounds", "0")):
        done = bench_here(tmp_path, *arguments)
        assert done.exit_code == 2
        assert "at least" in done.stderr
        assert done.stdout == ""


def test_more_than_the_context_is_refused_with_its_size(tmp_path: Path) -> None:
    done = bench_here(tmp_path, "--prompt", "1000000")
    assert done.exit_code == 2
    assert "context" in done.stderr
