"""`chatcli completion`: the shells' completion scripts, printed or put where the shell finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from chatcli.environment import Environment, real_environment
from chatcli.errors import UsageError

FILES = {"bash": "chatcli.bash", "zsh": "_chatcli", "fish": "chatcli.fish", "powershell": "chatcli.ps1"}
"""The scripts' names in completions/."""


def completion(
    context: typer.Context,
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish|powershell", help="Which shell.")],
    install: Annotated[bool, typer.Option("--install", help="Put the script where the shell finds it.")] = False,
) -> int:
    """Print the completion script of a shell, or install it."""
    if shell not in FILES:
        raise UsageError(f"There is no completion for {shell}: there is {', '.join(FILES)}.")
    text = script(shell, context.find_root().command)
    if not install:
        print(text, end="")
        return 0
    environment = real_environment()
    target, hint = _place(shell, environment)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    environment.note(f"The completion of {shell} is in {target}. {hint}")
    return 0


def script(shell: str, command: Any) -> str:
    """The script of one of the shells in `FILES` for Typer's root `command`."""
    from chatcli.cli.completions import bash, fish, powershell, zsh
    from chatcli.cli.completions.tree import tree

    scripts = {"bash": bash.script, "zsh": zsh.script, "fish": fish.script, "powershell": powershell.script}
    return scripts[shell](tree(command))


def _place(shell: str, environment: Environment) -> tuple[Path, str]:
    """Where a person's own completions are, and what is left to do."""
    variables = environment.variables
    data = Path(variables.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
    config = Path(variables.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    if shell == "bash":
        return data / "bash-completion" / "completions" / "chatcli", "New shells know it (package bash-completion)."
    if shell == "zsh":
        folder = data / "zsh" / "site-functions"
        return folder / "_chatcli", f"Have this in ~/.zshrc before compinit: fpath=({folder} $fpath)"
    if shell == "fish":
        return config / "fish" / "completions" / "chatcli.fish", "New shells know it."
    target = config / "powershell" / "chatcli.ps1"
    return target, f"Add this line to your $PROFILE: . '{target}'"
