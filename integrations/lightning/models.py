"""The model that a trial keeps, as a Lightning checkpoint: the weights, what hooks add, and what it was made with."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from tunehook.integrations.lightning import host
from tunehook.session import Held, Kept
from tunehook.trial import StudyError, TrialError

SUFFIX = ".ckpt"
# Training needs these to resume; prediction does not.
_OF_TRAINING = {"optimizer_states", "lr_schedulers", "loops", "callbacks"}


def hold(trainer: Any) -> Held:
    """Hold the model of a Trainer as it is now, on all ranks.

    Callbacks have their say, as one that averages weights: what they put in is what Lightning would save.

    Raises:
        ValueError: The weights are in parts on several devices.
    """
    if why := host.why_in_parts(trainer.strategy):
        raise ValueError(why)
    state = {name: value for name, value in host.dumped(trainer).items() if name not in _OF_TRAINING}
    file = io.BytesIO()
    if trainer.is_global_zero:
        torch.save(state, file)

    def write(begun: Path) -> Path:
        path = begun.with_suffix(SUFFIX)
        path.write_bytes(file.getbuffer())
        return path

    return write


def load(trainer: Any, kept: Kept) -> None:
    """Put the weights that were kept into the module of a Trainer, as Lightning does, and let it predict.

    Raises:
        TrialError: It is no Lightning checkpoint, or its weights are not those of the module.
    """
    if trainer.world_size > 1:
        raise TrialError(
            f"The training has {trainer.world_size} processes, and a model is loaded in one.\n"
            "  Make the Trainer with devices=1 for it: study.best_model(lambda: train(devices=1))."
        )
    if kept.path.suffix != SUFFIX:
        raise TrialError(f"Trial {kept.trial.number} kept {kept.path.name}, which is no Lightning checkpoint.")
    module, loaded = trainer.lightning_module, _read(kept)
    module.on_load_checkpoint(loaded)
    module.load_state_dict(loaded["state_dict"], strict=getattr(module, "strict_loading", True))
    module.eval()


def _read(kept: Kept) -> dict[str, Any]:
    """What a checkpoint holds, read without running code where torch can."""
    try:
        loaded: dict[str, Any] = torch.load(kept.path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # an object of the training's own
        if not kept.is_ours:
            raise TrialError(
                f"{kept.path} holds objects of the training's own, and reading them could run code of the user who has "
                f"written it: {error}\n"
                "  If you trust that user, copy the study's folder, so that the file is yours."
            ) from error
        loaded = torch.load(kept.path, map_location="cpu", weights_only=False)
    return loaded


def load_model(path: Path) -> Any:
    """A Lightning checkpoint has weights and no classes.

    Raises:
        StudyError: What to do.
    """
    raise StudyError(
        f"{path} is a Lightning checkpoint, which has the weights and not the code of the model.\n"
        "  Give the training that makes the model: study.best_model(train). It is called up to its fit, with the "
        "trial's values, and trains nothing.\n"
        "  Or, with save_hyperparameters() in the module: Net.load_from_checkpoint(study.model_path())."
    )
