"""`chatcli config`: where settings are, what they are and where each comes from."""

from __future__ import annotations

from typing import Annotated

import typer

from chatcli import config
from chatcli.environment import real_environment
from chatcli.streaming.sanitize import sanitize


def config_path() -> int:
    """Print where config.toml is."""
    print(config.path(real_environment()))
    return 0


def config_show() -> int:
    """Print every setting, its value and where it comes from."""
    loaded = config.load(real_environment())
    for key, setting in loaded.values.items():
        shown = "" if setting.value is None else sanitize(str(setting.value), single_line=True)
        print(f"{key:<20} {shown:<28} {setting.origin}")
    for name, target in loaded.aliases.items():
        print(f"{'alias.' + name:<20} {sanitize(target, single_line=True):<28} config.toml")
    return 0


def config_set(
    key: Annotated[str, typer.Argument(help="The setting, such as model, temperature or alias.NAME.")],
    value: Annotated[str, typer.Argument(help="Its value.")],
) -> int:
    """Write a setting to config.toml."""
    environment = real_environment()
    config.set_value(environment, key, value)
    environment.note(f"{key} is set in {config.path(environment)}")
    return 0
