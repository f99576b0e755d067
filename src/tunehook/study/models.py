"""The models that the trials of a study keep: which file is whose, which are removed, and the model from a file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunehook.extensions import MODELS, load
from tunehook.launch import leading, train_one
from tunehook.record import Events, Report, Saved, check_place, digest_of, models_of, remove
from tunehook.session import Kept, Loaded, TrialSession, check_idle, check_ours, files_of, prune, step_of, wanting
from tunehook.storage import ATTEMPT, KEY, stored_again, stored_attempt, stored_key
from tunehook.study.terms import Keep
from tunehook.system import kept_random
from tunehook.trial import ASKED_AGAIN, Outcome, StudyError, Trial, best_of, objective_value, pareto_front

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from tunehook.storage import Ledger

_HAVE_ONE = ("complete", "pruned", "paused")  # how trials end that have a model

# ---------------------------------------------------------------------- which are kept


def tidy(ledger: Ledger, keep: Keep | None, told: Trial | None = None) -> None:
    """Remove the models that are needed no more: within a trial, and with ``"best"`` those of other trials.

    Called when a trial has ended and the storage knows it. The best one among those that there are stays, so a crash at
    any moment leaves it.

    Args:
        ledger: The storage.
        keep: Which are kept.
        told: The trial. Defaults to None, none.
    """
    if keep is None:
        return
    if told is not None:
        frozen = ledger.numbered(told.number)
        if not _may_go_on(ledger, frozen):
            outcome = ledger.outcome_of(frozen)
            prune(told.folder, [outcome.step] if outcome.state in _HAVE_ONE else [])
            for one in ledger.trials() if told.attempt else []:  # what it has taken over
                if one.number < told.number and ledger.key_of(one) == told.key:
                    prune(ledger.paths.trial(one.number), [])
    if keep == "best":
        root = ledger.paths.models
        with contextlib.suppress(OSError):
            names = [
                path.name.removeprefix("trial-") for path in check_place(root, below=ledger.paths.folder).iterdir()
            ]
            numbers = {int(name) for name in names if name.isascii() and name.isdigit()}
            there = [one for one in ledger.trials() if one.number in numbers]
            best = {one.number for one in _best(ledger, there)}
            for frozen in there:
                if frozen.number not in best and not _may_go_on(ledger, frozen):
                    remove(models_of(ledger.paths.trial(frozen.number)), below=ledger.paths.folder)


def _best(ledger: Ledger, there: list[FrozenTrial]) -> list[FrozenTrial]:
    """The best ones of those that have a model."""
    ends = [(frozen, ledger.outcome_of(frozen)) for frozen in there]
    whole = [one for one in ends if one[1].state == "complete" and _file(ledger, *one) is not None]
    if ledger.others:
        modes = [ledger.mode, *ledger.others.values()]
        return [frozen for frozen, _ in pareto_front(whole, modes, values=lambda one: one[1].values)]
    best = best_of(whole, ledger.mode, value=lambda one: one[1].value)
    return [] if best is None else [best[0]]


def _file(ledger: Ledger, frozen: FrozenTrial, outcome: Outcome) -> Path | None:
    files = files_of(models_of(ledger.paths.trial(frozen.number)), below=ledger.paths.folder)
    return next((path for path in files if step_of(path) == outcome.step), None)


def _may_go_on(ledger: Ledger, frozen: FrozenTrial) -> bool:
    """Whether a trial runs or waits, or a later attempt of it may take its model over."""
    if not frozen.state.is_finished() or ledger.is_paused(frozen):
        return True
    again = stored_again(frozen) if ledger.outcome_of(frozen).state in ASKED_AGAIN else None
    if not again:
        return False
    wanted = again[KEY], again[ATTEMPT]
    later = next((one for one in ledger.trials() if (stored_key(one), stored_attempt(one)) == wanted), None)
    return later is None or _may_go_on(ledger, later)


# ---------------------------------------------------------------------- which is whose


def kept_model(ledger: Ledger, number: int) -> Kept:
    """The model that a trial has kept: that of the measurement whose value is the trial's.

    Raises:
        StudyError: It has none, or its file is not the one that was written.
    """
    frozen = ledger.numbered(number)
    trial, outcome = ledger.as_trial(frozen), ledger.outcome_of(frozen)
    events = Events.of_trial(trial)
    name = f"trial {number} of study '{trial.study}'"
    if outcome.value is None or outcome.state not in _HAVE_ONE:
        raise StudyError(f"There is no model of {name}, which is {outcome.state}: {outcome.reason or 'not measured'}")
    if why := _why_unmeasured(ledger, events, outcome):
        raise StudyError(f"There is no model of {name}: {why}.{_WAY_OUT}")
    saved = [one for one in events.all(Saved) if step_of(Path(one.name)) == outcome.step]
    path = _file(ledger, frozen, outcome)
    if path is None:
        raise StudyError(f"There is no model of {name}: {_why_missing(ledger, events, saved)}.{_WAY_OUT}")
    try:
        digest = digest_of(path)
    except OSError as error:
        raise StudyError(f"The model of {name} cannot be read: {error}") from error
    if digest not in [one.digest for one in saved]:
        raise StudyError(
            f"{path} is not the file that {name} has written: the disk has changed it, or someone else has.{_WAY_OUT}"
        )
    return Kept(path, trial, is_ours=_is_ours(path, ledger.paths.journal(number), below=ledger.paths.folder))


_WAY_OUT = (
    "\n  Train it once more with the trial's values: study.retrain(train, number=...) returns what train returns."
)


def _why_unmeasured(ledger: Ledger, events: Events, outcome: Outcome) -> str:
    """Why no measurement of the training is the trial's value, an empty text where one is."""
    reports = [one for one in events.all(Report) if ledger.metric in one.metrics]
    if not reports:
        return ""
    series = {one.step: one.metrics[ledger.metric] for one in reports}
    by_rule = objective_value([*series.items()], ledger.mode, ledger.objective)
    if (outcome.value, outcome.step) == by_rule or series.get(outcome.step or 0) == outcome.value:
        return ""
    return "its value is what train returned, and no measurement of the fit has it, so it is not known which weights do"


