"""Which of the GGUF files in a folder or a repository is meant: by quantisation, by name, or the usual one.

It knows names and opens no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from chatcli.errors import ModelNotFound
from chatcli.models.gguf_file import part_names

_PREFERRED = (
    *("Q4_K_M", "Q4_K_S", "Q4_0", "Q4_1", "IQ4_NL", "IQ4_XS", "MXFP4", "Q5_K_M", "Q5_K_S", "Q5_0", "Q6_K", "Q8_0"),
    *("Q3_K_L", "Q3_K_M", "BF16", "F16", "F32"),
)
"""What is taken where nobody says: four bits as ollama and llama.cpp do, else the next better."""
_QUANTISATION = re.compile(
    r"(?:^|[-._/])(?:UD-)?(I?Q[1-8](?:_[0-9A-Z]+)+|TQ[12]_0|MXFP4(?:_MOE)?|BF16|FP?16|FP?32)(?=[-./]|$)", re.IGNORECASE
)
_OTHER = re.compile(r"(?:^|[-._/])(?:mmproj|imatrix)", re.IGNORECASE)

_DEPTHS = ("*.gguf", "*/*.gguf")
_OTHER_WEIGHTS = ("model*.safetensors*", "pytorch_model*.bin*")


def quantisation(name: str) -> str:
    """What a file's name says of its weights, such as "Q4_K_M"; empty where it says nothing."""
    found = _QUANTISATION.findall(name.removesuffix(".gguf"))
    return re.sub("^FP", "F", found[-1].upper()) if found else ""


def models(names: Iterable[str]) -> list[str]:
    """The GGUF models among files: one name for each, the first part's where it is split."""
    ggufs = [name for name in names if name.lower().endswith(".gguf") and not _OTHER.search(name)]
    return sorted(name for name in ggufs if part_names(name)[0] == name)


def choose(where: str, names: Iterable[str], wanted: str = "") -> str:
    """The file that is meant by `wanted`, a quantisation or a file's name in any case; the usual one where it is empty.

    Raises:
        ModelNotFound: there is none, or several fit; those that exist are named.
    """
    there = models(names)
    fitting = _fitting(there, wanted.lower()) if wanted else _usual(there)
    if len(fitting) == 1:
        return fitting[0]
    if not there:
        raise ModelNotFound(f"{where} holds no GGUF model.")
    if not fitting and wanted:
        raise ModelNotFound(f"{where} holds no GGUF file {wanted}; there are {listed(there)}.")
    several = ", ".join((fitting or there)[:8])
    raise ModelNotFound(f"{where} holds several GGUF models: name the file that you mean, of {several}.")


def _fitting(there: Sequence[str], wanted: str) -> list[str]:
    if exact := [n for n in there if wanted in (n.lower(), n.lower().removesuffix(".gguf"))]:
        return exact
    if named := [
        n for n in there if n.rpartition("/")[2].lower().removesuffix(".gguf") == wanted.removesuffix(".gguf")
    ]:
        return named
    same = [n for n in there if quantisation(n).lower() == re.sub("^fp", "f", wanted)]
    return _plainest(same)


def _usual(there: Sequence[str]) -> list[str]:
    if len(there) < 2 or len({_stem(name) for name in there}) > 1:
        return list(there)
    known = {quantisation(name): name for name in reversed(there)}
    return [next((known[each] for each in _PREFERRED if each in known), there[0])]


def _plainest(names: Sequence[str]) -> list[str]:
    """Of the files of one model in one quantisation the one with the shortest name: makers add variants to it."""
    return [min(names, key=len)] if names and len({_stem(name) for name in names}) == 1 else list(names)


def _stem(name: str) -> str:
    """The model's own name: no folder, no quantisation, no part."""
    last = re.sub(r"-\d{5}-of-\d{5}", "", name.rpartition("/")[2].removesuffix(".gguf"))
    return re.sub(r"[-._](?:UD|i1|imat)$", "", _QUANTISATION.sub("", last), flags=re.IGNORECASE).lower()


def listed(names: Sequence[str]) -> str:
    """The quantisations of files, or their names where a name does not say; for people."""
    return ", ".join(dict.fromkeys(quantisation(name) or name for name in names))


def in_folder(folder: Path, wanted: str = "") -> Path | None:
    """The GGUF model in a folder on disk, whole; None where other weights are what it is for, or nothing fits.

    Raises:
        ModelNotFound: nobody says which one of several models is meant.
    """
    there = [path.relative_to(folder).as_posix() for pattern in _DEPTHS for path in folder.glob(pattern)]
    if not there or (not wanted and any(each for pattern in _OTHER_WEIGHTS for each in folder.glob(pattern))):
        return None
    whole = [name for name in models(there) if all((folder / part).is_file() for part in part_names(name))]
    if wanted and not _fitting(whole, wanted.lower()):
        return None
    return folder / choose(str(folder), whole, wanted) if whole else None
