"""What can be searched for in a text: its words, emoji, and the characters of scripts without spaces.

SQLite's `unicode61` makes words where there are spaces, so a run of Chinese, Japanese or Korean is taken apart
before: into single characters, and into overlapping pairs so that longer runs need not be put together from
characters that occur everywhere. A query is taken apart in the same way and each of its parts quoted, so that
no character of it is an operator. Knows no table.

What these functions return for a text must not change without a migration that empties the index: SQLite
takes a text out of it by the words that once went in.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

MOST_TERMS = 32
"""Terms of a query that count; SQLite refuses expressions that are too deep."""
SHORTEST_BEGINNING = 3
"""Letters of a word that may go on; what begins with fewer is too much to look through."""
EXCERPT_COLUMNS = 120

_SYMBOLS = "\u2600-\u27bf\U0001f1e6-\U0001f1ff\U0001f300-\U0001f6ff\U0001f900-\U0001faff"
# Emoji, Han, kana, hangul and its letters.
_UNSPACED = _SYMBOLS + (
    "\u1100-\u11ff\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff"
)
# Compiled when they are used: a question in English needs none of them.
_RUN = f"[{_UNSPACED}]+"
_SYMBOL = f"[{_SYMBOLS}]"
_LETTER = rf"[^\W_{_UNSPACED}]"
_WORD = f"{_LETTER}+"


def spaced(text: str) -> str:
    """`text` with a space around each emoji and each character of an unspaced script."""
    if text.isascii():
        return text
    return re.sub(_RUN, lambda run: f" {_spelled(' '.join(run[0]))} ", text)


def pairs(text: str) -> str:
    """Every two neighbours in runs of emoji or an unspaced script, a space between the pairs."""
    if text.isascii():
        return ""
    return _spelled(" ".join(first + second for run in re.findall(_RUN, text) for first, second in pairwise(run)))


def _spelled(text: str) -> str:
    """`text` with each emoji as a word such as u1f680, since SQLite would pass over it."""
    return re.sub(_SYMBOL, lambda symbol: f"u{ord(symbol[0]):x}", text)


def fts_query(query: str) -> str:
    """An FTS5 query for texts that have every term of `query`; empty where it has no letter or digit.

    The last word of a term may go on if it is not too short, so "config" finds "configuration".
    """
    parts = []
    for term in query.split()[:MOST_TERMS]:
        words = re.findall(_WORD, term)
        if words:
            goes_on = "*" if len(words[-1]) >= SHORTEST_BEGINNING and term.endswith(words[-1]) else ""
            parts.append(f'spaced : "{" ".join(words)}" {goes_on}')
        for run in re.findall(_RUN, term):
            parts.append(f'pairs : "{pairs(run)}"' if len(run) > 1 else f'spaced : "{_spelled(run)}"')
    return " AND ".join(parts)


def excerpt(text: str, query: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """A line of `text` around the first place that `query` finds, and all the places in that line."""
    line = " ".join(text.split())
    pattern = _places(query)
    folded = _fold(line)
    first = pattern.search(folded) if pattern else None
    start = _room_before(line, first.start(), EXCERPT_COLUMNS // 3) if first else 0
    head = "…" if start else ""
    cut = line[start : start + _fitting(line[start:], EXCERPT_COLUMNS)]
    tail = "…" if start + len(cut) < len(line) else ""
    found = pattern.finditer(folded, start, start + len(cut)) if pattern else ()
    shift = len(head) - start
    return head + cut + tail, tuple((m.start() + shift, m.end() + shift) for m in found if m.end() > m.start())


def _places(query: str) -> re.Pattern[str] | None:
    alternatives = []
    for term in query.split()[:MOST_TERMS]:
        folded = _fold(term)
        words = re.findall(_WORD, folded)
        if words:
            goes_on = (
                f"{_LETTER}*"
                if len(words[-1]) >= SHORTEST_BEGINNING and folded.endswith(words[-1])
                else f"(?!{_LETTER})"
            )
            alternatives.append(f"(?<!{_LETTER})" + r"[\W_]+".join(words) + goes_on)
        alternatives += re.findall(_RUN, folded)
        if not words and not re.search(_RUN, folded):
            alternatives.append(re.escape(folded))
    return re.compile("|".join(alternatives)) if alternatives else None


def _fold(text: str) -> str:
    """`text` in small letters without accents, each character one, so that places stay what they are."""
    if text.isascii():
        return text.lower()
    return "".join(_folded(character) for character in text)


def _folded(character: str) -> str:
    if character.isascii() or re.fullmatch(_RUN, character):
        return character.lower()
    return (unicodedata.normalize("NFD", character)[0].lower() or character)[0]


def _room_before(line: str, place: int, room: int) -> int:
    """Where a line may begin so that about `room` columns of it come before `place`; between words if it can."""
    start = place - _fitting(line[:place][::-1], room)
    space = line.find(" ", start, place)
    return space + 1 if start and 0 <= space < place else start


def _fitting(line: str, room: int) -> int:
    """How many characters of `line` fit into `room` columns."""
    from chatcli.history.titles import columns

    for index, character in enumerate(line):
        room -= columns(character)
        if room < 0:
            return index
    return len(line)
