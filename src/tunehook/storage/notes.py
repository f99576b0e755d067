"""What is kept of a whole study, beside its trials: how many are wanted, who leads, who does what for all."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tunehook.record import host
from tunehook.search import Method
from tunehook.space import Space
from tunehook.storage.attributes import AGREED, LEADER, PLAN, stored_agreed, stored_claim, stored_plan
from tunehook.system import place, this_process

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy


class Notes:
    """Writes and reads them, in the attributes of the Optuna study.

    Args:
        study: The Optuna study.
        space: What is searched.
        method: Who proposes values.
        is_shared: Whether other machines may have the study open.
    """

    def __init__(self, study: OptunaStudy, space: Space, method: Method, *, is_shared: bool) -> None:
        self._study, self._space, self._method, self._is_shared = study, space, method, is_shared

    @property
    def agreed(self) -> int:
        """Below this number the storage and the journals on this machine are known to say the same."""
        return stored_agreed(self._study.user_attrs, host())

    def note_agreed(self, number: int) -> None:
        """Keep that number."""
        if number != self.agreed:
            self._study.set_user_attr(f"{AGREED}:{host()}", number)

    def note_plan(self) -> None:
        """Keep how many trials are wanted and who leads, for those who look at the study."""
        study, trials = self._study, self._method.trials
        known = study.user_attrs
        if self._method.is_grid and self._space.has_condition:  # who looks at the study does not have the function
            trials = trials or self._space.grid_size()
        notes = {LEADER: {"host": host(), **this_process()}, PLAN: {"trials": trials, "grid": self._method.is_grid}}
        for key, note in notes.items():
            if known.get(key) != note:
                study.set_user_attr(key, note)

    @property
    def wanted(self) -> int | None:
        """How many trials the study shall have, as `note_plan` kept it last; ``None`` where it was not said."""
        plan = stored_plan(self._study.user_attrs)
        is_grid = plan.get("grid") and all(one.count is not None for one in self._space.searched.values())
        return plan.get("trials") or (self._space.grid_size() if is_grid else None)

    def claim(self, work: str, *, seconds: float) -> bool:
        """Claim a work on the whole study for this machine or container, for so many seconds; whether it is its own."""
        if not self._is_shared:  # a file, whose machine is the one
            return True
        study, key, now = self._study, f"tunehook:claim:{work}", time.time()
        mine = f"{host()} {place()}".strip()
        holder, until = stored_claim(study.user_attrs, key)
        if holder not in ("", mine) and until > now:
            return False
        study.set_user_attr(key, (mine, now + seconds))
        return True
