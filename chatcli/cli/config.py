"""`chatcli config`: where settings are, what they are and where each comes from."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from chatcli.environment import real_environment


def config_path() -> int:
    """Print where config.toml is, and adapters.toml with a person's own model families."""
    from chatcli import config
    from chatcli.adapters.table import adapters_file

    environment = real_environment()
    print(config.path(environment))
    print(adapters_file(environment.config_folder))
    return 0


def config_show() -> int:
    """Print every setting, its value and where it comes from."""
    from chatcli import config, guide
    from chatcli.generation import DEFAULTS
    from chatcli.streaming.sanitize import sanitize

    loaded = config.load(real_environment())
    usual = {
        "model": guide.NAME,
        "system": "",
        "history": True,
        "max_tokens": "what the context holds",
        "editing_mode": "emacs",
    }
    for key, setting in loaded.values.items():
        value = usual.get(key, getattr(DEFAULTS, key, None)) if setting.value is None else setting.value
        shown = sanitize("" if value is None else json.dumps(value, ensure_ascii=False), single_line=True)
        origin = (
            "default; the model's own comes first"
            if key in config.FROM_THE_MODEL and setting.value is None
            else setting.origin
        )
        print(f"{key:<20} {shown:<28} {origin}")
    for name, target in loaded.aliases.items():
        print(f"{'alias.' + name:<20} {sanitize(target, single_line=True):<28} config.toml")
    for server in loaded.servers.values():
        print(f"{'servers.' + server.name:<20} {server.address.url:<28} config.toml")
    return 0


def config_set(
    key: Annotated[
        str, typer.Argument(help="The setting, such as model, temperature, editing_mode (emacs or vi) or alias.NAME.")
    ],
    value: Annotated[str, typer.Argument(help="Its value.")],
) -> int:
    """Write a setting to config.toml."""
    from chatcli import config, config_file

    environment = real_environment()
    config_file.set_value(environment, key, value)
    environment.note(f"{key} is set in {config.path(environment)}")
    return 0


def config_unset(key: Annotated[str, typer.Argument(help="The setting, or alias.NAME.")]) -> int:
    """Take a setting out of config.toml again."""
    from chatcli import config, config_file

    environment = real_environment()
    config_file.unset_value(environment, key)
    environment.note(f"{key} is no longer set in {config.path(environment)}")
    return 0
