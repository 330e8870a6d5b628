"""Write completions/ from the command tree."""

from __future__ import annotations

from pathlib import Path

import typer

from chatcli.cli.completion import FILES, script
from chatcli.cli.main import app

FOLDER = Path(__file__).parent.parent / "completions"

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for shell, name in FILES.items():
        (FOLDER / name).write_text(script(shell, typer.main.get_command(app)), encoding="utf-8")
