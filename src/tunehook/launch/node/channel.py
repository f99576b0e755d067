"""The channel from trial processes to the one that asks and decides: local, authenticated, deaf to strangers."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import socket
import tempfile
import threading
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

# Seconds in which a client has to show that it has the key.
PATIENCE = 10.0
# So many clients may be on the way in at once; a flood of strangers waits outside.
_DOORS = 64


@dataclass(frozen=True)
class Address:
    """Where a node process listens, with the key; it travels to its own processes only, by a pipe.

    Attributes:
        place: Path of a socket, or host and port.
        key: The secret that both sides prove to have.
    """

    place: str | tuple[str, int]
    key: bytes = field(repr=False)

    def connect(self) -> Connection:
        """A connection to the node process.

        Raises:
            OSError: It is gone.
            multiprocessing.AuthenticationError: It has another key.
        """
        return Client(self.place, authkey=self.key)


class Gate:
    """Lets processes with the key in, from a thread: one that says nothing, or nonsense, delays nobody else.

    Attributes:
        address: Where it listens.
        entered: Connections that have proved the key.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        place: str | tuple[str, int] = ("127.0.0.1", 0)
        if hasattr(socket, "AF_UNIX"):
            self._folder = Path(tempfile.mkdtemp(prefix="tunehook-"))  # for this user alone
            place = str(self._folder / "node")
        self._listener = Listener(place, backlog=128)
        self.address = Address(self._listener.address, os.urandom(32))
        self.entered: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_in.setblocking(False)
        self._doors = threading.Semaphore(_DOORS)
        self._is_open = True
        self._thread = threading.Thread(target=self._accept, name="tunehook-gate", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Readable when someone has entered."""
        return self._wake_out.fileno()

    def take(self) -> list[Connection]:
        """Those who have entered since."""
        with contextlib.suppress(BlockingIOError):
            self._wake_out.recv(4096, getattr(socket, "MSG_DONTWAIT", 0))
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self.entered.get_nowait())
        return found

    def wake(self) -> None:
        """Wake whoever waits."""
        with contextlib.suppress(OSError):  # full: it wakes up anyway; closed: nobody waits
            self._wake_in.send(b".")

    def close(self) -> None:
        """Let nobody in any more."""
        self._is_open = False
        with contextlib.suppress(OSError, EOFError, AuthenticationError):  # wakes the thread from its wait
            Client(self.address.place).close()
        self._listener.close()
        self._thread.join(PATIENCE)
        self._wake_in.close()
        self._wake_out.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _accept(self) -> None:
        while self._is_open:
            self._doors.acquire()
            try:
                connection: Any = self._listener.accept()
            except OSError:
                self._doors.release()
                continue
            threading.Thread(target=self._check, args=(connection,), name="tunehook-door", daemon=True).start()

    def _check(self, connection: Connection) -> None:
        timer = threading.Timer(PATIENCE, _hang_up, args=(connection,))
        timer.daemon = True
        timer.start()
        try:
            deliver_challenge(connection, self.address.key)
            answer_challenge(connection, self.address.key)
        except Exception:  # noqa: BLE001 - whatever a stranger sends
            connection.close()
            return
        finally:
            timer.cancel()
            self._doors.release()
        self.entered.put(connection)
        self.wake()


def _hang_up(connection: Connection) -> None:
    """End a wait in another thread, which closing alone would not."""
    with contextlib.suppress(OSError):
        twin = socket.socket(fileno=os.dup(connection.fileno()))
        with twin:
            twin.shutdown(socket.SHUT_RDWR)
