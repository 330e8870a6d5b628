"""Signals that end the program."""

from __future__ import annotations

import os
import signal

import pytest

from chatcli.leaving import leaving_on_hangup


def test_what_is_ignored_stays_ignored() -> None:
    """`nohup chatcli serve` would else end with its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with leaving_on_hangup():
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(SystemExit):
                os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
