"""optuna-dashboard over a study, which it only looks at, on this machine alone unless another address is asked for."""

from __future__ import annotations

import errno
import ipaddress
import json
import socket
import socketserver
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from tunehook.study import Study
from tunehook.trial import StudyError

_Start = Callable[[str, list[tuple[str, str]]], Any]
_Application = Callable[[dict[str, Any], _Start], Iterable[bytes]]

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")  # as browsers ask for it
_READING = ("GET", "HEAD")


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True  # the page asks for several things at once, and keeps connections


class _ServerOf6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base's
        """A line for each request says nothing to who looks at the page."""


def serve(study: Study, *, host: str = "127.0.0.1", port: int = 8080, ready: Callable[[str], None]) -> None:
    """Show a study with optuna-dashboard until Ctrl-C.

    Nothing is written: requests that would change something are refused. On loopback only requests to this machine's
    own name are answered, so that no page of the web can read it through a browser.

    Args:
        study: The study, which is only looked at.
        host: The address to listen on. Defaults to loopback; on another one everybody who reaches it sees the study.
        port: The port; 0 takes one that is free. Defaults to 8080.
        ready: Is called with the address of the page, once it can be opened.

    Raises:
        ModuleNotFoundError: optuna-dashboard is not installed; the message says what installs it.
        StudyError: The study cannot be read, or the port is taken.
    """
    named = f"[{host}]" if ":" in host else host
    try:
        app = make_app(study, hosts=(*_LOOPBACK, named) if _is_loopback(host) else ())
        server = make_server(host, port, app, server_class=_ServerOf6 if ":" in host else _Server, handler_class=_Quiet)
    except OSError as error:
        is_other = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        raise StudyError(
            f"The dashboard cannot listen on {named}:{port}: {error.strerror or error}.\n"
            + ("  Give an address of this machine: --host 127.0.0.1." if is_other
               else "  Give another port: --port 8081, or --port 0 for one that is free.")
        ) from error  # fmt: skip
    with server:
        ready(f"http://{named}:{server.server_port}/dashboard/studies/0")
        server.serve_forever(poll_interval=0.2)


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host if ":" in host else socket.gethostbyname(host)).is_loopback


def make_app(study: Study, *, hosts: Iterable[str] = _LOOPBACK) -> _Application:
    """The application, which only reads.

    Args:
        study: The study.
        hosts: The names of this machine that requests may ask for; all where there are none.
    """
    try:
        from optuna_dashboard import wsgi
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "optuna_dashboard":
            raise
        raise ModuleNotFoundError(
            "The dashboard needs optuna-dashboard: pip install 'tunehook[dashboard]'", name=error.name
        ) from error
    from tunehook.report.mirror import Mirror

    app, known = wsgi(Mirror(study)), {*hosts}

    def guarded(environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
        name = environ.get("HTTP_HOST", "")
        name = name if name.endswith("]") else name.rpartition(":")[0] or name
        if known and name.lower() not in known:
            return _refused(start, f"this dashboard is that of {', '.join(sorted(known))}")
        if environ["REQUEST_METHOD"] not in _READING:
            return _refused(start, "tunehook shows the study, and changes nothing in it")
        found: Iterable[bytes] = app(environ, start)
        return found

    return guarded


def _refused(start: _Start, why: str) -> list[bytes]:
    start("403 Forbidden", [("Content-Type", "application/json")])
    return [json.dumps({"reason": why}).encode()]
