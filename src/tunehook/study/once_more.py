"""What a study has found, once more: trained again in a study of its own beside it, or its model in the hand."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

from tunehook.search import Replay
from tunehook.space import Fixed, Space
from tunehook.study.warm import WarmStart
from tunehook.trial import StudyError

T = TypeVar("T")


class OnceMore(WarmStart):
    """What a study has found, to be used."""

    @abstractmethod
    def _beside(self, what: str, space: Space, search: str | Replay) -> Self:
        """A study that is as this one in all but its name, its space and its search."""

    def best_model(self, train: Callable[[], object] | None = None) -> Any:
        """The trained model of the `best` trial, as it was when it measured the trial's value.

        It needs ``Study(..., keep="best")`` or ``"all"``. Nothing is trained.

        Args:
            train: The training, as `optimize` takes it. It is called up to its fit, with the trial's values, and the
                model that it has made gets the weights. Defaults to None: a Keras file has the code of the model too,
                unless it has classes of your own; a Lightning checkpoint has it not.

        Returns:
            The model, ready to predict: a LightningModule in ``eval`` mode on the CPU, or a Keras model.

        Raises:
            StudyError: No trial is complete, none kept its model, or its file was changed; or ``train`` is needed.
            TrialError: The weights do not fit the model that ``train`` makes.

        Example:
            >>> model = study.best_model(train)  # doctest: +SKIP
        """
        return self.model_of(self.best.number, train)

    def model_of(self, number: int, train: Callable[[], object] | None = None) -> Any:
        """The trained model of a trial; see `best_model`.

        Args:
            number: The trial.
            train: The training. Defaults to None: the file says it all.
        """
        from tunehook.study.models import kept_model, model_from

        self.trial(number)
        return model_from(kept_model(self._ledger, number), train)

    def model_path(self, number: int | None = None) -> Path:
        """The file of the model that a trial has kept: a Lightning checkpoint, or a Keras file.

        It is the one that was written, by the digest in the trial's journal.

        Args:
            number: The trial. Defaults to None, the `best` one.

        Raises:
            StudyError: There is none; the message says why.
        """
        from tunehook.study.models import kept_model

        chosen = self.best if number is None else self.trial(number)
        return kept_model(self._ledger, chosen.number).path

    def retrain(self, train: Callable[[], T], *, number: int | None = None) -> T:
        """Train once more with the values of a trial: for more epochs, with another seed or on more data.

        Change the training as you like; what the study has tuned is put in as it was. Each call is a trial of a study
        of its own beside this one, ``<name>-retrain-<number>``, with the same recorders.

        Args:
            train: The training, as `optimize` takes it. Let it return the model, or the Trainer.
            number: The trial whose values are taken. Defaults to None, the best one.

        Returns:
            What the training returns.

        Raises:
            StudyError: There is no complete trial, or none of this number; or the study trains a population.

        Example:
            >>> model = study.retrain(lambda: train(epochs=100))  # doctest: +SKIP
        """
        chosen = self.best if number is None else self.trial(number)
        if chosen.lineage is not None:
            raise StudyError(
                f"The values of {self.name!r} changed while trial {chosen.number} trained, so they are no single set.\n"
                "  Train its schedule once more: study.replay_schedule(train)."
            )
        space = Space({name: Fixed(value) for name, value in chosen.params.items()})
        again: Any = self._beside(f"retrain-{chosen.number}", space, "random")
        returned = list[T]()

        def kept() -> T:
            returned.append(train())
            return returned[-1]

        again.optimize(kept, trials=again.finished + 1, progress=False)
        if not returned:  # such as where memory ran out, which ends a trial and not a study
            outcome = again.trials[-1].outcome
            raise StudyError(
                f"The training with the values of trial {chosen.number} is {outcome.state}: {outcome.reason}"
            )
        return returned[-1]

    def replay_schedule(self, train: Callable[[], object], *, number: int | None = None) -> Self:
        """Train once more, from the beginning, with the values that changed as they did for the best trial.

        With the same seed in the training it comes to the same weights, bit for bit. It is a study of its own beside
        this one, ``<name>-replay-<number>``, with a trial for each interval.

        Args:
            train: The training, as `optimize` takes it.
            number: The trial whose schedule is trained. Defaults to None, the best one.

        Returns:
            That study.

        Raises:
            StudyError: The study trains no population.
        """
        chain = self.schedule(number)
        lineage, last = chain[0].lineage, chain[-1].number
        replay = Replay(interval=1 if lineage is None else lineage.interval, schedule=[one.params for one in chain])
        again: Any = self._beside(f"replay-{last}", self.space, replay)
        again.optimize(train, progress=False)
        return again  # type: ignore[no-any-return]
