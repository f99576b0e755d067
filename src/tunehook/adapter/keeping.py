"""The model that a trial keeps, and the one that a training function is called for: the same in every framework.

How a model is held, written and loaded is the adapter's.
"""

from __future__ import annotations

from typing import Protocol

from tunehook.adapter.ranks import Ranks, problem_on
from tunehook.session import Held, Kept, Loaded, TrialSession, wanted
from tunehook.system import kept_random
from tunehook.trial import TrialError


class ModelHost(Protocol):
    """What a framework does with the model of a training."""

    @property
    def model(self) -> object:
        """The model."""

    def hold_model(self) -> Held:
        """Hold the model as it is now; called on all ranks, written on rank 0."""

    def load_model(self, kept: Kept) -> None:
        """Put kept weights into the model, all of them, and make it ready to predict."""


class Keeping:
    """Holds the model of the measurement whose value is the trial's, in one fit.

    Args:
        session: The session of the trial; one that only follows, on ranks above 0.
        host: The framework's training.
        ranks: Its processes.
    """

    def __init__(self, session: TrialSession, host: ModelHost, ranks: Ranks) -> None:
        self._session, self._host, self._ranks = session, host, ranks
        self._is_on: bool | None = None

    def take(self) -> None:
        """The tuned metric was measured just now; all ranks call it."""
        if self._is_on is None:
            self._is_on = self._ranks.agree(self._session.continuation.models is not None)
        if not self._is_on:
            return
        session, held = self._session, list[Held]()
        counts = {step for step in (session.measured[1], session.step if session.may_return else None) if step}
        if not self._ranks.agree(session.step in counts):
            return
        with kept_random():
            problem = problem_on(self._ranks, lambda: held.append(self._host.hold_model()))
        models = session.continuation.models
        if problem:
            self._is_on = False
        if models is not None:
            if problem:
                models.drop(problem)
            else:
                models.hold(held[0], step=session.step, counts=counts)

    def end(self) -> None:
        """The fit ended in good order."""
        models = self._session.continuation.models
        if models is not None:
            with kept_random():
                models.write()


def hand_back(host: ModelHost) -> None:
    """Put the weights that were kept into the model, where the training function is called for that, and leave it.

    Call it when the trial's values are in force, before the first step.

    Raises:
        Loaded: The model has them.
        TrialError: They do not fit the model.
    """
    kept = wanted()
    if kept is None:
        return
    try:
        host.load_model(kept)
    except TrialError:
        raise
    except Exception as error:
        raise TrialError(
            f"The model that trial {kept.trial.number} kept does not fit the one that the training makes: {error}\n"
            f"  The code has changed since, or the training makes another model each time; the file is {kept.path}."
        ) from error
    raise Loaded(host.model)
