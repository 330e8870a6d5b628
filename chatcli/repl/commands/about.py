"""Commands that explain: /help, /stats, /tokens."""

from __future__ import annotations

from chatcli.conversation import Conversation, Message
from chatcli.errors import UsageError
from chatcli.generation import EngineFacts, Finished
from chatcli.repl.commands.table import ALIASES, COMMANDS, command, parse
from chatcli.repl.state import Chat

KEYS = (
    ("Enter", "Send"),
    ("Alt-Enter, Ctrl-J", "Begin a new line"),
    ('"""', "On a line of its own, before and behind: a text of several lines"),
    ("@PATH", "Attach a text file"),
    ("Esc, Ctrl-C", "Stop a reply and keep it; Ctrl-C at the prompt clears the line, twice leaves"),
    ("Ctrl-O", "Write in $EDITOR"),
    ("Up, Ctrl-R", "Bring back earlier input, search it"),
    ("Tab", "Complete a command, what stands behind it, an @path"),
    ("Right", "Take the suggestion"),
    ("Ctrl-L", "Clear the screen"),
    ("Ctrl-D", "Leave"),
)


@command("help", "[COMMAND]", example="/help retry", completes="commands", aliases=("?", "h"))
def _help(chat: Chat, argument: str) -> None:
    """List the commands and keys, or explain one command."""
    name = argument.removeprefix("/").lower()
    if not name:
        chat.list([(each.usage, each.help) for each in COMMANDS.values()])
        chat.print()
        chat.list(KEYS)
        return
    called = parse(f"/{name}")
    if not called:
        raise UsageError(f"There is no command /{name}; /help lists them.")
    asked = called[0]
    chat.print(asked.usage)
    chat.prose(f"{asked.help}.")
    others = ", ".join(f"/{alias}" for alias, meant in ALIASES.items() if meant == asked.name)
    chat.list([("Example", asked.example), *([("Also", others)] if others else [])])


@command("stats")
def _stats(chat: Chat, argument: str) -> None:
    """Show how the last reply went: tokens, cache, speed."""
    last = chat.session.last
    if last is None or not last.prompt_tokens:
        chat.prose("There are no numbers yet: they come with the first reply.")
        return
    facts = chat.session.engine.facts
    model = ", ".join(part for part in (facts.model, facts.device, facts.precision, facts.adapter) if part)
    cached = f", {last.cached_tokens} of them ({last.cached_tokens / last.prompt_tokens:.0%}) from the cache"
    chat.list(
        [
            ("model", model),
            ("prompt", f"{last.prompt_tokens} tokens{cached}"),
            ("reply", f"{last.completion_tokens} tokens, ended by: {ENDS[last.reason]}"),
            ("first token", f"after {last.seconds_to_first:.2f} s" if last.completion_tokens else "none came"),
            ("speed", _speed(last, facts)),
            ("context", f"{chat.session.used}{f' of {facts.context}' if facts.context else ''} tokens"),
        ]
    )


ENDS = {"stop": "the model", "length": "the limit of tokens", "cancelled": "you", "error": "an error"}


def _speed(last: Finished, facts: EngineFacts) -> str:
    if not last.tokens_per_second:
        return "too few tokens to tell"
    share = last.tokens_per_second / facts.most_tokens_per_second if facts.most_tokens_per_second else 0
    bound = f", {share:.0%} of what the memory's bandwidth allows" if share else ""
    return f"{last.tokens_per_second:.1f} tokens/s{bound}"


@command("tokens", "[TEXT]", example="/tokens How long is this?")
def _tokens(chat: Chat, argument: str) -> None:
    """Count the tokens of the talk, or of a text as a question."""
    engine, context = chat.session.engine, chat.session.engine.facts.context
    if argument:
        count = engine.count(Conversation((Message("user", argument),)))
        unknown = "Nobody can count them: the model is not there yet, or is a server's."
        chat.prose(f"As a question, {count} tokens." if count else unknown)
        return
    used = chat.session.used
    if not used:
        chat.prose("There is nothing to count yet.")
        return
    of = f" of {context}, {max(context - used, 0)} are left" if context else ""
    chat.prose(f"The talk has {used} tokens{of}.")
