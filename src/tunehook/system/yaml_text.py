"""YAML, read with the limits of `stored`: what is small in a file may be without end once its aliases are followed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from tunehook.system.stored import DEEP, StoredError, open_regular, read_whole
from tunehook.system.words import shown

# Bytes of a file, of which PyYAML reads some 100 kB a second; and what it holds once aliases are followed.
_MOST = 2**20
_NODES = 200_000
_NUMBER = 400  # characters of a number


def read_yaml(path: str | os.PathLike[str], *, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """The value that a YAML file holds, ``None`` for an empty one.

    Args:
        path: The file.
        loader: How its scalars are read; one that makes plain values only.

    Raises:
        StoredError: It is not YAML, or goes beyond what can be worked with; with the line where that is known.
        OSError: It cannot be read, or is no file.
    """
    with open(Path(path), "rb", opener=open_regular) as file:
        text = read_whole(file, most=_MOST)
    try:
        made = loader(text.decode())
        try:
            node = made.get_single_node()
            if node is None:
                return None
            _measure(node, {}, made)
            return made.construct_document(node)
        finally:
            made.dispose()
    except StoredError:
        raise
    except RecursionError:
        raise StoredError(f"it is nested deeper than {DEEP} levels") from None
    except (yaml.YAMLError, ValueError) as error:
        raise StoredError(str(error)) from error
    except Exception as error:  # PyYAML raises what it comes upon, such as an IndexError for the key `!!int ''`
        raise StoredError(f"{type(error).__name__}: {error}") from error


def _measure(node: yaml.Node, known: dict[int, tuple[int, int] | None], loader: yaml.SafeLoader) -> tuple[int, int]:
    """How many nodes there are with all aliases followed, and on how many levels.

    An anchor stands before its aliases, so what is recursion here is nesting in the text.

    Raises:
        StoredError: There are too many of either, a node contains itself, a number is too long, or a
            value is not what its tag says.
    """
    if id(node) in known:
        found = known[id(node)]
        if found is None:
            raise StoredError(f"an alias stands within what it means{_where(node)}")
        return found
    known[id(node)] = None
    size, height = 1, 1
    if isinstance(node, yaml.ScalarNode):
        _check_scalar(node, loader)
    else:
        inner = [*node.value] if isinstance(node, yaml.SequenceNode) else [one for pair in node.value for one in pair]
        for one in inner:
            more, levels = _measure(one, known, loader)
            size, height = size + more, max(height, levels + 1)
    if size > _NODES:
        raise StoredError(f"it holds more than {_NODES:,} values with its aliases{_where(node)}")
    if height > DEEP:
        raise StoredError(f"it is nested deeper than {DEEP} levels{_where(node)}")
    known[id(node)] = size, height
    return size, height


def _check_scalar(node: yaml.ScalarNode, loader: yaml.SafeLoader) -> None:
    if node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float") and len(node.value) > _NUMBER:
        raise StoredError(f"a number has more than {_NUMBER} characters{_where(node)}")
    if node.tag in loader.yaml_constructors:
        try:
            loader.construct_object(node)  # which the loader keeps for later
        except yaml.YAMLError:
            raise
        except Exception as error:  # as above, with the line
            tag = node.tag.rpartition(":")[2]
            raise StoredError(f"{shown(node.value, most=80)} is no {tag}{_where(node)}") from error


def _where(node: yaml.Node) -> str:
    return f" (line {node.start_mark.line + 1})"
