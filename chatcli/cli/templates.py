"""`chatcli templates`: questions with gaps, for `ask -t`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from chatcli.environment import real_environment
from chatcli.streaming.sanitize import sanitize


def templates_list(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False
) -> int:
    """List the prompt templates that `ask -t NAME` knows, shipped ones and your own."""
    if context.invoked_subcommand:
        return 0
    from chatcli import prompts

    environment = real_environment()
    found = prompts.templates(environment.config_folder).values()
    if as_json:
        rows = [{"name": each.name, "about": each.about, "origin": each.origin} for each in found]
        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return 0
    margin = max(len(each.name) for each in found) + 2
    for each in found:
        print(f"{each.name.ljust(margin)}{sanitize(each.about or each.origin, single_line=True)}")
    environment.note(f"Your own go into {prompts.folder(environment.config_folder)} as NAME.md, with {{{{ gaps }}}}.")
    return 0


def templates_show(template: Annotated[str, typer.Argument(metavar="NAME", help="Which template.")]) -> int:
    """Print a template as it stands, to copy and change."""
    from chatcli import prompts

    found = prompts.named(template, real_environment().config_folder)
    print(f"{{# {found.about} #}}\n{found.text}" if found.about else found.text, end="")
    return 0
