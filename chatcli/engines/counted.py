"""What one answer took: its tokens and its times, noted as they come in.

It knows a clock and numbers; where tokens come from it does not know.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from chatcli.generation import Finished, FinishReason, Progress


@dataclass
class Counted:
    """`begun` is when it was asked for, on the monotonic clock, `prompt` its tokens; a `cached` of -1 is not known.

    Of its own tokens, `told` had their probabilities told with a piece.
    """

    begun: float
    prompt: int
    cached: int = -1
    first: float = 0.0
    told: int = 0

    def progress(self, progress: Progress) -> None:
        """Note the first report of reading, which begins with what was cached."""
        if self.cached < 0 and progress.stage == "reading":
            self.cached = progress.done

    def token(self) -> None:
        """Note when the first token came."""
        self.first = self.first or time.monotonic()

    def finished(self, reason: FinishReason, made: int) -> Finished:
        """The turn's last event."""
        now = time.monotonic()
        first = self.first or now
        return Finished(reason, self.prompt, made, max(self.cached, 0), first - self.begun, now - first)
