"""The table of model families, ours and a person's own, and the rule by which a model finds its row.

A row is data (row.py). This module compares names; it opens no checkpoint and renders nothing.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.resources import files
from itertools import chain
from pathlib import Path

from chatcli.adapters.row import Adapter, check_template, read_row
from chatcli.errors import ConfigError, UsageError


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that a name fits, with the most specific of its patterns, which may be one of its `base` models.

    `places` are the positions in the name of the pattern's letters, all that is no wildcard.
    """

    adapter: Adapter
    pattern: str
    base: bool
    places: tuple[int, ...]

    @property
    def rank(self) -> tuple[int, tuple[int, ...]]:
        """Lower is more specific."""
        return (-len(self.places), self.places)


@dataclass(frozen=True, slots=True)
class Match:
    """The row that applies; `reason` says why, for people, and `by` for code: said, name, base or model_type.

    `candidates` are all rows that the name fits and config.json allows, the best first.
    """

    adapter: Adapter
    reason: str
    by: str
    candidates: tuple[Candidate, ...] = ()

    @property
    def chats(self) -> bool:
        """Whether a checkpoint without a template of its own may be given the row's.

        Not a base model; and not one that only its `model_type` brought here, unless all of the type chat:
        "llama" is also what base models are called.
        """
        return self.by in ("said", "name") or (self.by == "model_type" and self.adapter.always_chats)


@dataclass(frozen=True, slots=True)
class Table:
    """All rows; their order means nothing. Where a person named one of them, `said`, it applies to every model."""

    rows: tuple[Adapter, ...]
    said: Adapter | None = None

    def saying(self, name: str) -> Table:
        """The same table where the row `name` applies to every model; an empty name says nothing.

        Raises:
            UsageError: there is no such row.
        """
        return replace(self, said=self.row(name)) if name else self

    def row(self, name: str) -> Adapter:
        """The row that a person calls by its name, in any case and with - for _.

        Raises:
            UsageError: there is none.
        """
        names = {_folded(row.name): row for row in self.rows}
        if _folded(name) in names:
            return names[_folded(name)]
        close = difflib.get_close_matches(_folded(name), names, n=1)
        hint = f"did you mean {names[close[0]].name}?" if close else "chatcli adapters lists them."
        raise UsageError(f"There is no adapter {name}: {hint}")

    def match(self, name: str, model_type: str = "") -> Match | None:
        """The row for a model, or None where no row knows it.

        The most specific pattern that fits the name, among the rows that config.json's `model_type` allows:
        those that list it and those that list none, or all where no row lists it. Else the one row that lists
        the type, if it is one.
        """
        if self.said:
            return Match(self.said, "--adapter names it", "said")
        listing = [row for row in self.rows if model_type and model_type in row.model_type]
        said = f'config.json says "{model_type}"'
        if found := self.candidates(name, model_type):
            best = found[0]
            reason = f"the name fits {best.pattern}" + (", a base model" if best.base else "")
            if best.adapter in listing:
                reason = f"{said} and {reason}"
            return Match(best.adapter, reason, "base" if best.base else "name", found)
        if len(listing) == 1:
            return Match(listing[0], said, "model_type")
        return None

    def candidates(self, name: str, model_type: str = "") -> tuple[Candidate, ...]:
        """The rows that a name fits, of those that the `model_type` allows, the most specific first.

        The one with more letters is the more specific; of equal ones, the one that fits further to the left. Rows
        that know the name as a base model's come last: fine-tunes carry the names of what they are made from. A
        folder may have its model's owner in front, as in "TheBloke_Llama-2-7B-Chat-GPTQ".
        """
        listed = any(model_type in row.model_type for row in self.rows)
        allowed = [r for r in self.rows if not listed or not r.model_type or model_type in r.model_type]
        last = _last_part(name).lower()
        starts = {0, last.find("_") + 1}
        fitting = [_best(row, _folded(last), starts) for row in allowed]
        return tuple(sorted((c for c in fitting if c), key=lambda c: (c.base, c.rank)))

    def examples(self) -> tuple[str, ...]:
        """Ids on the Hub that exist, for suggestions."""
        return tuple(chain.from_iterable(row.examples for row in self.rows))


