"""What loading a model of transformers need not bring in: half of what it imports, none of which serves a chat.

Marks on a few functions bring in torch's compiler; classes for models that processes share, tensors of that kind; and
the sources of all models there are, 2,500 files, are read twice for the names in them. Shapes of tensors are computed
with sympy at hand. Here these four are answered for; what is wanted in earnest later is imported as ever. It knows
modules of torch and transformers; it knows no model.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from chatcli.torchrun import processes

Marked = TypeVar("Marked", bound=Callable[..., Any])

_WITH_A_NUMBER = frozenset({torch.Tensor.mul, torch.Tensor.div, torch.Tensor.__rdiv__, torch.Tensor.__rpow__})


def spare_imports() -> None:
    """Import transformers, before anybody has."""
    if "transformers" in sys.modules:
        return
    compiler = find_spec("torch._dynamo")
    if compiler and compiler.name not in sys.modules:
        Compiler(compiler, torch, {"_trace_wrapped_higher_order_op"}).stand_in()
    import transformers.utils

    if processes(os.environ) == 1:
        # What it hears first it remembers, and of this process it is true: nobody computes along.
        with _replaced(torch.distributed, "is_available", lambda: False):
            transformers.utils.is_torch_distributed_available()
    _read_names_once()


def _read_names_once() -> None:
    """Tell `transformers.models` which class is in which file, as `transformers` has just found out.

    It would remember itself, but 128 folders, and there are 530.
    """
    import transformers
    from transformers.utils import import_utils

    prefix = "models."
    known = {
        name.removeprefix(prefix): set(classes)
        for name, classes in getattr(transformers, "_import_structure", {}).items()
        if name.startswith(prefix)
    }
    if known:
        with _replaced(import_utils, "define_import_structure", lambda _: {frozenset(): known}):
            import_module("transformers.models")


@contextmanager
def _replaced(module: ModuleType, name: str, function: Callable[..., object]) -> Generator[None]:
    before = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, before)


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


class Unfilled(TorchFunctionMode):
    """Computes nothing but shapes for tensors without memory, of which a model is built before its weights come.

    torch looks for numbers that sympy stands for in each; in random weights and the frequencies of RoPE there are none.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.arange and str(kwargs.get("device")) == "meta" and all(type(each) is int for each in args):
            return torch.empty(len(range(*args)), dtype=kwargs.get("dtype") or torch.int64, device="meta")
        tensor = args[0] if args else kwargs.get("tensor")
        if isinstance(tensor, torch.Tensor) and tensor.is_meta:
            if getattr(func, "__module__", "") == torch.nn.init.__name__:
                return tensor
            if _is_alike(func, tensor, args[1:]) and kwargs.keys() <= {"dtype", "device"}:
                return torch.empty(tensor.shape, **{"dtype": tensor.dtype, "device": tensor.device, **kwargs})
        return func(*args, **kwargs)


def _is_alike(func: object, tensor: torch.Tensor, others: tuple[object, ...]) -> bool:
    """Whether what a function makes of a tensor has its shape, type and layout."""
    if func is torch.empty_like:
        return tensor.is_contiguous()
    return func in _WITH_A_NUMBER and tensor.is_floating_point() and isinstance(others[0], (int, float))
