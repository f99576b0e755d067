"""Functions of a script that make a configuration: what they derive from an entry has the script's own value."""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import linecache
import operator
import sys
from collections.abc import Iterator
from pathlib import Path


def derived_from(file: str, given: ast.expr, key: str) -> tuple[str, list[str]] | None:
    """What the function that makes a configuration uses an entry of it for.

    Args:
        file: Where the configuration is handed over.
        given: The expression there: a call of the function, or a variable that the file assigns one to.
        key: The entry's own name.

    Returns:
        What holds the entry in the function, such as ``config['dim']``, and the lines that use it; ``None`` where the
        function does not use it, or where it is not known.
    """
    for made in _calls(file, given):
        where, function = _function(file, made.func)
        if function is None:
            continue
        typed = [*_set(function, key)]
        names = {one.id for one in typed if isinstance(one, ast.Name)}
        uses = [one for one in _read(function, key, names) if one not in typed] if typed else []
        if uses:
            behind = "" if where == file else f" of {Path(where).name}"
            return ast.unparse(uses[0]), [f"{line}{behind}" for line in sorted({one.lineno for one in uses})]
    return None


def _calls(file: str, given: ast.expr) -> list[ast.Call]:
    """The calls that an expression is, or that the file assigns to its variable."""
    variable = ast.unparse(given)
    assigned = (node for node in ast.walk(tree_of(file)) if isinstance(node, ast.Assign))
    values = [node.value for node in assigned if variable in map(ast.unparse, node.targets)]
    return [one for one in (given, *values) if isinstance(one, ast.Call)]


def _function(file: str, name: ast.expr) -> tuple[str, ast.AST | None]:
    """A function that a file calls by a name, and the file that has it."""
    where, text = file, ast.unparse(name)
    for module in [*sys.modules.values()]:
        if getattr(module, "__file__", None) == file:
            with contextlib.suppress(Exception):  # it is local, no function, or an object that may raise anything
                where = str(inspect.unwrap(operator.attrgetter(text)(module)).__code__.co_filename)
    last = text.rpartition(".")[2]
    own = (node for node in ast.walk(tree_of(where)) if isinstance(node, ast.FunctionDef) and node.name == last)
    return where, next(own, None)


def _set(function: ast.AST, key: str) -> Iterator[ast.expr]:
    """What a function sets an entry to."""
    for node in ast.walk(function):
        if isinstance(node, ast.Dict):
            yield from (value for one, value in zip(node.keys, node.values, strict=True) if _is(one, key))
        elif isinstance(node, ast.Call):
            yield from (word.value for word in node.keywords if word.arg == key)
        elif isinstance(node, ast.Assign) and any(_is_entry(target, key) for target in node.targets):
            yield node.value


def _read(function: ast.AST, key: str, names: set[str]) -> Iterator[ast.expr]:
    """Where a function reads an entry, or a variable that it sets an entry to."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Name | ast.Subscript | ast.Attribute) or not isinstance(node.ctx, ast.Load):
            continue
        if node.id in names if isinstance(node, ast.Name) else _is_entry(node, key):
            yield node


def _is_entry(node: ast.expr, key: str) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr == key
    return isinstance(node, ast.Subscript) and _is(node.slice, key)


def _is(node: ast.expr | None, key: str) -> bool:
    return isinstance(node, ast.Constant) and node.value == key


@functools.lru_cache(maxsize=16)
def tree_of(file: str) -> ast.AST:
    """The syntax tree of a file, an empty one where there is none."""
    try:
        return ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return ast.Module([], [])
