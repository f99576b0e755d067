"""The channel from trial processes to the one that asks and decides: local, authenticated, deaf to strangers."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

from tunehook.system import in_thread

# Seconds in which a client has to say the next word, to show that it has the key.
PATIENCE = 10.0
_LONGEST = 100  # bytes of the path of a socket; systems take from 92 to 108
# So many clients may be on the way in at once; a flood of strangers waits outside.
_DOORS = 64
_REST = 0.05  # seconds


@dataclass(frozen=True)
class Address:
    """Where a node process listens, with the key; it travels to its own processes only, by a pipe.

    Attributes:
        place: Name or path of a socket, or host and port.
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

    Raises:
        OSError: There is no room for it.
    """

    def __init__(self) -> None:
        place, self._folder = _place()
        self._listener = Listener(place, backlog=128)
        place = self._listener.address if isinstance(place, tuple) else place  # with its port
        self.address = Address(place, os.urandom(32))
        self.entered: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_in.setblocking(False)
        self._doors = threading.Semaphore(_DOORS)
        self._is_open = True
        self._is_shut = threading.Event()
        try:
            in_thread(self._accept)
        except OSError:
            self._is_shut.set()
            self.close()
            raise

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
        self._is_shut.wait(PATIENCE)
        self._wake_in.close()
        self._wake_out.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _accept(self) -> None:
        while self._is_open:
            self._doors.acquire()
            try:
                connection: Any = self._listener.accept()
            except (OSError, MemoryError):
                self._doors.release()
                time.sleep(_REST)  # no file is left to open: until one is closed, the next try fails as soon
                continue
            try:
                in_thread(self._check, connection)
            except (OSError, MemoryError):  # no room for one more: whoever comes in as it should is let in by this one
                self._check(connection)
            del connection  # held by nobody where its thread did not begin, it hangs up
        self._is_shut.set()

    def _check(self, connection: Connection) -> None:
        try:
            with _socket(connection) as its:
                _check_user(its)
                _limit_waits(its, PATIENCE)
                deliver_challenge(connection, self.address.key)
                answer_challenge(connection, self.address.key)
                _limit_waits(its, 0)
        except Exception:  # noqa: BLE001 - whatever a stranger sends
            connection.close()
            return
        finally:
            self._doors.release()
        self.entered.put(connection)
        self.wake()


def _place() -> tuple[str | tuple[str, int], Path | None]:
    """Where to listen, and the folder that this takes; on Linux a name that is no file, and is gone with its process.

    So a killed process leaves nothing behind, and a long path to the temporary folder is not in the way.
    """
    if sys.platform == "linux":
        return f"\0tunehook-{secrets.token_hex(16)}", None
    if hasattr(socket, "AF_UNIX"):
        folder = Path(tempfile.mkdtemp(prefix="tunehook-"))  # for this user alone
        if len(os.fsencode(folder / "node")) < _LONGEST:
            return str(folder / "node"), folder
        folder.rmdir()
    return ("127.0.0.1", 0), None


@contextlib.contextmanager
def _socket(connection: Connection) -> Iterator[socket.socket]:
    """The socket of a connection, which stays open."""
    its = socket.socket(fileno=connection.fileno())
    try:
        its.setblocking(True)  # whatever the default timeout is: the connection waits
        yield its
    finally:
        its.detach()


def _check_user(its: socket.socket) -> None:
    """Check that a name that is no file is used by this user alone: it has no rights of access.

    Raises:
        PermissionError: Another user's process has come.
    """
    if sys.platform != "linux":
        return
    asked = its.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", asked)
    if user not in (os.geteuid(), 0):
        raise PermissionError(f"user {user} is not {os.geteuid()}")


def _limit_waits(its: socket.socket, seconds: float) -> None:
    """Let whoever says nothing, or reads nothing, for so long be an error; 0 waits for ever."""
    whole, rest = divmod(round(seconds * 1e6), 10**6)
    limit = struct.pack("I", round(seconds * 1e3)) if sys.platform == "win32" else struct.pack("ll", whole, rest)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        its.setsockopt(socket.SOL_SOCKET, option, limit)
