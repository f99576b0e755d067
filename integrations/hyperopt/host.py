"""The border to Hyperopt 0.3: its import, its records of trials, and the nodes of its spaces."""

from __future__ import annotations

import functools
import importlib.util
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from tunehook.system import kept_random

try:
    import hyperopt
except ImportError as error:
    if error.name != "hyperopt":
        raise
    raise ModuleNotFoundError(
        "The searches of Hyperopt need the package hyperopt: pip install 'tunehook[hyperopt]'", name="hyperopt"
    ) from error

from hyperopt import hp
from hyperopt.base import JOB_STATE_DONE, STATUS_OK, Domain, trials_from_docs
from hyperopt.pyll import as_apply
from hyperopt.pyll.base import Apply, Literal

_THEN = datetime.fromtimestamp(0, tz=UTC)  # adaptive TPE asks how long a trial took, and nobody told
ALGORITHMS = ("tpe", "anneal", "atpe", "random")

Tree = Mapping[str, Any]
"""A space of Hyperopt: its nodes by label, and lists of what stands in the branches of its choices."""


def check_adaptive() -> None:
    """Check that adaptive TPE has what it needs.

    Raises:
        ModuleNotFoundError: It has not.
    """
    missing = [name for name in ("lightgbm", "sklearn") if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"The adaptive TPE of Hyperopt needs {' and '.join(missing)}: pip install 'hyperopt[atpe]', "
            "or use search='hyperopt'.",
            name=missing[0],
        )


def uniform(label: str, low: float, high: float, *, log: bool, step: float | None) -> Any:
    """A number in a range; with a step, rounded to its multiples."""
    if step is None:
        return hp.loguniform(label, low, high) if log else hp.uniform(label, low, high)
    return hp.qloguniform(label, low, high, step) if log else hp.quniform(label, low, high, step)


def choice(label: str, branches: Sequence[Tree]) -> Any:
    """One of several options, by its place, with what exists only with each."""
    return hp.choice(label, [dict(branch) for branch in branches])


@dataclass(frozen=True)
class Search:
    """One of Hyperopt's algorithms on a space.

    Args:
        algorithm: ``"tpe"``, ``"anneal"``, ``"atpe"`` or ``"random"``.
        tree: The space.
        labels: All labels in it.
        startup: How many trials are random before the first that TPE proposes.
    """

    algorithm: str
    tree: Tree
    labels: Sequence[str]
    startup: int

    @functools.cached_property
    def _domain(self) -> Any:
        return Domain(lambda _: 0.0, dict(self.tree))

    @property
    def _suggest(self) -> Callable[..., Any]:
        if self.algorithm == "tpe":
            return functools.partial(hyperopt.tpe.suggest, n_startup_jobs=self.startup, verbose=False)
        modules = {"anneal": hyperopt.anneal, "atpe": hyperopt.atpe, "random": hyperopt.rand}
        suggest: Callable[..., Any] = modules[self.algorithm].suggest
        return suggest

    def propose(self, seed: int, known: Sequence[tuple[Mapping[str, float], float]]) -> dict[str, float]:
        """The next values by label.

        Args:
            seed: Seed of the proposal.
            known: Values by label, and the loss, of the trials that have one, in order.
        """
        trials = trials_from_docs([self._doc(number, *one) for number, one in enumerate(known)])
        with kept_random(), warnings.catch_warnings():
            if self.algorithm == "atpe":  # it draws from the random numbers of the process, and tells SciPy's warnings
                random.seed(seed)
                np.random.seed(seed)
                warnings.simplefilter("ignore")
            (doc,) = self._suggest([len(known)], self._domain, trials, seed)
        return {label: values[0] for label, values in doc["misc"]["vals"].items() if len(values)}

    def _doc(self, number: int, values: Mapping[str, float], loss: float) -> dict[str, Any]:
        """A finished trial, as Hyperopt's own loop records it."""
        there = {label: [number] if label in values else [] for label in self.labels}
        return {
            "state": JOB_STATE_DONE, "tid": number, "spec": None, "result": {"status": STATUS_OK, "loss": loss},
            "misc": {
                "tid": number, "cmd": ("domain_attachment", "FMinIter_Domain"), "workdir": None, "idxs": there,
                "vals": {label: [values[label]] if label in values else [] for label in self.labels},
            },
            "exp_key": None, "owner": None, "version": 0, "book_time": _THEN, "refresh_time": _THEN,
        }  # fmt: skip


@dataclass(frozen=True)
class Node:
    """A part of a space of Hyperopt.

    Attributes:
        kind: ``"value"``, ``"dict"``, ``"list"``, ``"choice"``, the name of a distribution such as ``"loguniform"``, or
            that of what cannot be read, such as ``"add"``.
        label: Its label, for a distribution or a choice.
        parts: What a value is, the arguments of a distribution, or the nodes inside by key.
        is_whole: Whether whole numbers are made of it.
    """

    kind: str
    label: str = ""
    parts: Any = None
    is_whole: bool = False


def node_of(tree: Any) -> Node:
    """The node of a part of a space: a node of Hyperopt, or a plain dict, list or value with nodes inside."""
    if isinstance(tree, Mapping):  # in its order, where Hyperopt would sort the keys
        return Node("dict", parts={key: node_of(one) for key, one in tree.items()})
    node = tree if isinstance(tree, Apply) else as_apply(tree)
    if isinstance(node, Literal):
        return Node("value", parts=node.obj)
    if node.name == "dict":
        return Node("dict", parts={key: node_of(one) for key, one in node.named_args})
    if node.name == "pos_args":
        return Node("list", parts=dict(enumerate(map(node_of, node.pos_args))))
    if node.name in ("float", "int") and len(node.pos_args) == 1:
        inner = node_of(node.pos_args[0])
        return Node(inner.kind, inner.label, inner.parts, inner.is_whole or node.name == "int")
    if node.name == "hyperopt_param":
        label, distribution = node.pos_args
        arguments = [node_of(one) for one in distribution.inputs()]
        return Node(distribution.name, label.obj, [one.parts for one in arguments], distribution.name == "randint")
    if node.name == "switch" and node.pos_args[0].name == "hyperopt_param":
        drawn = node_of(node.pos_args[0])
        kind = "choice" if drawn.kind == "randint" else drawn.kind
        return Node(kind, drawn.label, dict(enumerate(map(node_of, node.pos_args[1:]))))
    return Node(node.name)
