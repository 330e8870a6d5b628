"""What can go wrong, as one tree; each leaf has the exit code that scripts see.

    ChatcliError                      5
    |- UsageError                     2   wrong flag, unreadable file, bad value
    |  '- ContextOverflow             2   the prompt is longer than the model can read
    |- ConfigError                    2   config.toml or an environment variable is wrong
    |- ModelError                     3   no such model, or none that can be used
    |  |- ModelNotFound               3
    |  |- ModelUnreachable            3   no network, a Hub or a server that is not there, offline
    |  |- ModelGated                  3   needs a token, a key or an accepted licence
    |  |- NotAChatModel               3   an encoder, a base model without a chat format
    |  |- BrokenCheckpoint            3   truncated, missing or contradicting files
    |  '- RemoteCodeRefused           3   only runs with the repository's own Python code
    |- OutOfMemory                    4
    |- EngineError                    5   the model or a server failed while answering
    |- IncompleteAnswer               6   an answer that must be whole was cut by a limit
    '- HistoryError                   5   the database cannot be read or written

An error's text is for people: one sentence that says what happened, to what, and what to do.
Interruption is not an error: Ctrl-C exits with 130.
"""

from __future__ import annotations

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells count it: 128 + SIGINT."""


class ChatcliError(Exception):
    """Base of every error that chatcli explains to a person."""

    exit_code = 5


class UsageError(ChatcliError):
    """The command line asks for something that cannot be."""

    exit_code = 2


class ContextOverflow(UsageError):
    """The prompt does not fit into the model's context; `tokens` is how long it is, 0 where that is not known."""

    def __init__(self, text: str, tokens: int = 0) -> None:
        super().__init__(text)
        self.tokens = tokens


class ConfigError(ChatcliError):
    """A configuration file or variable has a wrong value."""

    exit_code = 2


class ModelError(ChatcliError):
    """The model named cannot be used."""

    exit_code = 3


class ModelNotFound(ModelError):
    """Nothing of that name exists."""


class ModelUnreachable(ModelError):
    """The files are not here and the Hub cannot be asked, or a server is not there."""


class ModelGated(ModelError):
    """The repository wants a token or an accepted licence, or a server another key."""


class NotAChatModel(ModelError):
    """The checkpoint is of a kind that does not chat."""


class BrokenCheckpoint(ModelError):
    """Files of the checkpoint are damaged, missing or contradict each other."""


class RemoteCodeRefused(ModelError):
    """The checkpoint only works with Python code from its repository."""


class OutOfMemory(ChatcliError):
    """The machine's memory is too small for what was asked."""

    exit_code = 4


class EngineError(ChatcliError):
    """The engine failed while answering."""


class IncompleteAnswer(ChatcliError):
    """A limit cut an answer that was asked to be whole, or to conform to something."""

    exit_code = 6


class HistoryError(ChatcliError):
    """The stored conversations cannot be read or written."""
