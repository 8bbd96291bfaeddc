"""What a function computes, as a digest that is the same in every process, or why there is none.

Scores are stored by name, so two functions that score differently must never have one name. What
counts is what a call depends on: the code, and every value that it reads from its defaults, its
closure, the object it is bound to and the globals of its module, with the functions and classes
among them. Libraries count by name alone.
"""

import dis
import hashlib
import inspect
import json
import logging
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from enum import Enum
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePath
from re import Pattern
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, cast

_MOST = 20_000
"""Values; an object of more parts (a model, an index) is not read through."""
_PLAIN = (str, bytes, int, float, complex, type(None), type(...), range)
_OUTSIDE = frozenset({"open", "read_text", "read_bytes", "environ", "getenv", "urlopen", "input"})
"""Names in code that reads what no digest can see."""
_NO_PART = frozenset(
    [
        "__dict__",
        "__weakref__",
        "__module__",
        "__doc__",
        "__annotations__",
        "__qualname__",
        "__firstlineno__",
        "__static_attributes__",
        "__abstractmethods__",
        "_abc_impl",
        "__annotate__",
        "__annotate_func__",
        "__annotations_cache__",
        "__classdictcell__",
    ]
)
_MADE = frozenset(
    [
        "__dataclass_fields__",
        "__dataclass_params__",
        "__init__",
        "__repr__",
        "__eq__",
        "__hash__",
        "__setattr__",
        "__delattr__",
        "__lt__",
        "__le__",
        "__gt__",
        "__ge__",
        "__replace__",
    ]
)
"""What `dataclass` writes into a class."""


class UnseenError(Exception):
    """Something that the function depends on cannot be read; says what."""


def function_digest(function: Callable[..., Any]) -> str:
    """Digest (12 hex digits) of all that can decide what the function returns.

    It changes with the Python version, as bytecode does.

    Raises:
        UnseenError: there is more that decides.
    """
    described = json.dumps(_Reader().value(function, "the function"))
    return hashlib.sha256(described.encode("utf-8", "surrogatepass")).hexdigest()[:12]


