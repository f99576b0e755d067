"""The same little project in every framework, so that one suite can put the same questions to every adapter."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from accelerator import ACCELERATOR

ROWS = 24
X = np.linspace(-1.0, 1.0, ROWS * 4, dtype="float32").reshape(ROWS, 4)
Y = X.sum(axis=1, keepdims=True)


class Project(Protocol):
    """A script that trains a model of one hidden layer, ``Net(width=4, dead=0)``, and logs a metric called ``score``.

    Attributes:
        name: The framework.
        rate, size, epochs: Paths of the learning rate, the batch size and the number of epochs.
        callback: The adapter's ``TuneCallback``.
        needs: What the message of a fit that trains nothing begins with.
    """

    name: str
    rate: str
    size: str
    epochs: str
    callback: Any
    alone: str

    def model(self, **arguments: Any) -> Any:
        """A new model, seeded."""

    def fit(
        self, model: Any, *callbacks: Any, scores: Sequence[float] = (1.0, 2.0), error: BaseException | None = None,
        metric: str = "score", rate: float = 0.05, size: int = 8, epochs: int | None = None,
    ) -> Any:  # fmt: skip
        """Train an epoch for each score, which is logged at its end; then raise the error, where there is one.

        Returns:
            What counts the steps: an object with ``epochs`` (ended) and ``steps`` (optimizer steps).
        """

    def weights(self, model: Any) -> list[bytes]:
        """All weights, bit for bit."""

    def width(self, model: Any) -> int:
        """How many units the hidden layer has."""


class Count:
    """What a training did."""

    epochs = steps = 0


class Lightning:
    """The project in one of Lightning's namespaces."""

    rate, size, epochs, alone = "optimizer.lr", "data.batch_size", "trainer.max_epochs", "The Trainer has"

    def __init__(self, namespace: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._lightning: Any = importlib.import_module(namespace)
        self.name = namespace
        self.callback = importlib.import_module("tunehook.integrations.lightning").TuneCallback
        self._net = self._class()

    def _class(self) -> Any:
        import torch
        from torch import nn

        class Net(self._lightning.LightningModule):  # type: ignore[name-defined,misc]
            """Logs what its script says."""

            def __init__(self, width: int = 4, dead: int = 0) -> None:
                super().__init__()
                self.net = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Dropout(0.2), nn.Linear(width, 1))

            def training_step(self, batch: Any, batch_idx: int) -> Any:
                self.count.steps += 1
                return ((self.net(batch[0]) - batch[1]) ** 2).mean()

            def on_train_epoch_end(self) -> None:
                self.count.epochs += 1
                self.log(self.metric, self.scores[min(self.current_epoch, len(self.scores) - 1)])
                if self.error is not None and self.count.epochs == len(self.scores):
                    raise self.error

            def configure_optimizers(self) -> Any:
                return torch.optim.SGD(self.parameters(), lr=self.learning_rate, momentum=0.5)

        return Net

    def model(self, **arguments: Any) -> Any:
        import torch

        torch.manual_seed(3)
        return self._net(**arguments)

    def fit(
        self, model: Any, *callbacks: Any, scores: Sequence[float] = (1.0, 2.0), error: BaseException | None = None,
        metric: str = "score", rate: float = 0.05, size: int = 8, epochs: int | None = None,
    ) -> Any:  # fmt: skip
        import torch
        from torch.utils.data import DataLoader, TensorDataset

        kind = type(model)
        kind.count, kind.scores, kind.error, kind.metric, kind.learning_rate = count, *_ = (
            Count(), list(scores), error, metric, rate,
        )  # fmt: skip
        trainer = self._lightning.Trainer(
            max_epochs=len(scores) if epochs is None else epochs, accelerator=ACCELERATOR, callbacks=list(callbacks),
            logger=False, enable_checkpointing=any(hasattr(one, "best_model_path") for one in callbacks),
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        data = TensorDataset(torch.tensor(X), torch.tensor(Y))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*does not have many workers|.*number of training batches")
            trainer.fit(model, DataLoader(data, batch_size=size, shuffle=True))
        return count

    def weights(self, model: Any) -> list[bytes]:
        return [tensor.detach().cpu().numpy().tobytes() for tensor in model.state_dict().values()]

    def width(self, model: Any) -> int:
        return int(model.net[0].out_features)


class Keras:
    """The project in Keras, on the backend of this process."""

    rate, size, epochs, alone = "optimizer.learning_rate", "fit.batch_size", "fit.epochs", "fit has"

    def __init__(self) -> None:
        self._keras: Any = importlib.import_module("keras")
        self.name = f"keras on {self._keras.backend.backend()}"
        self.callback = importlib.import_module("tunehook.integrations.keras").TuneCallback
        self._net = self._class()

    def _class(self) -> Any:
        keras = self._keras

        class Net(keras.Model):  # type: ignore[name-defined,misc]
            """One hidden layer."""

            def __init__(self, width: int = 4, dead: int = 0) -> None:
                super().__init__()
                self.hidden = keras.layers.Dense(width, activation="tanh")
                self.dropout = keras.layers.Dropout(0.2)
                self.head = keras.layers.Dense(1)

            def call(self, rows: Any, training: bool = False) -> Any:
                return self.head(self.dropout(self.hidden(rows), training=training))

        return Net

    def model(self, **arguments: Any) -> Any:
        self._keras.utils.set_random_seed(3)
        return self._net(**arguments)

    def fit(
        self, model: Any, *callbacks: Any, scores: Sequence[float] = (1.0, 2.0), error: BaseException | None = None,
        metric: str = "score", rate: float = 0.05, size: int = 8, epochs: int | None = None,
    ) -> Any:  # fmt: skip
        count = Count()

        class Script(self._keras.callbacks.Callback):  # type: ignore[name-defined,misc]
            """Logs what it is told, and counts."""

            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                count.steps += 1

            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                count.epochs += 1
                logs[metric] = scores[min(epoch, len(scores) - 1)]

        class End(self._keras.callbacks.Callback):  # type: ignore[name-defined,misc]
            """Raises when the last epoch was told."""

            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                if error is not None and count.epochs == len(scores):
                    raise error

        if not model.compiled:
            model.compile(self._keras.optimizers.SGD(rate, momentum=0.5), "mse")
        model.fit(
            X, Y, batch_size=size, epochs=len(scores) if epochs is None else epochs, verbose=0,
            callbacks=[Script(), *callbacks, End()],
        )  # fmt: skip
        return count

    def weights(self, model: Any) -> list[bytes]:
        return [np.asarray(self._keras.ops.convert_to_numpy(each.value)).tobytes() for each in model.weights]

    def width(self, model: Any) -> int:
        return int(model.hidden.units)
