"""The best value at each quarter of the time, with real trainings and two workers: ours beside the peers.

A perceptron on scikit-learn's digits, in Lightning beside Optuna's TPE with its median pruner, and in Keras beside
KerasTuner's Hyperband. Each gets as long, from the start of its first process. What counts is the lowest validation
loss that any trial has measured by then, at whatever epoch. On a busy machine the figures are noise: give it several
seeds, and cores of its own.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("KERAS_BACKEND", "torch")

import tunehook as th

# As at the top of a script: what is imported in a training, each trial process imports.
IMPORTED = {
    "Lightning": ["digits"], "Keras": ["keras", "sklearn.datasets"],
    "Lightning: tunehook": ["tunehook.integrations.lightning"], "Keras: tunehook": ["tunehook.integrations.keras"],
}  # fmt: skip
for kind, modules in IMPORTED.items():
    if any(one.startswith(kind) for one in sys.argv):
        for module in modules:
            importlib.import_module(module)

EPOCHS, WORKERS = 20, 2
METRIC = "val_loss"
SPACE: dict[str, th.Float | th.Int] = {
    "lr": th.Float(1e-5, 1, log=True), "hidden": th.Int(4, 256, log=True), "dropout": th.Float(0.0, 0.8),
    "weight_decay": th.Float(1e-6, 1, log=True), "batch_size": th.Int(8, 256, log=True),
}  # fmt: skip
CURVE = "curve.txt"


def note(folder: Path, value: float) -> None:
    """Write a measurement."""
    with (folder / CURVE).open("a") as file:
        file.write(f"{time.time()} {value}\n")


# ------------------------------------------------------------------ the trainings


def lightning(folder: Path, values: Mapping[str, Any], *callbacks: Any) -> None:
    """One training in Lightning; the callbacks are the tuner's."""
    import lightning as L
    import torch
    from digits import Digits, Net
    from torch.nn import functional as F

    class Noting(L.Callback):
        """Notes each validation."""

        def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            if not trainer.sanity_checking:
                note(folder, trainer.callback_metrics[METRIC].item())

    class Lossy(Net):
        """Logs its loss too."""

        def __init__(
            self, hidden: int = 64, lr: float = 1e-3, dropout: float = 0.1, weight_decay: float = 1e-2
        ) -> None:
            super().__init__(hidden, lr, dropout)
            self.weight_decay = weight_decay

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log(METRIC, F.cross_entropy(self.net(batch[0]), batch[1]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"], weight_decay=self.weight_decay)

    torch.manual_seed(0)
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    data = Digits(**{name: value for name, value in values.items() if name == "batch_size"})
    net = Lossy(**{name: value for name, value in values.items() if name != "batch_size"})
    trainer = L.Trainer(max_epochs=EPOCHS, accelerator="cpu", callbacks=[Noting(), *callbacks], **quiet)
    trainer.fit(net, data)


def keras_model(values: Mapping[str, Any]) -> Any:
    """A model in Keras."""
    import keras

    layers = [
        keras.Input((64,)), keras.layers.Dense(values["hidden"], activation="relu"),
        keras.layers.Dropout(values["dropout"]), keras.layers.Dense(10),
    ]  # fmt: skip
    model = keras.Sequential(layers)
    adam = keras.optimizers.AdamW(values["lr"], weight_decay=values["weight_decay"])
    model.compile(adam, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def keras_data() -> dict[str, Any]:
    """The digits, as arguments of ``fit``."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return {"x": x[:1347] / 16, "y": y[:1347], "validation_data": (x[1347:] / 16, y[1347:]), "verbose": 0}


def keras_noting(folder: Path) -> Any:
    """A callback that notes each epoch."""
    import keras

    return keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: note(folder, logs[METRIC]))


# ------------------------------------------------------------------ the contenders, each in processes of its own


def ours(folder: Path, seed: int, seconds: float, train: Callable[[], object]) -> None:
    """A study of ours as it is by default."""
    study = th.Study("ours", SPACE, metric=METRIC, mode="min", seed=seed, folder=folder / "study")
    study.optimize(train, timeout=seconds, workers=WORKERS, progress=False)


def ours_lightning(folder: Path, seed: int, seconds: float) -> None:
    """In Lightning."""
    ours(folder, seed, seconds, train_lightning)


def train_lightning() -> None:
    """A training with the callback."""
    from tunehook.integrations.lightning import TuneCallback

    lightning(Path(os.environ["FOLDER"]), {}, TuneCallback())


def ours_keras(folder: Path, seed: int, seconds: float) -> None:
    """In Keras."""
    ours(folder, seed, seconds, train_keras)


def train_keras() -> None:
    """A training with the callback."""
    import keras

    from tunehook.integrations.keras import TuneCallback

    keras.utils.set_random_seed(0)
    model = keras_model({name: th.value(name, d.low) for name, d in SPACE.items() if name != "batch_size"})
    noting = keras_noting(Path(os.environ["FOLDER"]))
    model.fit(**keras_data(), batch_size=32, epochs=EPOCHS, callbacks=[noting, TuneCallback()])


def optuna_median(folder: Path, seed: int, seconds: float) -> None:
    """One of the processes that share a study of Optuna's."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna_integration import PyTorchLightningPruningCallback

    def objective(trial: optuna.Trial) -> float:
        values: dict[str, float] = {}
        for name, d in SPACE.items():
            suggest: Any = trial.suggest_int if isinstance(d, th.Int) else trial.suggest_float
            values[name] = suggest(name, d.low, d.high, log=d.log)
        pruning = PyTorchLightningPruningCallback(trial, METRIC)
        lightning(folder, values, pruning)
        return trial.study.trials[trial.number].intermediate_values[EPOCHS - 1]

    study = optuna.create_study(
        study_name="optuna", storage=JournalStorage(JournalFileBackend(str(folder / "optuna.log"))),
        sampler=optuna.samplers.TPESampler(seed=10 * seed + int(os.environ["WORKER"])),
        pruner=optuna.pruners.MedianPruner(), load_if_exists=True,
    )  # fmt: skip
    study.optimize(objective, timeout=seconds)


def keras_tuner_hyperband(folder: Path, seed: int, seconds: float) -> None:
    """One of the processes of KerasTuner: the chief, or a worker."""
    import keras
    import keras_tuner

    def build(hp: Any) -> Any:
        values: dict[str, float] = {}
        for name, d in SPACE.items():
            make = hp.Int if isinstance(d, th.Int) else hp.Float
            values[name] = make(name, d.low, d.high, sampling="log" if d.log else "linear")
        return keras_model(values)

    class Model(keras_tuner.HyperModel):  # type: ignore[misc] # it has no types
        """With a batch size of its own."""

        def build(self, hp: Any) -> Any:
            return build(hp)

        def fit(self, hp: Any, model: Any, *args: Any, **options: Any) -> Any:
            return model.fit(*args, **options, batch_size=hp.get("batch_size"))

    keras.utils.set_random_seed(seed)
    tuner = keras_tuner.Hyperband(
        Model(), objective=METRIC, max_epochs=EPOCHS, hyperband_iterations=1_000, seed=seed,
        directory=folder, project_name="hyperband",
    )  # fmt: skip
    tuner.search(**keras_data(), callbacks=[keras_noting(folder)])


CONTENDERS: dict[str, tuple[Callable[[Path, int, float], None], int]] = {  # and how many processes each needs
    "Lightning: tunehook": (ours_lightning, 1),
    "Lightning: Optuna TPE + median": (optuna_median, WORKERS),
    "Keras: tunehook": (ours_keras, 1),
    "Keras: KerasTuner Hyperband": (keras_tuner_hyperband, WORKERS + 1),
}


# ------------------------------------------------------------------ measuring


def measure(name: str, seed: int, seconds: float) -> list[float]:
    """The best value at each quarter of the time, NaN where there is none."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()
        folder, begin, running = Path(place), time.time(), []
        for worker in range(CONTENDERS[name][1]):
            identity = "chief" if worker == WORKERS else f"tuner{worker}"
            theirs = {"KERASTUNER_TUNER_ID": identity, "KERASTUNER_ORACLE_IP": "127.0.0.1",
                      "KERASTUNER_ORACLE_PORT": port} if "KerasTuner" in name else {}  # fmt: skip
            command = [sys.executable, __file__, "--one", name, place, str(seed), str(seconds)]
            environment = {**os.environ, "WORKER": str(worker), "FOLDER": place, **theirs}
            with (folder / f"output-{worker}.txt").open("w") as output:
                running.append(subprocess.Popen(
                    command, env=environment, stdout=output, stderr=output, process_group=0
                ))  # fmt: skip
        time.sleep(max(0.0, begin + seconds - time.time()))
        for one in running:  # ours ends its trials in good order; the others leave nothing behind
            one.send_signal(signal.SIGTERM)
        for one in running:
            try:
                one.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(one.pid, signal.SIGKILL)
                one.wait()
        if not (folder / CURVE).exists():
            raise SystemExit("\n".join(path.read_text()[-2000:] for path in folder.glob("output-*.txt")))
        lines = [line.split() for line in (folder / CURVE).read_text().splitlines()]
        rows = [(float(row[0]) - begin, float(row[1])) for row in lines if len(row) == 2]
    quarters = [seconds * quarter / 4 for quarter in (1, 2, 3, 4)]
    best = [min((value for at, value in rows if at <= mark and value == value), default=math.nan) for mark in quarters]
    print(f"{name}, seed {seed}: {len(rows)} epochs, {', '.join(f'{value:.4f}' for value in best)}", flush=True)
    return best


def cell(values: Sequence[float]) -> str:
    """The mean of what was measured, and its standard error."""
    there = [value for value in values if not math.isnan(value)]
    if len(there) < len(values):
        return f"none yet with {len(values) - len(there)} of {len(values)} seeds"
    error = f" ± {statistics.stdev(there) / math.sqrt(len(there)):.4f}" if len(there) > 1 else ""
    return f"{statistics.mean(there):.4f}{error}"


def main(names: list[str], seeds: int, seconds: float) -> None:
    """Take turns, and print a table."""
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    for seed in range(seeds):
        for name in names:
            found[name].append(measure(name, seed, seconds))
    print(f"\n| lowest {METRIC} after | {' | '.join(f'{seconds * q / 4:g} s' for q in (1, 2, 3, 4))} |")
    print("| --- | --- | --- | --- | --- |")
    for name, rows in found.items():
        print(f"| {name} | {' | '.join(map(cell, zip(*rows, strict=True)))} |")
    print(f"\n{WORKERS} workers, {seeds} seeds, tunehook {th.__version__}; ± is the standard error over the seeds")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/search_end_to_end.py")
    parser.add_argument("--seconds", type=float, default=60, help="for each contender and seed (default: 60)")
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=CONTENDERS, default=[*CONTENDERS])
    parser.add_argument("--one", nargs=4, metavar=("NAME", "FOLDER", "SEED", "SECONDS"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        chosen, where, seed, seconds = asked.one
        CONTENDERS[chosen][0](Path(where), int(seed), float(seconds))
    else:
        main(asked.only, asked.seeds, asked.seconds)
