# pyright: basic
"""Runs in a process of its own, as text (`python -c`): the code of a response and tests of it.

It reads {"sign", "code", "tests", "filename", "limits"} and writes one line for each thing that
happens, each behind the sign: {"count"}, {"test"} when one begins, {"test", "failure"} at its end.
"""

import ast
import json
import linecache
import os
import resource
import sys
import traceback
import types


def main():
    asked = json.loads(sys.stdin.buffer.read())
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)

    def tell(**event):
        results.write(asked["sign"] + json.dumps(event) + "\n")
        results.flush()

    restrict(asked["limits"])
    tests = ast.parse(asked["tests"], asked["filename"])
    names = [name for node in tests.body if (name := test_name(node, asked["filename"]))]
    tell(count=len(names))
    for text, name in ((asked["code"], "solution.py"), (asked["tests"], asked["filename"])):
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    solution = types.ModuleType("solution")
    sys.modules["solution"] = solution
    failure = attempt(lambda: exec(compile(asked["code"], "solution.py", "exec"), vars(solution)))
    if failure is not None:
        tell(test="solution.py", failure=failure)
        return
    known = {**vars(solution), "__name__": "tests"}
    for node in tests.body:
        name = test_name(node, asked["filename"])
        if name:
            tell(test=name)
        failure = attempt(lambda node=node: run(node, known, asked["filename"]))
        if name is None and failure is not None:
            tell(test=f"{asked['filename']} line {node.lineno}", failure=failure)
            return
        if name and isinstance(node, ast.FunctionDef):
            failure = failure or attempt(known[node.name])
        if name:
            tell(test=name, failure=failure)


def restrict(limits):
    seconds = max(1, round(limits["seconds"]))
    for what, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_FSIZE, limits["file_size"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(what, (most, most))
        except (ValueError, OSError):  # a system that does not know this limit
            continue


def test_name(node, filename):
    if isinstance(node, ast.Assert):
        return f"line {node.lineno} of {filename}"
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
        return node.name
    return None


def run(node, known, filename):
    exec(compile(ast.Module([node], []), filename, "exec"), known)


def attempt(call):
    """None, or what went wrong in a line: the error, and the line of the test where it happened."""
    try:
        call()
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f.line for f in frames if f.line and f.filename != "<string>"]
        told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return f"{told[:500]} (in {lines[-1][:200]!r})" if lines else told[:500]
    return None


if __name__ == "__main__":
    main()
