"""The step in C, built once for all tests here."""

from __future__ import annotations

import shutil
import time
from ctypes import CDLL
from pathlib import Path

import pytest

from chatcli.runtime.native.build import Library


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Library:
    if not (compiler := shutil.which("cc")):
        pytest.skip("there is no C compiler")
    library = Library(tmp_path_factory.mktemp("compiled"), {"PATH": str(Path(compiler).parent)})
    while not library.loaded():
        time.sleep(0.05)
    return library


@pytest.fixture(scope="session")
def built(compiled: Library) -> CDLL:
    found = compiled.loaded()
    assert found
    return found