def ties(rows: tuple[Adapter, ...]) -> list[tuple[str, str, str]]:
    """Pairs of rows that could fit one name equally well, each with the pattern of the second.

    Equal specificity means the same letters at the same places, so it takes two patterns with the same letters.
    Patterns of base models give way to others, so only two of a kind can tie. That two rows are for different
    model_types does not help: a name may be all that is known.
    """
    seen: dict[tuple[bool, str], list[Adapter]] = {}
    found = []
    for row in rows:
        for base, pattern in (*((False, p) for p in row.match), *((True, p) for p in row.base)):
            letters = "".join(_compiled(pattern)[0])
            for other in seen.setdefault((base, letters), []):
                if other is not row:
                    found.append((other.name, row.name, pattern))
            seen[base, letters].append(row)
    return found


def _best(row: Adapter, name: str, starts: set[int]) -> Candidate | None:
    """The most specific of a row's patterns that fit the name from one of the `starts` on."""
    fitting = [
        Candidate(row, pattern, base, places)
        for base, patterns in ((False, row.match), (True, row.base))
        for pattern in patterns
        for start in starts
        if (places := _fit(pattern, name, start)) is not None
    ]
    return min(fitting, key=lambda candidate: candidate.rank, default=None)


def _folded(text: str) -> str:
    return text.lower().replace("_", "-").replace(" ", "-")


def _last_part(name: str) -> str:
    """What a name calls the model: no owner, no folders; a folder of the Hub's cache by its repository."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    cached = [part for part in parts if part.startswith("models--")]
    return cached[-1].rpartition("--")[2] if cached else parts[-1] if parts else ""


def _fit(pattern: str, name: str, start: int) -> tuple[int, ...] | None:
    """Where the letters of a pattern stand in a name that it fits from `start`, as far to the left as they can."""
    runs, expression = _compiled(pattern)
    # Most patterns are not in the name at all, and to see that is cheaper than to compile them.
    found = all(run in name for run in runs) and re.compile(expression, re.DOTALL).fullmatch(name, start)
    if not found:
        return None
    return tuple(chain.from_iterable(range(*found.span(i)) for i in range(1, found.re.groups + 1)))


@cache
def _compiled(pattern: str) -> tuple[tuple[str, ...], str]:
    """The letters of a pattern between its wildcards, and a regular expression with a group for each."""
    pieces = re.split(r"([*?])", _folded(pattern))
    wild = {"*": ".*?", "?": "."}
    return tuple(pieces[::2]), "".join(wild.get(piece) or f"({re.escape(piece)})" for piece in pieces)


@lru_cache(maxsize=1)
def shipped() -> Table:
    """The table that chatcli ships."""
    file = files("chatcli.adapters") / "table.toml"
    rows = _toml(file.read_text(encoding="utf-8"))
    return Table(tuple(read_row(name, said, Path("table.toml"), ours=True) for name, said in rows.items()))


def load_table(folder: Path) -> Table:
    """Our table under a person's own: rows of adapters.toml in the `folder` of their configuration.

    A row of a new name is added; what one of our names, in any case, says goes over what our row says, key by key.

    Raises:
        ConfigError: the file has a mistake; the text names file, row and key.
    """
    file = adapters_file(folder)
    rows = {row.name: row for row in shipped().rows}
    ours = {_folded(name): name for name in rows}
    own = {ours.get(_folded(name), name): said for name, said in _read(file).items()}
    for name, said in own.items():
        row = read_row(name, said, file, rows.get(name))
        rows[name] = replace(row, folder=folder) if "template" in said else row
    table = tuple(rows.values())
    for name in own:
        check_template(rows[name], file)
    for one, other, pattern in ties(table):
        mine, theirs = (other, one) if other in own else (one, other)
        raise ConfigError(
            f'{file}: row {mine}: match: "{pattern}" could fit a name as well as row {theirs} does; '
            f"write more of the name, or name the row {theirs} to change that one."
        )
    return Table(table)


def adapters_file(folder: Path) -> Path:
    """Where a person's own rows are, or would be."""
    return folder / "adapters.toml"


def _read(file: Path) -> dict[str, dict[str, object]]:
    try:
        return _toml(file.read_bytes().decode("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror}); see that it is a file that you own.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 at byte {error.start}; save it as UTF-8.") from error
    except ValueError as error:  # what tomllib and tomli call TOMLDecodeError
        raise ConfigError(f"{file} is not TOML: {error}.") from error


def _toml(text: str) -> dict[str, dict[str, object]]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def ports() -> dict[str, str]:
    """The model types that only a port of ours runs, each with the port's module in `runtime.ports`."""
    found: dict[str, str] = {}
    for row in shipped().rows:
        found |= row.port if isinstance(row.port, Mapping) else {kind: row.port for kind in row.model_type if row.port}
    return found
