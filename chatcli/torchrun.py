"""What torchrun says of this process in its environment variables; without torchrun it is the only one.

The names are those of https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables. It knows no torch.
"""

from __future__ import annotations

from collections.abc import Mapping


def processes(variables: Mapping[str, str]) -> int:
    """How many processes there are."""
    return int(variables.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in variables else 1


def rank(variables: Mapping[str, str]) -> int:
    """Which of them this is; 0 is the one that talks to the person."""
    return int(variables.get("RANK", "0")) if processes(variables) > 1 else 0
