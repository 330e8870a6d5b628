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
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from chatcli import __version__
from chatcli.cli.adapters import adapters_list, adapters_match, adapters_render, adapters_show
from chatcli.cli.ask import ask
from chatcli.cli.batch import batch
from chatcli.cli.completion import completion
from chatcli.cli.completions.lists import refresh
from chatcli.cli.config import config_path, config_set, config_show
from chatcli.cli.continuing import Continuing
from chatcli.cli.history.listing import history_list, history_path, history_search, history_show
from chatcli.cli.history.moving import history_export, history_import
from chatcli.cli.history.removing import history_prune, history_rm, history_title
from chatcli.cli.models import models_show
from chatcli.cli.replay import replay
from chatcli.cli.run import run
from chatcli.cli.templates import templates_list, templates_show
from chatcli.cli.tokens import tokens
from chatcli.environment import real_environment
from chatcli.errors import INTERRUPTED, ChatcliError
from chatcli.streaming.sanitize import sanitize

CLOSED_PIPE = 141
"""Exit code when the reader of our output has gone, as shells count it: 128 + SIGPIPE."""

app = typer.Typer(
    name="chatcli",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Talk to any Hugging Face checkpoint from your terminal.",
)
_history = typer.Typer(help="List, show, find, export, import and remove stored conversations.", rich_markup_mode=None)
_templates = typer.Typer(help="List and show prompt templates.", rich_markup_mode=None)
_adapters = typer.Typer(help="The table of model families: list, show, match, render.", rich_markup_mode=None)
_models = typer.Typer(help="What is known of a model.", no_args_is_help=True, rich_markup_mode=None)
_config = typer.Typer(help="Show and change settings.", no_args_is_help=True, rich_markup_mode=None)


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


def _guarded(command: Callable[..., int | None]) -> Callable[..., None]:
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


app.command("run", cls=Continuing)(_guarded(run))
app.command("ask", cls=Continuing)(_guarded(ask))
app.command("batch")(_guarded(batch))
app.command("replay")(_guarded(replay))
app.command("tokens")(_guarded(tokens))
_history.callback(invoke_without_command=True)(_guarded(history_list))
_history.command("show")(_guarded(history_show))
_history.command("search")(_guarded(history_search))
_history.command("export")(_guarded(history_export))
_history.command("import")(_guarded(history_import))
_history.command("rm")(_guarded(history_rm))
_history.command("prune")(_guarded(history_prune))
_history.command("title")(_guarded(history_title))
_history.command("path")(_guarded(history_path))
_templates.callback(invoke_without_command=True)(_guarded(templates_list))
_templates.command("show")(_guarded(templates_show))
_config.command("path")(_guarded(config_path))
_config.command("show")(_guarded(config_show))
_config.command("set")(_guarded(config_set))
_adapters.callback(invoke_without_command=True)(_guarded(adapters_list))
_adapters.command("show")(_guarded(adapters_show))
_adapters.command("match")(_guarded(adapters_match))
_adapters.command("render")(_guarded(adapters_render))
_models.command("show")(_guarded(models_show))
app.add_typer(_adapters, name="adapters")
app.add_typer(_models, name="models")
app.command("completion")(_guarded(completion))
app.add_typer(_history, name="history")
app.add_typer(_templates, name="templates")
app.add_typer(_config, name="config")


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
