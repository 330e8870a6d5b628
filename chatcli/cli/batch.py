"""`chatcli batch`: the answers to a file of questions.

The wiring of `chatcli.batches`, which knows the files, with an engine that answers many at once.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from chatcli.cli.options import Talk, talking
from chatcli.cli.output import target_of
from chatcli.environment import Environment, real_environment
from chatcli.errors import EngineError, ModelError, UsageError

if TYPE_CHECKING:
    from chatcli.batches import Journal, Request
    from chatcli.engines.deferred import DeferredEngine
    from chatcli.engines.together import Answer, AnswersTogether


@talking(without=("resume", "conversation", "no_history", "overflow", "plain", "trust_remote_code", "keep_alive"))
def batch(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The questions, a JSON text or object a line.")],
    output: Annotated[str, typer.Option("--output", "-o", help="Where the answers go, in the order of the questions.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output file that is there.")] = False,
    *,
    talk: Talk,
) -> int:
    """Answer a file of questions, many at once; a run that was broken off goes on where it was.

    A line is a text in quotes, or an object: {"prompt": "...", "id": 7, "temperature": 0}, or {"messages": [...]}.
    """
    from chatcli import batches, config
    from chatcli.cli.opening import meant_model, open_engine

    environment = real_environment()
    loaded = config.load(environment, talk.flags)
    target = target_of(output)
    if target.exists() and not target.is_file():
        raise UsageError(f"{target} is no file: answers that can be gone on with need one.")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} is there already: choose another file, or replace it with --overwrite.")
    questions = _questions(file, environment)
    settings, prompt = loaded.generation_settings(), str(loaded.value("system") or "")
    asked = list(batches.read(questions, settings, prompt))
    name = meant_model(loaded)
    journal = batches.Journal(target, batches.fingerprint(questions, name, talk.revision, settings, prompt))
    with closing(journal):
        for line in asked:
            if isinstance(line, batches.Refused) and line.line not in journal.done:
                journal.add(line.line, {**line.named, "error": line.error})
        waiting = [line for line in asked if isinstance(line, batches.Request) and line.line not in journal.done]
        if waiting:
            try:
                request = loaded.load_request(revision=talk.revision, subfolder=talk.subfolder)
                _answer(waiting, open_engine(name, loaded, environment, request, here=True), journal, environment)
            except (KeyboardInterrupt, ModelError):
                if kept := len(journal.done):
                    environment.note(f"chatcli: {kept} answers are kept: the same command goes on from there.")
                raise
        failed = journal.failed
        journal.finish()
    if failed:
        raise EngineError(f"{failed} of {len(asked)} lines have no answer: their lines in {target} say why.")
    return 0


def _questions(file: str, environment: Environment) -> str:
    from chatcli.cli.question import read_input, text_of

    if file == "-":
        return read_input(environment)
    try:
        data = Path(file).expanduser().read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    return text_of(data, file, environment)


def _answer(waiting: list[Request], engine: DeferredEngine, journal: Journal, environment: Environment) -> None:
    """Answer what waits, each answer into the journal as it comes, with the rate and the time left on the way."""
    from chatcli.generation import Progress
    from chatcli.render.progress import ProgressLine, shown_while

    opened = shown_while(engine.wait(), environment)
    progress = ProgressLine(environment)
    answers = cast("AnswersTogether", opened).answer_together([(each.conversation, each.settings) for each in waiting])
    try:
        for number, answer in enumerate(answers, 1):
            for note in answer.notes:
                progress.clear()
                environment.warn(f"chatcli: {note}")
            request = waiting[answer.index]
            journal.add(request.line, {**request.named, **_told(answer)})
            progress.show(Progress("answering", number, len(waiting), "questions"))
    finally:
        progress.clear()
        answers.close()


def _told(answer: Answer) -> dict[str, Any]:
    from chatcli.render.structured import ending_object

    if answer.error:
        return {"error": str(answer.error)}
    return {"text": answer.message.text, "reasoning": answer.message.reasoning, **ending_object(answer.finished)}