class _Reader:
    """Reads values into JSON."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._kept: list[object] = []  # an id is only an object's own while it lives
        self._count = 0
        self._records: dict[int, set[str]] = {}

    def value(self, value: Any, where: str) -> object:
        self._count += 1
        if self._count > _MOST:
            raise UnseenError(f"{where} is part of something too large to read")
        if isinstance(value, Enum):
            return [_name(type(value)), value.name]
        if isinstance(value, _PLAIN):
            return [type(value).__qualname__, repr(value)]
        if isinstance(value, tuple):  # equal ones may or may not be one object
            items = cast("tuple[Any, ...]", value)
            return ["tuple", type(items).__qualname__, [self.value(item, where) for item in items]]
        if isinstance(value, set | frozenset):
            members = cast("frozenset[Any]", value)
            return ["set", sorted(_alone(item, where) for item in members)]
        if id(value) in self._seen:
            return ["seen", self._seen[id(value)]]
        self._seen[id(value)] = len(self._seen)
        self._kept.append(value)
        if isinstance(value, list):
            return ["list", [self.value(item, where) for item in cast("list[Any]", value)]]
        if isinstance(value, Mapping):
            pairs = list(cast("Mapping[Any, Any]", value).items())
            return ["mapping", [[self.value(k, where), self.value(v, where)] for k, v in pairs]]
        return self._code_or_object(value, where)

    def _code_or_object(self, value: Any, where: str) -> object:
        if isinstance(value, partial):
            piece = cast("partial[Any]", value)
            parts = (piece.func, piece.args, piece.keywords)
            return ["partial", *(self.value(part, where) for part in parts)]
        if isinstance(value, MethodType):
            self._note_records(value.__func__, value.__self__)
            return [
                "method",
                self.value(value.__func__, where),
                self.value(value.__self__, f"the object of {value.__qualname__!r}"),
            ]
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(cast("type[Any]", value))
        if isinstance(value, BuiltinFunctionType) and isinstance(value.__self__, ModuleType | None):
            return ["builtin", _name(value)]
        if isinstance(value, staticmethod | classmethod):
            return ["of the class", self.value(cast(Any, value).__func__, where)]
        if isinstance(value, property):
            parts = (value.fget, value.fset)
            return ["property", *(self.value(part, where) for part in parts)]
        if isinstance(value, ModuleType):
            return self._module(value)
        if isinstance(value, CodeType):
            return self._code(value)
        if isinstance(value, PurePath):
            return ["path", str(value)]
        if isinstance(value, Pattern):
            pattern = cast("Pattern[Any]", value)
            return ["pattern", repr(pattern.pattern), pattern.flags]
        if isinstance(value, logging.Logger):
            return ["logger"]
        return self._object(value, where)

    def _function(self, function: FunctionType) -> object:
        name = _name(function)
        if _of_a_library(function.__module__) and len(self._seen) > 1:  # the outermost is read
            return ["function", name]
        code = function.__code__
        outside = sorted(_names(code) & _OUTSIDE)
        if outside:
            raise UnseenError(f"{function.__qualname__!r} uses {outside[0]!r}")
        described = [
            name,
            self._code(code),
            self.value(function.__defaults__, f"a default of {function.__qualname__!r}"),
            self.value(function.__kwdefaults__, f"a default of {function.__qualname__!r}"),
        ]
        records = _records(code)
        for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                content = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            if variable in records:
                continue
            described.append([variable, self.value(content, f"the variable {variable!r}")])
        read = _names(code) & function.__globals__.keys() - records
        for variable in sorted(read):
            value = function.__globals__[variable]
            described.append([variable, self.value(value, f"the global {variable!r}")])
        return ["function", described]

    def _code(self, code: CodeType) -> object:
        constants = [
            self._code(one) if isinstance(one, CodeType) else _alone(one, "a constant")
            for one in code.co_consts
        ]
        names = [*code.co_names, "", *code.co_varnames, "", *code.co_freevars]
        flags = [code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount, code.co_flags]
        return [code.co_code.hex(), code.co_exceptiontable.hex(), constants, names, flags]

    def _class(self, given: type[Any]) -> object:
        described: list[object] = [_name(given)]
        for one in given.__mro__:
            if not _of_a_library(one.__module__):
                made = _MADE if is_dataclass(one) else frozenset[str]()
                own = cast("dict[str, Any]", vars(cast(Any, one)))
                parts = {k: v for k, v in own.items() if k not in _NO_PART | made}
                described.append(
                    [[k, self.value(v, f"{one.__qualname__}.{k}")] for k, v in parts.items()]
                )
        return ["class", described]

    def _module(self, module: ModuleType) -> object:
        file = getattr(module, "__file__", None)
        if _of_a_library(module.__name__) or not file:
            return ["module", module.__name__]
        try:
            return ["module", hashlib.sha256(Path(file).read_bytes()).hexdigest()]
        except OSError as error:
            raise UnseenError(f"the module {module.__name__!r} has no readable file") from error

    def _object(self, value: Any, where: str) -> object:
        kind = cast("type[Any]", type(value))
        state = getattr(value, "__dict__", None)
        if _of_a_library(kind.__module__) or state is None:
            slots = [s for one in kind.__mro__ for s in getattr(one, "__slots__", ())]
            if _of_a_library(kind.__module__) or not slots:
                raise UnseenError(f"{where} is a {_name(kind)}, which is not plain data")
            state = {slot: getattr(value, slot, None) for slot in slots}
        if callable(value):
            self._note_records(kind.__call__, value)
        records = self._records.get(id(value), set())
        described = {
            name: self.value(part, f"the attribute {name!r} of {where}")
            for name, part in cast("dict[str, Any]", state).items()
            if name not in records
        }
        return ["object", self.value(kind, where), described]

    def _note_records(self, function: Any, owner: object) -> None:
        if isinstance(function, FunctionType):
            self._records.setdefault(id(owner), set()).update(_records(function.__code__))


def _records(code: CodeType) -> set[str]:
    """Names of variables and attributes that the code itself changes: a log of calls, a counter.

    They are what the function has done, not what it was made with.
    """
    found: set[str] = set()
    done = list(dis.get_instructions(code))
    for before, now in pairwise(done):
        loads = before.opname in _LOADS and isinstance(before.argval, str)
        if loads and now.opname in ("LOAD_ATTR", "LOAD_METHOD") and now.argval in _CHANGES:
            found.add(before.argval)
        if now.opname in ("STORE_DEREF", "STORE_GLOBAL", "STORE_ATTR"):
            found.add(now.argval)
    for i, now in enumerate(done):
        if now.opname == "STORE_SUBSCR":
            held = [one.argval for one in done[max(0, i - 3) : i] if one.opname in _LOADS]
            found.update(held[-1:])
    return found - set(code.co_cellvars)


_LOADS = frozenset(["LOAD_DEREF", "LOAD_GLOBAL", "LOAD_ATTR"])
_CHANGES = frozenset(
    ["append", "appendleft", "add", "extend", "insert", "update", "setdefault", "clear", "pop"]
)


def _alone(value: object, where: str) -> str:
    """Described on its own, so that the order of a set does not matter."""
    if isinstance(value, CodeType):
        raise UnseenError(f"{where} is code")
    return json.dumps(_Reader().value(value, where))


def _names(code: CodeType) -> set[str]:
    nested = [_names(one) for one in code.co_consts if isinstance(one, CodeType)]
    return set(code.co_names).union(*nested)


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', repr(value))}"


def _of_a_library(module: str | None) -> bool:
    """Whether a module belongs to Python, to an installed package or to this one."""
    top = (module or "").partition(".")[0]
    if top in sys.stdlib_module_names or top == "tpo_graph":
        return top != "__main__"
    loaded = sys.modules.get(module or "")
    file = getattr(loaded, "__file__", None) or ""
    paths = sysconfig.get_paths()
    return bool(file) and file.startswith((paths["purelib"], paths["platlib"]))


def place_in_source(function: Callable[..., Any]) -> str:
    """How people find it: "prefer_short (app.py:12)"; its name alone where it has no source."""
    inner = _innermost(function)
    name = getattr(inner, "__name__", repr(inner))
    code: CodeType | None = getattr(inner, "__code__", None)
    return name if code is None else f"{name} ({Path(code.co_filename).name}:{code.co_firstlineno})"


def display_name(function: Callable[..., Any]) -> str:
    """Module and qualified name, of what a partial wraps or the class of an object."""
    return _name(_innermost(function))


def _innermost(function: Callable[..., Any]) -> Any:
    inner: Any = function
    while isinstance(inner, partial):
        inner = cast("partial[Any]", inner).func
    return inspect.unwrap(inner) if hasattr(inner, "__qualname__") else cast("Any", type(inner))
