"""The program: the table of its commands, and the one place where errors become exit codes.

It knows which commands there are; what they do is in their files, imported when they run.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial, wraps
from typing import Annotated, Any, NoReturn

import typer

from chatcli import __version__
from chatcli.cli.following import follow_or_lead, silent_unless_first
from chatcli.cli.lazy import Action, action, group_of
from chatcli.errors import INTERRUPTED, ChatcliError
from chatcli.leaving import leave
from chatcli.streaming.sanitize import sanitize
from chatcli.torchrun import rank

CLOSED_PIPE = 141
"""Exit code when the reader of our output has gone, as shells count it: 128 + SIGPIPE."""

COMMANDS: Mapping[str, str] = {
    "run": "run:run",
    "ask": "ask:ask",
    "batch": "batch:batch",
    "serve": "serve:serve",
    "pull": "models.pull:models_pull",
    "replay": "replay:replay",
    "tokens": "tokens:tokens",
    "ps": "resident:ps",
    "stop": "resident:stop",
    "bench": "bench:bench",
    "completion": "completion:completion",
}
"""The commands that stand alone, in the order of the help page, as "file:function"."""

TALKS = frozenset({"run", "ask", "batch", "replay"})
"""Those that several processes under torchrun run together."""


@dataclass(frozen=True, slots=True)
class Group:
    """Commands under one name; `alone` is what the name does by itself."""

    help: str
    commands: Mapping[str, str]
    alone: str = ""


GROUPS: Mapping[str, Group] = {
    "models": Group(
        "List, show, fetch, remove and name models.",
        {
            "show": "models.show:models_show",
            "plan": "models.plan:models_plan",
            "pull": "models.pull:models_pull",
            "rm": "models.removing:models_rm",
            "alias": "models.alias:models_alias",
        },
        "models.listing:models_list",
    ),
    "adapters": Group(
        "The table of model families: list, show, match, render.",
        {"show": "adapters:adapters_show", "match": "adapters:adapters_match", "render": "adapters:adapters_render"},
        "adapters:adapters_list",
    ),
    "history": Group(
        "List, show, find, export, import and remove stored conversations.",
        {
            "show": "history.listing:history_show",
            "search": "history.listing:history_search",
            "export": "history.moving:history_export",
            "import": "history.moving:history_import",
            "rm": "history.removing:history_rm",
            "prune": "history.removing:history_prune",
            "title": "history.removing:history_title",
            "path": "history.listing:history_path",
        },
        "history.listing:history_list",
    ),
    "templates": Group(
        "List and show prompt templates.", {"show": "templates:templates_show"}, "templates:templates_list"
    ),
    "servers": Group(
        "List, name, test and forget servers that answer as models here do.",
        {"add": "servers:servers_add", "rm": "servers:servers_rm", "test": "servers:servers_test"},
        "servers:servers_list",
    ),
    "config": Group(
        "Show and change settings.",
        {
            "path": "config:config_path",
            "show": "config:config_show",
            "set": "config:config_set",
            "unset": "config:config_unset",
        },
    ),
}
"""The commands that have commands below them."""


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"chatcli {__version__}")
        raise typer.Exit


def _guarded(command: Action) -> Callable[..., None]:
    """A command whose errors are explained, and which ends the program with a documented exit code."""

    @wraps(command)
    def guarded(*args: Any, **options: Any) -> None:
        if rank(os.environ) and command.__name__ not in TALKS:
            raise typer.Exit
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            followed = follow_or_lead() if command.__name__ in TALKS else None
            code = (command(*args, **options) or 0) if followed is None else followed
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
        _refresh_lists()
        if code:
            raise typer.Exit(code)

    return guarded


def _refresh_lists() -> None:
    """What completion offers follows what the command has changed."""
    from chatcli.cli.completions.lists import refresh
    from chatcli.environment import real_environment

    refresh(real_environment())


def _explain(error: ChatcliError) -> int:
    if os.environ.get("CHATCLI_DEBUG"):
        import traceback

        traceback.print_exception(error)
    print(f"chatcli: {sanitize(str(error), single_line=True)}", file=sys.stderr)
    return error.exit_code


def _command(name: str, row: str) -> Any:
    """Typer's command for a row."""
    continues = name in ("run", "ask")
    if continues:
        from chatcli.cli.continuing import Continuing
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command(name, cls=Continuing if continues else None)(_guarded(action(row)))
    return typer.main.get_command(alone)


def _group(name: str, group: Group) -> Any:
    """Typer's group for a row, with nothing below it imported yet."""
    below = typer.Typer(
        name=name,
        cls=group_of({each: partial(_command, each, row) for each, row in group.commands.items()}),
        help=group.help,
        no_args_is_help=not group.alone,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    below.callback(invoke_without_command=bool(group.alone))(_guarded(action(group.alone)) if group.alone else _nothing)
    return typer.main.get_command(below)


def _nothing() -> None:
    """What a group does by itself that only has commands."""


app = typer.Typer(
    name="chatcli",
    cls=group_of(
        {name: partial(_command, name, row) for name, row in COMMANDS.items()}
        | {name: partial(_group, name, group) for name, group in GROUPS.items()}
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Talk to any Hugging Face checkpoint from your terminal.",
)


@app.callback()
def _program(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors; may stand anywhere.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and leave.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """`--debug` is listed here for its help; `run_program` has taken it already."""


def run_program() -> NoReturn:
    """Run with the process's arguments; leaves without the interpreter's clean-up, which costs torch a second."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell, as in `>&-`
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    silent_unless_first()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a Latin-1 terminal shows ? and no traceback
    try:
        app(_without_debug(sys.argv[1:]), prog_name="chatcli")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except Exception as error:  # a defect of ours: still no traceback for a person
        if os.environ.get("CHATCLI_DEBUG"):
            import traceback

            traceback.print_exc()
        print(
            f"chatcli: unexpected {type(error).__name__}: {sanitize(str(error), single_line=True)}. "
            "This is a defect of chatcli; `chatcli --debug ...` shows where.",
            file=sys.stderr,
        )
        code = 5
    leave()
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


@cache
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
