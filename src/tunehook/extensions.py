"""What is found by a string: the core imports no integration, and most people have only some of their packages."""

from __future__ import annotations

import importlib
from typing import Any

# Launchers, by the name that the environment variable TUNEHOOK_LAUNCHER gives.
LAUNCHERS = {"ray": "tunehook.integrations.ray:RayLauncher"}
# Searches of other packages, by name: what makes the sampler.
SEARCHES = {
    "hyperopt": "tunehook.integrations.hyperopt.sampler:make_tpe",
    "hyperopt-anneal": "tunehook.integrations.hyperopt.sampler:make_anneal",
    "hyperopt-atpe": "tunehook.integrations.hyperopt.sampler:make_atpe",
    "hyperopt-random": "tunehook.integrations.hyperopt.sampler:make_random",
}
# Searches outside of this package, by the variable that a process has in one of their trials: what gives that trial.
ENGINES = {"WANDB_SWEEP_ID": "tunehook.integrations.wandb.agent:current_trial"}
# What keeps apart what each trial of a process opens, by the package that it is about, where that is loaded.
KEEPERS = {"wandb.sdk": "tunehook.integrations.wandb.apart"}
# What completes records from the journals, by the recorder.
UPLOADS = {"wandb": "tunehook.integrations.wandb.sync"}
# What makes a model from the file that a trial has kept, by the end of its name.
MODELS = {
    ".ckpt": "tunehook.integrations.lightning.models:load_model",
    ".keras": "tunehook.integrations.keras.models:load_model",
}
# What saves a study's dashboard, by the recorder.
WORKSPACES = {"wandb": "tunehook.integrations.wandb.workspace"}
# What looks for harm, by the package that it is about, where that is installed.
CHECKS = {"wandb": "tunehook.integrations.wandb.health:look_at_wandb"}
# What takes seconds to import, or starts a thread of its own by it (pyarrow), which is safe to fork. Trial processes
# import it before anything of the user's, whose threads are not.
FRAMEWORKS = (
    "numpy", "scipy", "pyarrow", "pandas", "sklearn", "torch", "torchvision", "transformers", "datasets",
    "lightning.pytorch", "pytorch_lightning", "tensorflow", "jax", "keras", "wandb",
    "tunehook.integrations.lightning", "tunehook.integrations.keras", "tunehook.integrations.wandb.recorder",
)  # fmt: skip


def load(place: str) -> Any:
    """What a string of this table names.

    Args:
        place: A module, or a module and a name in it: ``"tunehook.integrations.ray:RayLauncher"``.
    """
    module, _, name = place.partition(":")
    found = importlib.import_module(module)
    return getattr(found, name) if name else found
