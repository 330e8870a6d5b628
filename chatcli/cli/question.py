"""What `ask` asks: piped input, files, a template and the words of the command line, as one text.

Nothing is ever cut silently: what is no text is refused, and input that is too long is shortened only where a
person said which part may go. It knows bytes and texts; whether a text fits, the caller tells.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chatcli import prompts
from chatcli.conversation import Attachment
from chatcli.environment import Environment
from chatcli.errors import UsageError
from chatcli.images import image_of, media_type, read_image

PARTS = ("head", "tail", "middle")
_VALUE = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Question:
    """`given` was piped in or read from files, and may be shortened; `around` makes the whole text of it."""

    given: str
    around: Callable[[str], str]

    @property
    def text(self) -> str:
        """The whole question."""
        return self.around(self.given)


def compose(
    words: Sequence[str],
    environment: Environment,
    *,
    files: Sequence[str] = (),
    template: str | None = None,
    piped: bool = True,
) -> Question:
    """Piped input and files, a blank line, the words; or a template filled with them.

    With a template, words of the form name=value fill its gaps; without any input the other words are the
    input, and with it they stand behind the filled template. Without `piped`, standard input is not for the question.

    Raises:
        UsageError: there is nothing to ask, an input is no text, or the template does not fit.
    """
    spoken = " ".join(words).strip()
    wanted = "-" in (spoken, *files)
    if wanted and not piped:
        raise UsageError("Standard input cannot be both a picture and a text: give one of them as a file.")
    given = read_input(environment) if piped and (wanted or not environment.stdin_is_terminal) else ""
    parts = [given.rstrip("\n")] if given.strip() else []
    named = [name for name in files if name != "-"]  # what is piped in is there already
    parts += [_file(name, environment, several=len(named) > 1 or bool(parts)) for name in named]
    given = "\n\n".join(parts)
    if template is not None:
        question = _templated(words, given, template, environment)
    else:
        behind = "" if spoken == "-" else spoken
        question = Question(given, lambda text: "\n\n".join(part for part in (text, behind) if part))
    if not question.text.strip():
        raise UsageError('There is no question: write it behind the command, as in chatcli ask "...", or pipe it in.')
    return question


def pictures(names: Sequence[str], environment: Environment) -> list[Attachment]:
    """The pictures of these files; `-` is standard input.

    Raises:
        UsageError: one is no picture, or cannot be read.
    """

    def piped() -> Attachment:
        return image_of(environment.stdin.buffer.read() if environment.stdin else b"", "standard input")

    return [piped() if name == "-" else read_image(name) for name in dict.fromkeys(names)]


def shortened(question: Question, part: str, fits: Callable[[str], bool]) -> tuple[str, int]:
    """The question with as little as possible of `part` of what was given left out, so that it `fits`.

    A line in brackets stands where something is missing. Returns the text and how many characters are missing.

    Raises:
        UsageError: it does not fit even without all of it.
    """
    if fits(question.text):
        return question.text, 0
    low, high = 1, len(question.given)
    if not high or not fits(question.around(_without(question.given, part, high))):
        raise UsageError("The question does not fit into the context even without its input: shorten the question.")
    while low < high:
        middle = (low + high) // 2
        if fits(question.around(_without(question.given, part, middle))):
            high = middle
        else:
            low = middle + 1
    return question.around(_without(question.given, part, high)), high


def read_input(environment: Environment) -> str:
    """Everything on standard input as text; see `text_of`."""
    if environment.stdin is None:
        return ""
    return text_of(environment.stdin.buffer.read(), "Standard input", environment)


def text_of(data: bytes, source: str, environment: Environment) -> str:
    """The text of `data`; bytes that are no UTF-8 are replaced, and a line says so.

    Raises:
        UsageError: there are NUL bytes, so it is no text.
    """
    if media_type(data[:16]):
        raise UsageError(f"{source} is a picture, not text: -a shows it to a model that sees, `-a -` one piped in.")
    if b"\0" in data:
        raise UsageError(f"{source} is binary, not text: convert it to text first.")
    text = data.decode("utf-8", errors="replace").removeprefix("\ufeff")
    if "\ufffd" in text and "\ufffd".encode() not in data:
        environment.warn(f"chatcli: {source} is not all UTF-8; what is not was replaced.")
    return text


def _file(name: str, environment: Environment, *, several: bool) -> str:
    """A file's text, under its name where there is more than one input."""
    try:
        data = Path(name).expanduser().read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    text = text_of(data, name, environment).rstrip("\n")
    return f"{name}:\n\n{text}" if several else text


def _templated(words: Sequence[str], given: str, name: str, environment: Environment) -> Question:
    template = prompts.named(name, environment.config_folder)
    matches = [_VALUE.fullmatch(word) for word in words]
    values = {match[1]: match[2] for match in matches if match}
    rest = " ".join(word for word, match in zip(words, matches, strict=True) if not match).strip()
    behind = "" if rest == "-" or not given else rest
    given = given or ("" if rest == "-" else rest)
    return Question(
        given, lambda text: "\n\n".join(part for part in (prompts.fill(template, values, text), behind) if part)
    )


def _without(text: str, part: str, count: int) -> str:
    """`text` with `count` characters of `part` left out, and a line that says so."""
    gap = f"[{count} characters are left out here]"
    if part == "head":
        return f"{gap}\n{text[count:]}"
    if part == "tail":
        return f"{text[: len(text) - count]}\n{gap}"
    start = (len(text) - count) // 2
    return f"{text[:start]}\n{gap}\n{text[start + count :]}"
