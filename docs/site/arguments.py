"""Shows the arguments that a function takes as `**inputs: Unpack[...]` one by one."""

import inspect
from importlib import import_module
from typing import Any

import griffe


class Arguments(griffe.Extension):
    """The signature as Python has it: `tpo_graph.session.setup.spelled_out` has made it."""

    def on_function(self, *, func: griffe.Function, **kwargs: Any) -> None:
        """Put the declared arguments in the place of `**inputs`."""
        packed = [p.name for p in func.parameters if "Unpack" in str(p.annotation)]
        if not packed:
            return
        found: Any = import_module(func.module.path)
        for name in func.path.removeprefix(f"{func.module.path}.").split("."):
            found = getattr(found, name)
        del func.parameters[packed[0]]
        for name, shown in inspect.signature(found).parameters.items():
            if name in func.parameters:
                continue
            rest = shown.kind is inspect.Parameter.VAR_KEYWORD
            kind = griffe.ParameterKind.var_keyword if rest else griffe.ParameterKind.keyword_only
            default = None if shown.default is inspect.Parameter.empty else repr(shown.default)
            func.parameters.add(griffe.Parameter(name, kind=kind, default=default))
