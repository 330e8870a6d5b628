"""`chatcli models alias`: short names for models, kept in config.toml."""

from __future__ import annotations

from typing import Annotated

import typer

from chatcli import guide
from chatcli.environment import real_environment
from chatcli.errors import UsageError


def models_alias(
    alias: Annotated[str, typer.Argument(metavar="[ALIAS]", help="The short name.")] = "",
    target: Annotated[str, typer.Argument(metavar="[TARGET]", help="The Hub id or folder that it stands for.")] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Take the alias away; the model stays.")] = False,
) -> int:
    """Give a model a short name: `alias small Qwen/Qwen3-0.6B`; without names, list what there is."""
    from chatcli import config, config_file
    from chatcli.cli.opening import full_name
    from chatcli.render.columns import columns
    from chatcli.streaming.sanitize import sanitize

    environment = real_environment()
    if remove:
        if not alias or target:
            raise UsageError("Say which alias to take away: chatcli models alias --remove ALIAS.")
        config_file.remove_alias(environment, alias)
        environment.note(f"{alias} stands for nothing any more.")
        return 0
    loaded = config.load(environment)
    aliases = loaded.aliases
    if target:
        if alias == guide.NAME:
            raise UsageError(f"{guide.NAME} is the built-in model: choose another short name.")
        lasting = full_name(target, loaded)  # another alias is followed, a relative path made whole
        config_file.set_value(environment, f"alias.{alias}", lasting)
        environment.note(f"{alias} stands for {lasting}: chatcli run {alias}")
    elif alias:
        if alias not in aliases:
            raise UsageError(f"There is no alias {alias}: chatcli models alias {alias} TARGET makes one.")
        print(sanitize(aliases[alias], single_line=True))
    elif aliases:
        for line in columns(sorted(aliases.items())):
            print(line)
    else:
        environment.note("There are no aliases yet: chatcli models alias small Qwen/Qwen3-0.6B makes one.")
    return 0
