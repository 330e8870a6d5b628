"""A chat with a real model in a process that may take little more memory than the model has taken.

Usage: narrow_chat.py FOLDER MEGABYTES
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from chatcli.adapters.table import load_table
from chatcli.engines.local import open_local
from chatcli.environment import real_environment
from chatcli.generation import GenerationSettings
from chatcli.history.store import Store
from chatcli.models.checkpoint import open_checkpoint
from chatcli.repl.loop import chat
from chatcli.session import Session

SETTINGS = GenerationSettings(temperature=0.0, max_new_tokens=8)


def main() -> int:
    environment = real_environment()
    engine = open_local(
        open_checkpoint(Path(sys.argv[1])), load_table(environment.config_folder), lambda progress: None
    )
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (int(sys.argv[2]) << 20), resource.RLIM_INFINITY))
    store = Store.open(environment.data_folder / "history.db", environment.now)
    return chat(Session(engine, SETTINGS, store), environment)


if __name__ == "__main__":
    sys.exit(main())
