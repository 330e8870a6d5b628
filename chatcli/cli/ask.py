"""`chatcli ask`: one answer on standard output, for people and for scripts.

The wiring of question, session and the wanted form of the answer; it knows no key and no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from chatcli.cli.options import Talk, talking
from chatcli.environment import Environment, real_environment
from chatcli.errors import IncompleteAnswer, UsageError

if TYPE_CHECKING:
    from chatcli.cli.question import Question
    from chatcli.conversation import Attachment
    from chatcli.generation import Constraint, Finished, GenerationSettings
    from chatcli.session import Session


@talking()
def ask(
    prompt: Annotated[
        list[str] | None, typer.Argument(help="The question; `-` reads it from standard input.", metavar="[PROMPT]...")
    ] = None,
    files: Annotated[
        list[str] | None, typer.Option("--file", "-f", help="Read a text file in; may be given several times.")
    ] = None,
    attach: Annotated[
        list[str] | None,
        typer.Option(
            "--attach", "-a", metavar="FILE", help="Show a picture, `-` the one piped in; may be given several times."
        ),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option("--template", "-t", help="Fill a prompt template; words like name=value fill its gaps."),
    ] = None,
    truncate: Annotated[
        str | None, typer.Option(metavar="head|tail|middle", help="Which part of too long an input may be left out.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Write the answer to a file, whole or not at all; `-` is standard output."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as one JSON object.")] = False,
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="Print events as they come, a JSON object a line.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no progress.")] = False,
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Print the answer when it is whole.")] = False,
    answers: Annotated[int, typer.Option("--answers", "-n", min=1, help="How many answers.")] = 1,
    logprobs: Annotated[
        int | None,
        typer.Option(min=0, max=20, help="Probabilities of the tokens and of that many others; with --json."),
    ] = None,
    schema: Annotated[
        str | None, typer.Option(metavar="FILE|JSON", help="Hold the answer to a JSON schema, in a file or as text.")
    ] = None,
    regex: Annotated[str | None, typer.Option(help="Hold the answer to a regular expression.")] = None,
    choice: Annotated[str | None, typer.Option(metavar="A,B,C", help="The answer is one of these.")] = None,
    require_complete: Annotated[
        bool, typer.Option("--require-complete", help="Exit with 6 where a limit cut the answer.")
    ] = False,
    *,
    talk: Talk,
) -> int:
    """Answer once, on standard output.

    Piped input comes first, then files, then the prompt: git diff | chatcli ask "write the commit message"
    """
    from chatcli.cli.forms import Form
    from chatcli.cli.opening import open_session
    from chatcli.cli.question import PARTS, compose, pictures
    from chatcli.config import load

    environment = replace(real_environment(), quiet=quiet)
    config = load(environment, talk.flags)
    constraint = _constraint(schema, regex, choice)
    if truncate is not None and truncate not in PARTS:
        raise UsageError(
            f"--truncate cannot be {truncate or 'empty'}: it must be {', '.join(PARTS[:-1])} or {PARTS[-1]}."
        )
    form = Form.of(as_json=as_json, as_jsonl=as_jsonl, whole=no_stream, output=output)
    if logprobs is not None and not form.structured:
        raise UsageError("--logprobs needs --json or --jsonl: there is no place for numbers in a text.")
    shown = pictures(attach or (), environment)
    question = compose(prompt or [], environment, files=files or (), template=template, piped="-" not in (attach or ()))
    environment = replace(environment, plain=bool(config.value("plain") or constraint))
    session = open_session(environment, config, talk)
    session.settings = replace(session.settings, constraint=constraint, top_logprobs=logprobs)
    text = question.text if truncate is None else _fitting(question, shown, truncate, session, environment)
    with form.writing(environment) as show:
        for number in range(answers):
            with closing(session.retry(_reseeded(session, number)) if number else session.say(text, shown)) as events:
                finished = show(events, session)
            _judge(finished, environment, whole=require_complete, constraint=constraint)
    if session.notice:
        environment.note(f"chatcli: {session.notice}")
    return 0


def _constraint(schema: str | None, regex: str | None, choice: str | None) -> Constraint | None:
    """What the answer is held to; a flag that was given, empty too, never means "nothing"."""
    from chatcli import constraints

    if 3 - (schema, regex, choice).count(None) > 1:
        raise UsageError("An answer can be held to one thing only: --schema, --regex or --choice.")
    if schema is not None:
        return constraints.json_schema(schema)
    if regex is not None:
        return constraints.regex(regex)
    return None if choice is None else constraints.choice([each.strip() for each in choice.split(",")])


def _fitting(
    question: Question, shown: Sequence[Attachment], part: str, session: Session, environment: Environment
) -> str:
    """The question's text with what does not fit left out of `part`, as the person allowed."""
    from chatcli.cli.question import shortened
    from chatcli.conversation import Conversation, Message
    from chatcli.engines.deferred import DeferredEngine
    from chatcli.engines.overflow import room
    from chatcli.render.progress import shown_while

    engine = session.engine
    if isinstance(engine, DeferredEngine):
        shown_while(engine.wait(), environment)
    if not engine.count(Conversation((Message("user", "?"),))):
        raise UsageError("--truncate needs a model of this machine, where tokens are counted: shorten the input.")
    limit = room(engine.facts.context, session.settings)
    text, missing = shortened(
        question,
        part,
        lambda whole: engine.count(session.conversation.add(Message("user", whole, attachments=tuple(shown)))) <= limit,
    )
    if missing:
        environment.warn(f"chatcli: {missing} characters of the input are left out ({part}): it is too long.")
    return text


def _reseeded(session: Session, number: int) -> GenerationSettings | None:
    """Settings for a further answer: another seed, or every answer under a seed would be the first one."""
    from chatcli.generation import GenerationSettings

    seed = session.settings.seed
    return None if seed is None else GenerationSettings(seed=seed + number)


def _judge(finished: Finished | None, environment: Environment, *, whole: bool, constraint: Constraint | None) -> None:
    """Say what is wrong with an answer, and refuse it where it had to be whole."""
    if finished and finished.reason == "length":
        if whole or constraint:
            raise IncompleteAnswer(
                f"The answer is cut off after {finished.completion_tokens} tokens, where its limit is: "
                "raise --max-tokens, or choose a model with a longer context."
            )
        environment.note("chatcli: the answer is cut off: the limit of tokens is reached.")
    elif finished and not finished.completion_tokens:
        environment.note("chatcli: the model said nothing.")
