"""The way to W&B in this process: whether it was up, how long it is waited for, and what was told about it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from pydantic import ValidationError

from tunehook.integrations.wandb.writer import Writer
from tunehook.trial import Trial

# Where W&B could not be reached, online is tried again after so many seconds.
PAUSE = 300.0
# How long, in seconds, a call of the SDK may take that waits for its service only.
CALL = 20.0
# The training waits for an offline run to begin and to end, which takes milliseconds, for so many seconds at most.
LONGEST = 5.0
# Of a setting or a name, which another service or mode would not take either.
WRONG = (ValidationError, UnicodeError)

_log = logging.getLogger("tunehook")


@dataclass
class Line:
    """The way to W&B in this process: whether it was up, and what was told about it."""

    writer: Writer = field(default_factory=Writer)
    down_until: float = 0.0
    was_told: bool = False
    was_refusal_told: bool = False
    loss: str | None = None

    @property
    def is_down(self) -> bool:
        """Whether W&B could not be reached a moment ago."""
        return time.monotonic() < self.down_until

    def tell_down(self, why: object) -> None:
        """Note that W&B cannot be reached, and say so once."""
        self.down_until = time.monotonic() + PAUSE
        if not self.was_told:
            self.was_told = True
            _log.warning(
                "W&B cannot be reached (%s): trials are recorded offline. `tunehook sync` uploads them later.",
                reason_of(why),
            )

    def tell_loss(self, trial: Trial, why: str) -> None:
        """Say that the journals alone record a trial; once where the reason is the same, as with a wrong setting."""
        if why != self.loss:
            self.loss = why
            _log.warning(
                "W&B does not record %s any more (%s), nor later trials of which this is true. "
                "The journals keep everything, and `tunehook sync` uploads it: %s",
                trial.name,
                why,
                trial.folder.parent,
            )

    def tell_refusal(self, trial: Trial, why: str) -> None:
        """Say once that W&B has not all of a trial, and how it gets it."""
        if not self.was_refusal_told:
            self.was_refusal_told = True
            _log.warning(
                "W&B has not all of %s (%s). The journal has, and `tunehook sync %s` uploads the rest.",
                trial.name,
                why,
                trial.folder.parent,
            )


def reason_of(error: object) -> str:
    """What an error says, in one line without its full stop; its class, where it says nothing."""
    if isinstance(error, ValidationError):  # its first line says only how many settings are wrong
        wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        return f"a setting of W&B is wrong, as of a variable WANDB_...; mend {'; '.join(wrong)}"
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines and lines[0] != "<no message>" else type(error).__name__