def _why_missing(ledger: Ledger, events: Events, saved: list[Saved]) -> str:
    if events.begin is None:
        return f"its journal is not in {ledger.paths.folder}, as where it was trained on another machine"
    if saved:
        return "its file is gone, as keep='best' removes it when a better trial has ended; keep='all' keeps each"
    return (
        "none was kept; Study(..., keep='best') keeps that of the best trial, keep='all' each, and where one could not "
        "be kept its journal says why"
    )


def _is_ours(path: Path, journal: Path, *, below: Path) -> bool:
    try:
        check_ours(path, journal, below=below, beside=path.parent)
    except OSError:
        return False
    return True


# ---------------------------------------------------------------------- the model in the hand


def model_from(kept: Kept, train: Callable[[], object] | None) -> Any:
    """The model with the weights that were kept.

    Args:
        kept: The file.
        train: The training, called up to its fit for the model that it makes; ``None`` where the file says it all.

    Raises:
        StudyError: The file does not say it all, the weights do not fit, or the training calls no fit.
    """
    if train is None:
        return load(MODELS[kept.path.suffix])(kept.path)
    check_idle()
    session = TrialSession(kept.trial)  # without a judge: nothing is recorded
    with kept_random(), leading(kept.trial.study, leads=True), wanting(kept):
        error = train_one(session, train)
    if isinstance(error, Loaded):
        return error.model
    if error is not None:
        raise error
    raise StudyError(
        "The training was called for its model, and has called no fit with a TuneCallback.\n"
        "  Give the function that study.optimize was given."
    )
