"""The program: the table of its commands, and the one place where errors become exit codes.

It knows which commands there are; what they do is in their files, imported when they run.
"""

from __future__ import annotations

import functools
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import typer

from chatcli import __version__
from chatcli.cli.adapters import adapters_list, adapters_match, adapters_render, adapters_show
from chatcli.cli.ask import ask
from chatcli.cli.batch import batch
from chatcli.cli.bench import bench
from chatcli.cli.completion import completion
from chatcli.cli.completions.lists import refresh
from chatcli.cli.config import config_path, config_set, config_show
from chatcli.cli.continuing import Continuing
from chatcli.cli.history.listing import history_list, history_path, history_search, history_show
from chatcli.cli.history.moving import history_export, history_import
from chatcli.cli.history.removing import history_prune, history_rm, history_title
from chatcli.cli.models import models_show
from chatcli.cli.replay import replay
from chatcli.cli.resident import ps, stop
from chatcli.cli.run import run
from chatcli.cli.templates import templates_list, templates_show
from chatcli.cli.tokens import tokens
from chatcli.environment import real_environment
from chatcli.errors import INTERRUPTED, ChatcliError
from chatcli.streaming.sanitize import sanitize

CLOSED_PIPE = 141
"""Exit code when the reader of our output has gone, as shells count it: 128 + SIGPIPE."""

Action = Callable[..., int | None]

COMMANDS: Mapping[str, Action] = {
    "run": run,
    "ask": ask,
    "batch": batch,
    "replay": replay,
    "tokens": tokens,
    "bench": bench,
    "ps": ps,
    "stop": stop,
    "completion": completion,
}
"""The commands that stand alone, in the order of the help page."""


@dataclass(frozen=True, slots=True)
class Group:
    """Commands under one name; `alone` is what the name does by itself."""

    help: str
    commands: Mapping[str, Action]
    alone: Action | None = None


GROUPS: Mapping[str, Group] = {
    "models": Group("What is known of a model.", {"show": models_show}),
    "adapters": Group(
        "The table of model families: list, show, match, render.",
        {"show": adapters_show, "match": adapters_match, "render": adapters_render},
        adapters_list,
    ),
    "history": Group(
        "List, show, find, export, import and remove stored conversations.",
        {
            "show": history_show,
            "search": history_search,
            "export": history_export,
            "import": history_import,
            "rm": history_rm,
            "prune": history_prune,
            "title": history_title,
            "path": history_path,
        },
        history_list,
    ),
    "templates": Group("List and show prompt templates.", {"show": templates_show}, templates_list),
    "config": Group("Show and change settings.", {"path": config_path, "show": config_show, "set": config_set}),
}
"""The commands that have commands below them."""

app = typer.Typer(
    name="chatcli",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Talk to any Hugging Face checkpoint from your terminal.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"chatcli {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors; may stand anywhere.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and leave.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """`--debug` is listed here for its help; `run_program` has taken it already."""


def _guarded(command: Action) -> Callable[..., None]:
    """A command whose errors are explained, and which ends the program with a documented exit code."""

    @functools.wraps(command)
    def guarded(*args: Any, **options: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            code = command(*args, **options) or 0
            sys.stdout.flush()
        except ChatcliError as error:
            code = _explain(error)
        except KeyboardInterrupt:
            code = INTERRUPTED
        except BrokenPipeError:
            code = CLOSED_PIPE
            # What is still buffered has no reader; without this the interpreter complains at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            what = f"{error.filename} cannot be used" if error.filename else "The output could not be written"
            code = _explain(ChatcliError(f"{what}: {error.strerror or error}."))
        refresh(real_environment())
        if code:
            raise typer.Exit(code)

    return guarded


def _explain(error: ChatcliError) -> int:
    if os.environ.get("CHATCLI_DEBUG"):
        traceback.print_exception(error)
    print(f"chatcli: {sanitize(str(error), single_line=True)}", file=sys.stderr)
    return error.exit_code


def _add_commands() -> None:
    for name, action in COMMANDS.items():
        app.command(name, cls=Continuing if name in ("run", "ask") else None)(_guarded(action))
    for name, group in GROUPS.items():
        below = typer.Typer(help=group.help, no_args_is_help=not group.alone, rich_markup_mode=None)
        if group.alone:
            below.callback(invoke_without_command=True)(_guarded(group.alone))
        for each, action in group.commands.items():
            below.command(each)(_guarded(action))
        app.add_typer(below, name=name)


_add_commands()


def run_program() -> NoReturn:
    """Run with the process's arguments; leaves without the interpreter's clean-up, which costs torch a second."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell, as in `>&-`
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a Latin-1 terminal shows ? and no traceback
    try:
        app(_without_debug(sys.argv[1:]), prog_name="chatcli")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except Exception as error:  # a defect of ours: still no traceback for a person
        if os.environ.get("CHATCLI_DEBUG"):
            traceback.print_exc()
        print(
            f"chatcli: unexpected {type(error).__name__}: {sanitize(str(error), single_line=True)}. "
            "This is a defect of chatcli; `chatcli --debug ...` shows where.",
            file=sys.stderr,
        )
        code = 5
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or CLOSED_PIPE
    if code == INTERRUPTED and os.name == "posix":  # of the signal itself, or a shell's loop around us would go on
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


def _without_debug(arguments: list[str]) -> list[str]:
    """Take `--debug` from wherever it stands: people add it at the end of the line that failed."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    if "--debug" in arguments[:end]:
        os.environ["CHATCLI_DEBUG"] = "1"
    return [each for i, each in enumerate(arguments) if each != "--debug" or i >= end]


def surface() -> frozenset[str]:
    """Every command and long option there is, such as "chatcli history show" and "chatcli run --top-p"."""
    names: set[str] = set()

    def walk(command: Any, path: str) -> None:
        names.add(path)
        for parameter in command.params:
            options = (*parameter.opts, *parameter.secondary_opts)  # --think and --no-think
            names.update(f"{path} {option}" for option in options if option.startswith("--"))
        for name, child in getattr(command, "commands", {}).items():
            walk(child, f"{path} {name}")

    walk(typer.main.get_command(app), "chatcli")
    return frozenset(names)
