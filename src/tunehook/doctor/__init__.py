"""What harms a study on this machine, and how to mend it."""

from typing import TYPE_CHECKING

from tunehook.doctor.finding import Finding, Level
from tunehook.system import lazily

if TYPE_CHECKING:
    from tunehook.doctor.examination import examine as examine

__all__ = ["Finding", "Level", "examine"]

__getattr__ = lazily(__name__, {"examine": "examination"})
