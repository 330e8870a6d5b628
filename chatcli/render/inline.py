r"""The text inside a block: emphasis, code, links and math, from the parser's tokens to spans.

Rather shows a sign too many than loses one: `__init__`, `a*b*c`, `<div>`, `$a_b$`, `\(x\)`, `&lt;` and
`[text][reference]` stay as the model wrote them. Links show their text and their address, for a hidden address
(OSC 8) can lie. Not done: reference links, HTML, typesetting of math.
"""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.escape import escape as markdown_escape
from markdown_it.token import Token

from chatcli.render.rows import BOLD, CYAN, DIM, ITALIC, STRIKE, UNDERLINE, Span
from chatcli.streaming.sanitize import sanitize

PRINTED = "\x01"
"""Stands for what was printed before, where a text goes on; no sanitized text holds it."""

_STYLES = {"em": ITALIC, "strong": BOLD, "s": STRIKE, "link": UNDERLINE}
_MATH = re.compile(
    r"\$\$[^$]+\$\$"
    r"|\$(?![\s$]|\d[\d.,]*[\s),;])[^$\n]{,200}(?<![\s\\])\$(?![\d$])"  # not the dollars of prices
    r"|\\\((?:(?!\\\)).)+\\\)|\\\[(?:(?!\\\]).)+\\\]",
    re.DOTALL,
)
_ESCAPABLE = frozenset("*_`#+-.|~<>$!\n")


def add_inline_rules(parser: MarkdownIt) -> None:
    """Teach the parser math, and that a backslash is Markdown's only before Markdown's own signs."""
    parser.inline.ruler.at("escape", _escape)
    parser.inline.ruler.before("escape", "math", _math)
    parser.normalizeLink = _as_written  # type: ignore[method-assign]
    parser.normalizeLinkText = _as_written  # type: ignore[assignment, method-assign]


def _as_written(url: str) -> str:
    return url


def _math(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] not in "$\\":
        return False
    found = _MATH.match(state.src, state.pos, state.posMax)
    if not found:
        return False
    if not silent:
        state.push("math", "", 0).content = found[0]
    state.pos = found.end()
    return True


def _escape(state: StateInline, silent: bool) -> bool:
    pair = state.src[state.pos : min(state.pos + 2, state.posMax)]
    if not pair.startswith("\\"):
        return False
    if pair[1:] in _ESCAPABLE:
        return markdown_escape(state, silent)
    if not silent:
        state.pending += pair
    state.pos += len(pair)
    return True


def spans(tokens: list[Token], *, color: bool) -> list[Span]:
    """The text of a block; without `color`, code keeps its backticks."""
    made: list[Span] = []
    styles: list[str] = []
    signs: list[str] = []  # of the emphasis that is open: shown, or empty where it is only a style
    links: list[tuple[str, int]] = []
    for at, token in enumerate(tokens):
        kind, _, side = token.type.partition("_")
        style = ";".join(each for each in styles if each)
        if side == "open" and kind in _STYLES:
            sign = token.markup if _is_literal(tokens, at, made) else ""
            made += [Span(sign, style)] if sign else []
            signs.append(sign)
            styles.append("" if sign else _STYLES[kind])
            links += [(str(token.attrs.get("href", "")), len(made))] if kind == "link" else []
        elif side == "close" and kind in _STYLES:
            styles.pop()
            sign = signs.pop()
            made += [Span(sign, ";".join(each for each in styles if each))] if sign else []
            made += _address(*links.pop(), made) if kind == "link" else []
        elif token.type == "code_inline":
            made.append(_code(token, style, color))
        elif token.type in ("softbreak", "hardbreak"):
            made.append(Span("\n"))
        elif token.type == "image":
            made.append(Span(token.content, style))
            made += _address(str(token.attrs.get("src", "")), len(made) - 1, made)
        elif token.content:
            made.append(Span(_without_mark(token.content), style))
    return made


def unresolved(tokens: list[Token], following: str) -> bool:
    """Whether text behind `following`, the next character, could give a sign a meaning, as a closing `**` would."""
    dollar = False
    for token in tokens:
        content = token.content + (following if token is tokens[-1] else "")
        if token.type == "text":
            if _OPENER.search(_BRACKETS.sub("", content)):
                return True
            dollar = bool(_LAST_DOLLAR.search(content)) or (dollar and "$" not in content)
        elif token.type in ("softbreak", "hardbreak"):
            dollar = False  # the math of one `$` ends with its line
    return dollar


# A star between spaces and an underscore inside a word open nothing; an address has no space.
_OPENER = re.compile(r"\*(?<!\s\*(?=\s))|(?<!\w)_|[`\[]|~~|\$\$|\\[(\[]|<\S*$")
_BRACKETS = re.compile(r"\[[^\[\]]*\](?!\()")
_LAST_DOLLAR = re.compile(r"\$(?!\s|\d[\d.,]*[\s),;])[^$]{,200}$")


def _code(token: Token, style: str, color: bool) -> Span:
    if not color:
        return Span(f"{token.markup}{token.content}{token.markup}", style)
    return Span(token.content, f"{style};{CYAN}" if style else CYAN)


def _address(url: str, start: int, made: list[Span]) -> list[Span]:
    """What is shown behind a link whose text begins at span `start`: its address, unless that is the text."""
    text = "".join(span.text for span in made[start:])
    shown = sanitize(url, single_line=True)
    return [Span(f" ({shown})" if text else shown, DIM)] if shown not in ("", text, f"mailto:{text}") else []


def _is_literal(tokens: list[Token], at: int, made: list[Span]) -> bool:
    """Whether a sign of emphasis belongs to a name or a formula: `__init__`, `2**3**4`."""
    token = tokens[at]
    if token.markup.startswith("*"):
        before = made[-1].text[-1:] if made else ""
        return before.isascii() and before.isalnum()
    if token.markup == "__":
        return bool(re.fullmatch(r"\w+", tokens[at + 1].content)) and tokens[at + 2].type == "strong_close"
    return False


def _without_mark(text: str) -> str:
    return text.removeprefix(PRINTED).removeprefix(" ") if text.startswith(PRINTED) else text
