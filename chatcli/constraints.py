"""What an answer must conform to, as a grammar: a JSON schema, a regular expression, one of several choices.

Built on llguidance, which reads all three; imported when the first constraint is used. This module knows no
token and no model: whether a grammar can be followed is decided before any model is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from chatcli.errors import UsageError
from chatcli.generation import Constraint

_LAST_BYTE = 255
_TRIED_BYTES = 64
"""Of a text that conforms, so many are tried before a constraint is taken for one that can be followed."""


def json_schema(said: str) -> Constraint:
    """The constraint of a schema, given as JSON text or as the path of a file.

    Raises:
        UsageError: it is empty, no file or no JSON, or the schema cannot be followed; names the keyword.
    """
    text = said
    if not said.strip():
        raise UsageError("--schema is empty: give a file or a JSON object.")
    if not said.lstrip().startswith(("{", "[", "true", "false")):
        try:
            text = Path(said).expanduser().read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise UsageError(f"The schema file {said} cannot be read: {reason}.") from error
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--schema is no JSON: {error}.") from error
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise UsageError('--schema must be a JSON object, such as {"type": "object"}.')
    return checked(Constraint("schema", json.dumps(schema, ensure_ascii=False)), "--schema")


def regex(pattern: str) -> Constraint:
    """The constraint of a regular expression, which the whole answer matches.

    Raises:
        UsageError: the pattern is empty or wrong, or has look-around or back-references.
    """
    if not pattern:
        raise UsageError("--regex is empty: give a pattern, as in --regex '[0-9]+'.")
    return checked(Constraint("regex", pattern), "--regex")


def choice(choices: Sequence[str]) -> Constraint:
    """The answer is one of `choices`, to the letter.

    Raises:
        UsageError: there are none, or one is empty.
    """
    if not choices or not all(choices):
        raise UsageError("--choice needs choices that are not empty, as in --choice yes,no.")
    return checked(Constraint("choice", json.dumps(list(choices), ensure_ascii=False)), "--choice")


def grammar(constraint: Constraint) -> str:
    """The grammar in llguidance's own form."""
    from llguidance import LLMatcher

    if constraint.kind == "schema":
        # Flexible white space would let a model go on with blanks for ever.
        made: str = LLMatcher.grammar_from_json_schema(
            constraint.text, overrides={"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
        )
    elif constraint.kind == "regex":
        made = LLMatcher.grammar_from_regex(constraint.text)
    elif constraint.kind == "lark":
        made = LLMatcher.grammar_from_lark(constraint.text)
    else:
        made = LLMatcher.grammar_from_lark("start: " + " | ".join(json.dumps(c) for c in json.loads(constraint.text)))
    return made


def conforms(constraint: Constraint, text: str) -> bool:
    """Whether a finished answer, which somebody else has held to the constraint, is what it should be.

    Of a schema's answer only that it is JSON: a grammar has one order of the fields, and a schema has none.
    """
    if constraint.kind == "choice":
        return text in json.loads(constraint.text)
    if constraint.kind == "schema":
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return False
        return True
    from llguidance import LLMatcher, LLTokenizer

    tokenizer = LLTokenizer("byte")
    tokens = tokenizer.tokenize_str(text)
    matcher = LLMatcher(tokenizer, grammar(constraint), log_level=0)
    return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())


def checked(constraint: Constraint, flag: str) -> Constraint:
    """The constraint, which can be followed; `flag` is what a person gave it with.

    Raises:
        UsageError: it cannot be.
    """
    from llguidance import LLMatcher, LLTokenizer

    try:
        made = grammar(constraint)
    except ValueError as error:  # JSON that only Python takes, or that is too deep
        raise UsageError(f"{flag} cannot be followed: {error}.") from error
    failed, messages = LLMatcher.validate_grammar_with_warnings(made)
    if failed:
        lines = [line.strip() for line in messages[0].splitlines() if line.strip()]
        said = next((line for line in lines if line.startswith("error: ")), lines[0]).removeprefix("error: ")
        raise UsageError(f"{flag} cannot be followed: {said}.")
    # What is well-formed may still be matched by no text, or take more than there is from some byte on: that shows
    # before a model is there.
    matcher = LLMatcher(LLTokenizer("byte"), made, log_level=0)
    for _ in range(_TRIED_BYTES):
        allowed = [byte for byte, bias in enumerate(matcher.compute_logit_bias()) if bias]
        reason = matcher.get_error().partition("\n")[0]
        if reason and reason != "NoExtensionBias":
            raise UsageError(f"{flag} cannot be followed: it has no end, or is too large ({reason}).")
        if reason or not allowed:
            raise UsageError(f"{flag} cannot be followed: there is no text that conforms to it.")
        if allowed[0] > _LAST_BYTE:  # nothing but the end
            break
        matcher.consume_token(allowed[0])
    return constraint
