"""Leading trials: one after the other in this process, or in processes of their own."""

from typing import TYPE_CHECKING

from tunehook.launch.failures import Raised, not_importable
from tunehook.launch.led import Led
from tunehook.launch.request import Request
from tunehook.system import lazily

if TYPE_CHECKING:
    from tunehook.launch.leader import GRACE as GRACE
    from tunehook.launch.leader import KILL as KILL
    from tunehook.launch.leader import LINGER as LINGER
    from tunehook.launch.leader import PULSE as PULSE
    from tunehook.launch.leader import PULSE_FRESH as PULSE_FRESH
    from tunehook.launch.leader import RECORDERS as RECORDERS
    from tunehook.launch.leader import Launcher as Launcher
    from tunehook.launch.leader import Leader as Leader
    from tunehook.launch.leader import Running as Running
    from tunehook.launch.leader import launcher_from_environment as launcher_from_environment
    from tunehook.launch.one import call as call
    from tunehook.launch.one import may_return as may_return
    from tunehook.launch.one import prepare as prepare
    from tunehook.launch.one import train_one as train_one
    from tunehook.launch.one import with_values as with_values
    from tunehook.launch.ranks import announce as announce
    from tunehook.launch.ranks import follow as follow
    from tunehook.launch.ranks import is_one_of_several as is_one_of_several
    from tunehook.launch.ranks import leading as leading
    from tunehook.launch.run import check_arguments as check_arguments
    from tunehook.launch.run import optimize as optimize

__all__ = [
    "GRACE", "KILL", "LINGER", "PULSE", "PULSE_FRESH", "RECORDERS", "Launcher", "Leader", "Led", "Raised", "Request",
    "Running", "announce", "call", "check_arguments", "follow", "is_one_of_several", "launcher_from_environment",
    "leading", "may_return", "not_importable", "optimize", "prepare", "train_one", "with_values",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        "GRACE": "leader",
        "KILL": "leader",
        "LINGER": "leader",
        "Launcher": "leader",
        "Leader": "leader",
        "PULSE": "leader",
        "PULSE_FRESH": "leader",
        "RECORDERS": "leader",
        "Running": "leader",
        "launcher_from_environment": "leader",
        "call": "one",
        "may_return": "one",
        "prepare": "one",
        "train_one": "one",
        "with_values": "one",
        "announce": "ranks",
        "follow": "ranks",
        "is_one_of_several": "ranks",
        "leading": "ranks",
        "check_arguments": "run",
        "optimize": "run",
    },
)
