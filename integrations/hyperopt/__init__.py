"""The searches of Hyperopt for any study, and its spaces made into ours."""

from typing import TYPE_CHECKING

from tunehook.system import lazily

if TYPE_CHECKING:
    from tunehook.integrations.hyperopt.sampler import HyperoptSampler as HyperoptSampler
    from tunehook.integrations.hyperopt.tree import space as space

__all__ = ["HyperoptSampler", "space"]

__getattr__ = lazily(__name__, {"HyperoptSampler": "sampler", "space": "tree"})
