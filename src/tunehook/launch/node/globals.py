"""What a library keeps for a whole process, on its way into another one: Hydra's configuration, and its resolvers."""

from __future__ import annotations

import contextlib
import pickle
import sys


def kept_state() -> bytes:
    """What is to be put into a trial process before the training function is, nothing where there is no such library.

    Hydra's own launchers send it too.
    """
    if "hydra.core.singleton" not in sys.modules:
        return b""
    import cloudpickle
    from hydra.core.singleton import Singleton

    with contextlib.suppress(Exception):  # a resolver that cannot be pickled; who asks for it there is told by Hydra
        state: bytes = cloudpickle.dumps(Singleton.get_state())
        return state
    return b""


def put_state(state: bytes) -> None:
    """Put into this process what `kept_state` gave in another one."""
    if state:
        from hydra.core.singleton import Singleton
        from hydra.core.utils import setup_globals

        setup_globals()
        Singleton.set_state(pickle.loads(state))  # noqa: S301 - from the process that asks
