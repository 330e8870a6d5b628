"""Commands that change or show how the model answers: /system, /set, /model, /show, /think."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chatcli import config
from chatcli.errors import UsageError
from chatcli.repl.commands.table import command, nearest
from chatcli.repl.commands.values import field_of, key_and_value, names
from chatcli.repl.state import Chat
from chatcli.repl.toolbar import short_name

SHOWN = ("message", "settings", "model", "adapter")


@command("system", "[TEXT|-]", example="/system Answer in one sentence.")
def _system(chat: Chat, argument: str) -> None:
    """Show the system message, set it, or remove it with a dash."""
    if argument:
        chat.session.set_system("" if argument == "-" else argument)
    system = chat.session.conversation.system
    chat.print(f"System message: {system}" if system else "There is no system message.")


@command("set", "[SETTING [VALUE]]", example="/set temperature 0.2", completes="settings")
def _set(chat: Chat, argument: str) -> None:
    """Show the settings and where they come from, or change one; the value default takes that back."""
    if not argument:
        _show_settings(chat)
        return
    key, text = key_and_value(argument)
    name = field_of(key)
    if not text:
        _show_settings(chat, key)
        return
    value: Any = None if text == "default" else config.parse(key, text)
    chat.session.settings = replace(chat.session.settings, **{name: value})
    _show_settings(chat, key)


def _show_settings(chat: Chat, only: str = "") -> None:
    in_force = {each.name: each for each in chat.session.settings_in_force()}
    rows = []
    for key, field in names().items():
        each = in_force[field]
        if only in ("", key):
            rows.append((key, f"{_shown(each.value)} ({each.origin})" if each.origin else _shown(each.value)))
    chat.list(rows)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(repr(each) for each in value) or "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return "not set" if value is None else str(value)


@command("model", "[NAME]", example="/model Qwen/Qwen3-0.6B", completes="models")
def _model(chat: Chat, argument: str) -> None:
    """Go on with another model, keeping the talk; without a name, show the present one."""
    facts = chat.session.engine.facts
    if not argument:
        _show_model(chat)
        return
    if chat.open_model is None:
        raise UsageError("This chat has one model only; leave it and choose another with: chatcli run MODEL")
    engine = chat.open_model(argument)
    name = engine.facts.model
    if name == facts.model:
        engine.close()
        chat.prose(f"{name} answers already.")
        return
    chat.session.switch(engine)
    chat.prose(f"{short_name(name)} loads while you type and goes on with this talk.")


@command(
    "show",
    "[WHAT]",
    example="/show settings",
    completes=SHOWN,
)
def _show(chat: Chat, argument: str) -> None:
    """Show the last message as it came, the settings, the model or the adapter that it is talked to with."""
    what = argument or "message"
    if what not in SHOWN:
        known = nearest(what, list(SHOWN), lists=f"there are {', '.join(SHOWN)}.")
        raise UsageError(f"There is no {what} to show; {known}")
    if what == "settings":
        _show_settings(chat)
    elif what == "model":
        _show_model(chat)
    elif what == "adapter":
        adapter = chat.session.engine.facts.adapter
        chat.prose(f"The adapter row is {adapter}." if adapter else "The model is not there yet; its adapter follows.")
    else:
        reply = chat.session.conversation.unfinished
        chat.print(reply.text if reply else "There is no reply yet.")


def _show_model(chat: Chat) -> None:
    facts = chat.session.engine.facts
    rows = {
        "model": facts.model,
        "revision": facts.revision,
        "device": facts.device,
        "precision": facts.precision,
        "context": f"{facts.context} tokens" if facts.context else "",
        "adapter": facts.adapter,
    }
    chat.list([(name, text) for name, text in rows.items() if text])
