"""TuneCallback for PyTorch Lightning, in ``lightning.pytorch`` and ``pytorch_lightning``."""

from tunehook.integrations.lightning.callback import TuneCallback

__all__ = ["TuneCallback"]
