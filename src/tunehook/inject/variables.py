"""Variables of a script that a value of the trial passes by: typed into one call, and used elsewhere as they are."""

from __future__ import annotations

import ast
import dis
import functools
import inspect
import math
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import CodeType
from typing import NamedTuple

from tunehook.inject.builders import derived_from, tree_of

Place = tuple[int | None, int | None, int | None, int | None]
"""First and last line, first and last column of an expression."""


class Typed(NamedTuple):
    """An argument as the script has it.

    Attributes:
        code: The function that makes the call.
        call: Where in it the instruction is.
        name: The parameter.
        position: Its place among the positional arguments, -1 where it can be given by name only.
        entry: Which entry of it, where it is a configuration, such as ``opt.lr``.
        route: The calls of the function that makes the call, from the innermost one up: in what, and where in it.
    """

    code: CodeType
    call: int
    name: str
    position: int
    entry: str = ""
    route: tuple[tuple[CodeType, int], ...] = ()


def other_uses(given: Collection[Typed]) -> tuple[str, list[str]] | None:
    """What one of some arguments is in the script, and the lines that use it besides.

    Args:
        given: All arguments that took one value.

    Returns:
        A variable, such as ``epochs``, or an entry of one, such as ``args.epochs``, and the lines, with the file where
        it is another one; ``None`` where no argument is one that anything else uses.
    """
    found = [one for each in given for one in _followed(each)]
    taken = {(each.code.co_filename, _place(node)) for each, node, _ in found}
    for each, node, entry in found:
        file = each.code.co_filename
        uses: Iterable[Place] = ()
        text = ast.unparse(node)
        if entry:
            keys = "".join(f"[{key!r}]" for key in entry.split("."))
            uses = [*_alike(each.code, f"{text}{keys}")]
            text = f"{text}{keys}" if uses else f"{text}.{entry}"
            uses += _alike(each.code, f"{ast.unparse(node)}.{entry}")
        elif isinstance(node, ast.Name):
            uses = _loads(each.code, node.id)
        elif isinstance(node, ast.Attribute | ast.Subscript):
            uses = _alike(each.code, text)
        lines = {place[0] for place in uses if (file, place) not in taken and place[0] is not None}
        if lines:
            return text, [*map(str, sorted(lines))]
        if entry and (made := derived_from(file, node, entry.rpartition(".")[2])) is not None:
            return made
    return None


def _followed(typed: Typed) -> Iterator[tuple[Typed, ast.expr, str]]:
    """An argument as the script has it; where that is a parameter of the function there, also as its caller has it."""
    at: Typed | None = typed
    while at is not None and (there := _argument(at)) is not None:
        yield at, *there
        at = _above(at, *there)


def _above(typed: Typed, node: ast.expr, entry: str) -> Typed | None:
    """What is typed in for a parameter where its function is called, ``None`` where that is not known."""
    code, name = typed.code, node.id if isinstance(node, ast.Name) else ""
    of_name, count = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
    names = code.co_varnames[:count]
    has_rest, has_keywords = code.co_flags & inspect.CO_VARARGS, code.co_flags & inspect.CO_VARKEYWORDS
    if not typed.route or any(
        each.opname == "STORE_FAST" and each.argval == name for each in dis.get_instructions(code)
    ):
        return None
    position = -1
    if name in names[:of_name]:
        position = names.index(name) - (names[0] in ("self", "cls"))
    elif has_keywords and name == code.co_varnames[count + bool(has_rest)]:
        name, _, entry = entry.partition(".")
    elif name not in names:
        return None
    (caller, call), *further = typed.route
    return Typed(caller, call, name, position, entry, tuple(further))


def lines_that_set(attribute: str, codes: Iterable[CodeType]) -> list[str]:
    """The lines of some functions that set an attribute of a name, such as ``train.py:14``."""
    found = [
        f"{Path(code.co_filename).name}:{each.positions.lineno}"
        for code in codes for each in dis.get_instructions(code)
        if each.opname == "STORE_ATTR" and each.argval == attribute and each.positions is not None
    ]  # fmt: skip
    return [*dict.fromkeys(found)]


def _alike(code: CodeType, text: str) -> Iterator[Place]:
    """Where a file reads an entry of a variable of the same name; of one that a function makes, in that function."""
    own = code.co_varnames[code.co_argcount + code.co_kwonlyargcount :]
    is_own = re.split(r"\W", text)[0] in (*own, *code.co_cellvars)
    lines = {line for *_, line in code.co_lines() if line is not None}
    first, last = (min(lines), max(lines)) if is_own else (0, math.inf)
    entries = (node for node in ast.walk(tree_of(code.co_filename)) if isinstance(node, ast.Attribute | ast.Subscript))
    for node in entries:
        if first <= node.lineno <= last and isinstance(node.ctx, ast.Load) and ast.unparse(node) == text:
            yield _place(node)


_OF_VARIABLES = ("LOAD_FAST", "LOAD_DEREF", "LOAD_NAME", "LOAD_GLOBAL", "LOAD_CLASSDEREF", "LOAD_FROM_DICT")


def _loads(code: CodeType, name: str) -> Iterator[Place]:
    """Where a function loads a variable, functions inside it included."""
    for each in dis.get_instructions(code):
        if isinstance(each.argval, CodeType):
            yield from _loads(each.argval, name)
        elif each.opname.startswith(_OF_VARIABLES) and each.positions is not None:
            names = each.argval if isinstance(each.argval, tuple) else (each.argval,)  # two, from Python 3.13 on
            if name in names:
                place = each.positions
                yield place.lineno, place.end_lineno, place.col_offset, place.end_col_offset


_TO_DICT = r"(^|\.)(vars|dict|asdict|to_container)$"  # what gives the entries of its first argument


def _argument(typed: Typed) -> tuple[ast.expr, str] | None:
    """The expression that was typed in for an argument, and which entry of it counts."""
    places = list(typed.code.co_positions())
    call = _calls(typed.code.co_filename).get(places[typed.call // 2])
    if call is None:
        return None
    named = next((word.value for word in call.keywords if word.arg == typed.name), None)
    has_stars = any(isinstance(each, ast.Starred) for each in call.args)
    if named is None and not has_stars and 0 <= typed.position < len(call.args):
        named = call.args[typed.position]
    if named is not None:
        return named, typed.entry
    spread = [word.value for word in call.keywords if word.arg is None]
    if len(spread) != 1:
        return None
    node = spread[0]
    if isinstance(node, ast.Dict):  # its last entry that may be of this name
        for key, value in zip(reversed(node.keys), reversed(node.values), strict=True):
            if key is None:
                node = value
                break
            if isinstance(key, ast.Constant) and key.value == typed.name:
                return value, typed.entry
    if isinstance(node, ast.Call) and re.search(_TO_DICT, ast.unparse(node.func)) and len(node.args) == 1:
        node = node.args[0]
    return node, f"{typed.name}.{typed.entry}".rstrip(".")


@functools.lru_cache(maxsize=16)
def _calls(file: str) -> dict[Place, ast.Call]:
    return {_place(node): node for node in ast.walk(tree_of(file)) if isinstance(node, ast.Call)}


def _place(node: ast.expr) -> Place:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset
