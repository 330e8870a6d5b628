"""`ask` for scripts: the forms of an answer, what it is held to, what is said of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from chatcli.cli.main import app

Ask = Callable[..., Result]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """The command in this process, with a home of its own; the built-in guide answers."""
    monkeypatch.setenv("CHATCLI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(*arguments: str, stdin: str = "") -> Result:
        return CliRunner().invoke(app, ["ask", *arguments], input=stdin)

    return run


@pytest.fixture
def tiny(tiny_llama: Path) -> tuple[str, ...]:
    return ("-m", str(tiny_llama), "--temperature", "0")


def test_json_is_one_object_with_every_documented_field(ask: Ask) -> None:
    done = ask("--json", "How do I leave?")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    documented = (Path(__file__).parents[2] / "docs" / "scripts.md").read_text(encoding="utf-8")
    assert [name for name in told if f"`{name}`" not in documented] == []
    assert told["text"] == ask("How do I leave?").stdout.removesuffix("\n")
    assert (told["model"], told["finish_reason"], told["reasoning"]) == ("guide", "stop", "")
    assert told["usage"]["total_tokens"] == told["usage"]["prompt_tokens"] + told["usage"]["completion_tokens"]
    assert told["settings"]["temperature"] == 0.0
    assert len(told["conversation"]) == 12


def test_jsonl_is_an_object_an_event_whose_texts_are_the_answer(ask: Ask) -> None:
    done = ask("--jsonl", "How do I leave?")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told[-1]["type"] == "finished"
    assert told[-1]["finish_reason"] == "stop"
    assert "".join(each["text"] for each in told if each["type"] == "text") == ask("How do I leave?").stdout.strip()
    assert sum(each["type"] == "progress" for each in told) < 10


def test_several_answers_are_apart_and_differ_under_a_seed(ask: Ask, tiny: tuple[str, ...]) -> None:
    several = ("-m", tiny[1], "--temperature", "1.5", "--seed", "4", "--max-tokens", "8", "-n", "3")
    first, second, third = ask(*several, "Hello").stdout.split("\n---\n")
    assert len({first.strip(), second.strip(), third.strip()}) == 3
    objects = [json.loads(line) for line in ask(*several, "--json", "Hello").stdout.splitlines()]
    assert [each["text"].strip() for each in objects] == [first.strip(), second.strip(), third.strip()]
    assert len({each["conversation"] for each in objects}) == 1


def test_a_file_is_written_whole_or_not_at_all(ask: Ask, tiny: tuple[str, ...], tmp_path: Path) -> None:
    target = tmp_path / "answer.md"
    done = ask("-o", str(target), "How do I leave?")
    assert (done.exit_code, done.stdout) == (0, "")
    kept = target.read_text(encoding="utf-8")
    assert "/exit" in kept
    cut = ask(*tiny, "--max-tokens", "3", "--require-complete", "-o", str(target), "Hello")
    assert cut.exit_code == 6
    assert target.read_text(encoding="utf-8") == kept
    assert [path.name for path in tmp_path.iterdir() if "answer" in path.name] == ["answer.md"]
    lost = ask("-o", str(tmp_path / "no" / "answer.md"), "How do I leave?")
    assert lost.exit_code == 2
    assert "cannot be written" in lost.stderr


def test_half_an_answer_is_exit_6_only_where_it_must_be_whole(ask: Ask, tiny: tuple[str, ...]) -> None:
    assert ask(*tiny, "--max-tokens", "3", "Hello").exit_code == 0
    cut = ask(*tiny, "--max-tokens", "3", "--require-complete", "Hello")
    assert cut.exit_code == 6
    assert "cut off after 3 tokens" in cut.stderr
    never = ask(*tiny, "--max-tokens", "3", "--regex", "[a-z]{40}", "Hello")
    assert never.exit_code == 6


def test_a_schema_prints_valid_json_and_nothing_else(ask: Ask, tiny: tuple[str, ...], tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
        "required": ["a", "b"],
    }
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    for given in (json.dumps(schema), str(tmp_path / "schema.json")):
        done = ask(*tiny, "--schema", given, "Hello")
        assert done.exit_code == 0
        told = json.loads(done.stdout)
        assert isinstance(told["a"], int) and isinstance(told["b"], str)
    assert ask(*tiny, "--choice", "yes, no", "Hello").stdout.strip() in ("yes", "no")
    wrong = ask(*tiny, "--schema", '{"not": {}}', "Hello")
    assert wrong.exit_code == 2
    assert "not" in wrong.stderr


def test_templates_files_and_input_make_the_question(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the text itself")
    done = ask("--json", "-t", "translate", "-f", str(tmp_path / "a.txt"), "to=French")
    assert done.exit_code == 0
    assert ask("-t", "translat", "x").exit_code == 2
    assert ask("-t", "translate", "into=French", "x").exit_code == 2


def test_too_long_an_input_is_refused_with_the_counts_or_cut_where_allowed(ask: Ask, tiny: tuple[str, ...]) -> None:
    long = "word " * 3000
    refused = ask(*tiny, "Why?", stdin=long)
    assert refused.exit_code == 2
    assert "512" in refused.stderr
    for part in ("head", "tail", "middle"):
        done = ask(*tiny, "--truncate", part, "--max-tokens", "4", "Why?", stdin=long)
        assert done.exit_code == 0, done.stderr
    assert ask(*tiny, "--truncate", "nose", "Why?", stdin=long).exit_code == 2


def test_logprobs_are_there_for_programs_only(ask: Ask, tiny: tuple[str, ...]) -> None:
    told = json.loads(ask(*tiny, "--json", "--logprobs", "2", "--max-tokens", "4", "Hello").stdout)
    assert len(told["logprobs"]) == 4
    assert all(each["top"][0]["id"] == each["id"] for each in told["logprobs"])
    assert ask("--logprobs", "2", "Hello").exit_code == 2
    assert ask("--json", "--jsonl", "Hello").exit_code == 2
    assert ask("--regex", "a", "--choice", "b", "Hello").exit_code == 2


@pytest.mark.parametrize("flag", ["--schema", "--regex", "--choice", "--truncate", "-t", "-o"])
def test_an_empty_value_never_means_that_nothing_was_asked_for(ask: Ask, flag: str) -> None:
    """A script's empty variable must not turn a guaranteed answer into a free one."""
    done = ask(flag, "", "How do I leave?")
    assert (done.exit_code, done.stdout) == (2, "")


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--schema", '{"$ref": "#"}'), ("--schema", '{"enum": []}'), ("--regex", r"[^\s\S]"), ("--regex", r"a[^\s\S]")],
)
def test_what_no_text_conforms_to_is_refused_before_a_model_loads(ask: Ask, flag: str, value: str) -> None:
    done = ask("-m", "./nowhere", flag, value, "Hello")
    assert done.exit_code == 2
    assert f"{flag} cannot be followed" in done.stderr


def test_an_output_that_cannot_be_written_is_refused_before_a_model_loads(ask: Ask, tmp_path: Path) -> None:
    done = ask("-m", "./nowhere", "-o", str(tmp_path), "Hello")
    assert done.exit_code == 2
    assert ask("-o", "-", "How do I leave?").stdout.startswith("`/exit`")


def test_a_dash_among_the_files_is_standard_input(ask: Ask) -> None:
    assert ask("-f", "-", stdin="How do I leave?\n").stdout.startswith("`/exit`")
