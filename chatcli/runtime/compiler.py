"""A stand-in for torch's compiler, which chats never run and which takes as long to import as a fifth of torch.

transformers imports it to mark some functions for it. It knows how packages are imported; it compiles nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from functools import partial
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar

Marked = TypeVar("Marked", bound=Callable[..., Any])


class Compiler(ModuleType):
    """Stands for the compiler's package among the imported modules until somebody wants more of it than marks.

    Then it brings in the package itself, which takes its place, and passes on what was marked. `small` are the parts
    of it that can be had without.
    """

    def __init__(self, spec: ModuleSpec, parent: ModuleType, small: Collection[str]) -> None:
        super().__init__(spec.name)
        self.__spec__ = spec
        self.__file__ = spec.origin
        self.__path__ = list(spec.submodule_search_locations or ())
        self._parent, self._name = parent, spec.name.rpartition(".")[2]
        self._small = {f"{spec.name}.{each}" for each in small}
        self._watch = _Watch(spec.name, self._small, self._itself)
        self._allowed: list[Callable[..., Any]] = []
        self._undisturbed: list[Callable[..., Any]] = []

    def stand_in(self) -> None:
        """Take the package's place."""
        sys.modules[self.__name__] = self
        setattr(self._parent, self._name, self)
        sys.meta_path.insert(0, self._watch)

    def assume_constant_result(self, function: Marked) -> Marked:
        """Mark a function whose result the compiler may keep."""
        function._dynamo_marked_constant = True  # type: ignore[attr-defined]
        return function

    def allow_in_graph(self, function: Marked) -> Marked:
        """Mark a function that the compiler need not look into."""
        self._allowed.append(function)
        return function

    def mark_static_address(self, tensor: object, guard: bool = False) -> None:
        """A hint that saves a compiled graph a copy."""

    def disable(self, function: Any = None, recursive: bool = True, **said: Any) -> Any:
        """Leave a function of torch or transformers as it is, for as long as nothing is compiled.

        torch asks again afterwards; the two of transformers are in ways of attending that nobody here goes.
        """
        if function is None:
            return partial(self.disable, recursive=recursive, **said)
        if function.__module__.partition(".")[0] not in ("torch", "transformers"):
            return self._itself().disable(function, recursive, **said)
        self._undisturbed.append(function)
        return function

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":  # whoever looks through all modules means no compiler
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self._itself(), name)

    def _itself(self) -> Any:
        """The package, imported when this is first called."""
        if sys.modules.get(self.__name__) is self:
            sys.meta_path.remove(self._watch)
            del sys.modules[self.__name__]
            delattr(self._parent, self._name)
            self._pass_on(import_module(self.__name__))
        return import_module(self.__name__)

    def _pass_on(self, package: Any) -> None:
        for each in self._small & sys.modules.keys():
            vars(package).setdefault(each.rpartition(".")[2], sys.modules[each])
        for function in self._allowed:
            package.allow_in_graph(function)
        for function in self._undisturbed:
            vars(function).pop("__dynamo_disable", None)


class _Watch(MetaPathFinder):
    """Has the parts of a package come with it, all but the small ones."""

    def __init__(self, package: str, small: Collection[str], bring_in: Callable[[], object]) -> None:
        self._package, self._small, self._bring_in = package, small, bring_in

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if not fullname.startswith(f"{self._package}.") or fullname in self._small:
            return None
        self._bring_in()
        found = sys.modules.get(fullname)
        return ModuleSpec(fullname, _There(found)) if found else None


class _There(Loader):
    """Loads a module that is there."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec
