"""`chatcli models show`: what is known of a model on this machine, without loading it.

It puts together what the files, the row and the person say; it reads no tensor and asks no Hub.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chatcli.environment import real_environment
from chatcli.errors import BrokenCheckpoint, NotAChatModel

if TYPE_CHECKING:
    from chatcli.adapters.table import Table
    from chatcli.generation import Layer, Sourced
    from chatcli.models.checkpoint import Checkpoint

OPEN = {"max_tokens": "what the context holds", "seed": "a new one each time", "think": "the model's own way"}
OPEN |= {"reasoning_effort": "the model's own way"}
"""What holds for a setting of which nobody says anything."""


def models_show(
    model: Annotated[
        str, typer.Argument(metavar="NAME", help="A model on this machine: Hub id, alias, folder, GGUF file, guide.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> int:
    """Show how a model is talked to and sampled, and where each setting comes from.

    Nothing is loaded and nothing is downloaded.
    """
    from chatcli.adapters.table import load_table
    from chatcli.cli.opening import local_checkpoint
    from chatcli.config import FIELDS, KINDS, load
    from chatcli.generation import in_force
    from chatcli.models.hub import not_here
    from chatcli.render.columns import columns

    environment = real_environment()
    config, table = load(environment), load_table(environment.config_folder)
    checkpoint = local_checkpoint(model, config, environment)
    if checkpoint is None:
        raise not_here(model, environment.variables, (*config.aliases, *table.examples()), config.model_folders)
    facts, layers = _facts(checkpoint, table)
    names = {field: key for key, field in FIELDS.items()}
    sourced = [
        each
        for each in in_force(config.generation_settings(), config.layers(), layers)
        if names.get(each.name, each.name) in KINDS
    ]
    if as_json:
        settings = {names.get(s.name, s.name): {"value": s.value, "origin": s.origin} for s in sourced}
        print(json.dumps({**facts, "settings": settings}, ensure_ascii=False, indent=2))
        return 0
    rows = [(key.replace("_", " "), _words(value)) for key, value in facts.items() if value not in ("", [], None)]
    for line in columns(rows):
        print(line)
    print()
    for line in columns([_setting(names.get(each.name, each.name), each) for each in sourced]):
        print(line)
    return 0


def _setting(name: str, sourced: Sourced) -> tuple[str, str, str]:
    value = sourced.value
    shown = OPEN.get(name, "") if value is None else "none" if value == () else json.dumps(value, ensure_ascii=False)
    return name, shown, sourced.origin


def _facts(checkpoint: Checkpoint, table: Table) -> tuple[dict[str, Any], tuple[Layer, ...]]:
    """What the files and the row say, for people and for programs, and the layers of sampling."""
    from chatcli.adapters.format import chat_format, layers
    from chatcli.adapters.prompt import choose_templates
    from chatcli.adapters.thinking import knobs
    from chatcli.models.checkpoint import context_length
    from chatcli.models.generation_config import declared_ends
    from chatcli.models.vocabulary import tokenizer as read_tokenizer

    found = table.match(checkpoint.known_as, checkpoint.family)
    row = found.adapter if found else None
    architectures = checkpoint.config.get("architectures")
    facts: dict[str, Any] = {
        "model": checkpoint.name,
        "revision": checkpoint.revision,
        "folder": str(checkpoint.folder),
        "file": checkpoint.gguf.files[0].name if checkpoint.gguf else "",
        "loras": [f"{lora.name}, scale {lora.scale:g}" for lora in checkpoint.loras],
        "architecture": ", ".join(map(str, architectures)) if isinstance(architectures, list) else "",
        "model_type": checkpoint.model_type,
        "context": context_length(checkpoint.config) or None,
        "weights": _weights(checkpoint),
        "row": row.name if row else None,
        "row_because": found.reason if found else "no row fits the name and the model_type",
    }
    try:
        tokenizer = read_tokenizer(checkpoint)
        chat = chat_format(checkpoint, tokenizer, table) if tokenizer else None
        templates = chat.templates if chat else choose_templates(checkpoint, found)
    except NotAChatModel:
        return {**facts, "template": "none: a base model does not chat"}, layers(checkpoint, found)
    ids = sorted(chat.end if chat else declared_ends(checkpoint, ()))
    facts |= {
        "template": templates.origin,
        "further_templates": sorted(templates.named.keys() - {"default"}),
        "thinking": sorted(knobs(templates.select())),
        "stop_ids": {str(i): (tokenizer.id_to_token(i) if tokenizer else None) or "" for i in ids},
        "stop_texts": list(row.stop) if row else [],
    }
    return facts, layers(checkpoint, found)


def _weights(checkpoint: Checkpoint) -> dict[str, Any] | str:
    """Format, size and the precision that most bytes are in; or a sentence where they cannot be read."""
    from chatcli.models.weights import weights

    try:
        found = weights(checkpoint)
    except BrokenCheckpoint as error:
        return str(error)
    count: Counter[str] = Counter()
    for tensor in found.tensors.values():
        count[tensor.dtype] += tensor.bytes
    precision = count.most_common(1)[0][0] if count else None
    return {"format": found.format, "files": len(found.files), "bytes": found.bytes, "precision": precision}


def _words(value: object) -> str:
    if isinstance(value, dict) and "bytes" in value:
        from chatcli.cli.models.listing import size

        return ", ".join([size(value["bytes"]), value["format"], *([value["precision"]] if value["precision"] else [])])
    if isinstance(value, dict):
        return ", ".join(f"{key} {text}".rstrip() for key, text in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(json.dumps(each, ensure_ascii=False) for each in value) or "none"
    return f"{value} tokens" if isinstance(value, int) else str(value)
