"""`chatcli adapters`: the table of model families, a row of it, a model's row, a prompt by a row.

It reads the table and small files; no model is loaded or fetched for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chatcli.environment import Environment, real_environment
from chatcli.errors import NotAChatModel, UsageError

if TYPE_CHECKING:
    from chatcli.adapters.prompt import Templates
    from chatcli.adapters.row import Adapter
    from chatcli.adapters.table import Match, Table
    from chatcli.models.checkpoint import Checkpoint

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def adapters_list(context: typer.Context, as_json: Json = False) -> int:
    """List the table of model families: how their prompts are written."""
    if context.invoked_subcommand:
        return 0
    from chatcli.render.columns import columns

    rows = sorted(_table(real_environment()).rows, key=lambda row: row.name.lower())
    if as_json:
        _print_json([_as_json(row) for row in rows])
        return 0
    for line in columns([(row.name, _template_name(row) or "its checkpoints'", _for_example(row)) for row in rows]):
        print(line)
    return 0


def adapters_show(
    adapter: Annotated[str, typer.Argument(metavar="NAME", help="A row's name, as `chatcli adapters` lists them.")],
    as_json: Json = False,
) -> int:
    """Show a row of the table, with an example of its prompts."""
    from chatcli.adapters.prompt import build
    from chatcli.conversation import Conversation, Message
    from chatcli.render.columns import columns
    from chatcli.streaming.sanitize import sanitize

    row = _table(real_environment()).row(adapter)
    example = Conversation(
        (
            Message("system", "Answer briefly."),
            Message("user", "Who are you?"),
            Message("assistant", "A language model."),
            Message("user", "What for?"),
        )
    )
    prompt = build(row.template_text, example).text if row.template else ""
    if as_json:
        _print_json({**_as_json(row), "example_prompt": prompt})
        return 0
    for line in columns(
        [(key, _words(value)) for key, value in _as_json(row).items() if value not in ("", [], {}, None, False)]
    ):
        print(line)
    if prompt:
        print("\nA prompt with a system message, two questions and an answer:\n")
        print(sanitize(prompt))
    return 0


def adapters_match(
    model: Annotated[str, typer.Argument(help="A model: Hub id, alias or folder; nothing is downloaded.")],
    as_json: Json = False,
) -> int:
    """Say which row a model gets, and why."""
    from chatcli.cli.opening import full_name, local_checkpoint
    from chatcli.config import load
    from chatcli.render.columns import columns

    environment = real_environment()
    config, table = load(environment), _table(environment)
    name = full_name(model, config)
    checkpoint = local_checkpoint(model, config, environment)
    family = checkpoint.family if checkpoint else ""
    known_as = checkpoint.known_as if checkpoint else name.partition(" + ")[0]
    found = table.match(known_as, family)
    said: dict[str, Any] = {
        "model": name,
        "judged_by": _evidence(checkpoint),
        "row": found.adapter.name if found else None,
        "reason": found.reason if found else "no row fits the name" + (" and the model_type" if family else ""),
        "template": _template_of(checkpoint, found) if checkpoint else _template_by_name(found),
        "candidates": [
            {"row": c.adapter.name, "pattern": c.pattern, "letters": len(c.places), "base": c.base}
            for c in table.candidates(known_as, family)
        ],
    }
    if as_json:
        _print_json(said)
        return 0
    facts = [(key.replace("_", " "), _words(value)) for key, value in said.items() if key != "candidates"]
    for line in columns(facts):
        print(line)
    if said["candidates"]:
        print("\nRows whose patterns fit, the one with the most letters first:\n")
        for line in columns([_candidate(each) for each in said["candidates"]]):
            print(f"  {line}")
    return 0


def _evidence(checkpoint: Checkpoint | None) -> str:
    """What a match is judged by beside the name."""
    if not checkpoint:
        return "the name alone: no config.json of it is on this machine"
    where = f"the header of {checkpoint.gguf.files[0]}" if checkpoint.gguf else f"config.json of {checkpoint.folder}"
    told = f'{where} says "{checkpoint.model_type}"'
    family = checkpoint.family
    return told if family == checkpoint.model_type else f"{told}, and its files that it is {family}"


def _candidate(said: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(said["letters"]), said["pattern"], said["row"] + (", for base models" if said["base"] else "")


def adapters_render(
    adapter: Annotated[str, typer.Argument(metavar="NAME", help="A row's name, or a model on this machine.")],
) -> int:
    """Print the prompt that a conversation becomes, byte for byte.

    The conversation is JSON on standard input: {"system": "...", "messages": [{"role": "user", "content": "..."}]}.
    """
    from chatcli.adapters.prompt import build
    from chatcli.adapters.thinking import thinking
    from chatcli.adapters.tool_prompt import tool_format
    from chatcli.adapters.tool_words import told_in_words
    from chatcli.cli.conversation_json import conversation_from_json
    from chatcli.cli.question import read_input
    from chatcli.streaming.sanitize import sanitize

    environment = real_environment()
    templates, tokens, row = _templates(adapter, environment)
    given = conversation_from_json(read_input(environment))
    template = templates.select(tools=bool(given.tools), documents=bool(given.documents))
    variables: dict[str, Any] = {**tokens, **thinking(template, given.settings)}
    form = tool_format(template, row.tools)
    text = build(
        template,
        told_in_words(given.conversation, template, form, row.system or ""),
        add_generation_prompt=[m.role for m in given.conversation.messages[-1:]] in (["user"], ["tool"]),
        form=form,
        tools=given.tools,
        documents=given.documents,
        **variables,
    ).text
    if environment.stdout_is_terminal:
        print(sanitize(text), end="")
    else:
        environment.stdout.flush()
        environment.stdout.buffer.write(text.encode("utf-8"))
    return 0


def _table(environment: Environment) -> Table:
    from chatcli.adapters.table import load_table

    return load_table(environment.config_folder)


def _templates(name: str, environment: Environment) -> tuple[Templates, dict[str, str], Adapter]:
    """The templates that a row's name or a model's stands for, the tokens that go into them, and the row."""
    from chatcli.adapters.prompt import Templates, choose_templates
    from chatcli.adapters.row import Adapter
    from chatcli.cli.opening import local_checkpoint
    from chatcli.config import load
    from chatcli.models.vocabulary import special_tokens

    table = _table(environment)
    checkpoint = local_checkpoint(name, load(environment), environment)
    try:
        row = table.row(name)
    except UsageError as error:
        if not checkpoint:
            raise UsageError(f"{str(error).rstrip('.')}; and no model of that name is on this machine.") from error
        found = table.match(checkpoint.known_as, checkpoint.family)
        tokens = dict(special_tokens(checkpoint).named)
        return choose_templates(checkpoint, found), tokens, found.adapter if found else Adapter("own")
    if not row.template:
        raise UsageError(f"The row {row.name} has no template of its own: name a model's folder instead.")
    return Templates({"default": row.template_text}, row.template), {}, row


def _template_of(checkpoint: Checkpoint, found: Match | None) -> str:
    from chatcli.adapters.prompt import choose_templates

    try:
        return choose_templates(checkpoint, found).origin
    except NotAChatModel:
        return "none: a base model has no chat format"


def _template_by_name(found: Match | None) -> str | None:
    if not found or not found.chats:
        return "none: a base model has no chat format" if found else None
    return _template_name(found.adapter) or "its checkpoints'"


def _template_name(row: Adapter) -> str:
    """A template's file, or "its own text" where a person wrote it into the row."""
    return row.template if "\n" not in row.template and "{" not in row.template else "a text of its own"


def _for_example(row: Adapter) -> str:
    return ", ".join(row.examples[:2] or row.match[:2])


def _as_json(row: Adapter) -> dict[str, Any]:
    said = {key: getattr(row, key) for key in type(row).__slots__ if key not in ("folder", "defaults")}
    said["template"] = _template_name(row)
    said |= {key: dict(value) for key, value in said.items() if isinstance(value, Mapping)}
    said["defaults"] = {key: value for key, value in asdict(row.defaults).items() if value is not None}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in said.items()}


def _words(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_visible, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} = {json.dumps(each, ensure_ascii=False)}" for key, each in value.items())
    return "none" if value is None else json.dumps(value) if isinstance(value, bool) else str(value)


def _visible(text: str) -> str:
    """A text, in quotes where a line break or a space at its end would not be seen."""
    return text if text.isprintable() and text == text.strip() else json.dumps(text, ensure_ascii=False)


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))
