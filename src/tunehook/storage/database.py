"""Database servers and Optuna's gRPC proxy: the storages of a study on several machines."""

from __future__ import annotations

import importlib.util
import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunehook.system import cached
from tunehook.trial import StudyError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

PATIENCE = 120.0  # seconds that one call waits for a server that is away, or for a file that another program holds

# The drivers that are taken for a URL that names none, the best first, and what to install where there is none.
_DRIVERS = {
    "postgresql": (["psycopg", "psycopg2"], "pip install 'tunehook[postgresql]'"),
    "mysql": (["pymysql", "MySQLdb"], "pip install pymysql"),
}
_DIALECTS = {"MySQLdb": "mysqldb"}
# Seconds for a new connection, and a look every half minute whether the server of an idle one is still there.
_CONNECT = {"connect_timeout": 10}
_KEEPALIVE = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
_ANSWER = 10.0  # seconds for a gRPC proxy

# SQLSTATE: connection lost, server shut down or starting, too many connections, deadlock, serialization failure.
_STATES = re.compile("08...|57P0[123]|53300|40001|40P01")
# MySQL: cannot connect, gone away, lost, shut down, too many connections, lock wait timeout, deadlock.
_NUMBERS = {1040, 1053, 1205, 1213, 2002, 2003, 2006, 2013, 2055, 4031}
_TEXTS = re.compile(
    "refused|reset by peer|broken pipe|timed? ?out|unreachable|no route|closed|gone away|lost connection|starting up"
    "|shutting down|recovery mode|not yet accepting|name resolution|name or service|nodename|terminating connection"
    "|no such file or directory|too many clients|is the server running|EOF detected|failed to connect",
    re.IGNORECASE,
)
_DENIED = re.compile("authentication|password|does not exist|denied|no pg_hba", re.IGNORECASE)


def connect(url: str, *, create: bool = True) -> BaseStorage:
    """Optuna's storage at a URL: ``postgresql://``, ``mysql://``, ``grpc://host:port`` or any that SQLAlchemy knows.

    Args:
        url: The URL.
        create: Whether tables are made where there are none. Defaults to True.

    Raises:
        StudyError: The proxy does not answer.
        ImportError, ValueError, OSError: The URL cannot be used, or what it needs is not installed.
    """
    from tunehook.storage.relational import RelationalStorage

    kind = url.partition(":")[0].partition("+")[0].lower()
    if kind == "grpc":
        return _grpc(url)
    if kind == "redis":
        return cached(url)  # Optuna has given it up, and says what there is in its place
    options: dict[str, Any] = {} if create else {"skip_table_creation": True}
    if kind not in ("postgres", *_DRIVERS):
        if not create:
            _check_file(url)
        return cached(RelationalStorage(url, **options))
    url = _with_driver(url)
    arguments = {**_CONNECT, **(_KEEPALIVE if url.startswith("postgresql") else {})}
    engine = {"pool_pre_ping": True, "connect_args": arguments}
    return cached(RelationalStorage(url, engine_kwargs=engine, **options))


def _check_file(url: str) -> None:
    """SQLite would make the file."""
    from sqlalchemy.engine import make_url

    file = make_url(url).database if url.startswith("sqlite") else None
    if file and file != ":memory:" and not file.startswith("file:") and not Path(file).is_file():
        raise FileNotFoundError(f"there is no file {file}")


def _with_driver(url: str) -> str:
    scheme, _, rest = url.partition(":")
    scheme = re.sub("^postgres$", "postgresql", scheme.lower())
    name, _, driver = scheme.partition("+")
    drivers, advice = _DRIVERS[name]
    if not driver:
        found = next((module for module in drivers if importlib.util.find_spec(module) is not None), None)
        if found is None:
            raise ImportError(f"no driver for {name} is installed ({' or '.join(drivers)}): {advice}")
        driver = _DIALECTS.get(found, found)
    elif driver in drivers and importlib.util.find_spec(driver) is None:
        raise ImportError(f"the driver {driver} is not installed: {advice}")
    return f"{name}+{driver}:{rest}"


def _grpc(url: str) -> BaseStorage:
    match = re.fullmatch(r"grpc://(\[[^\]]+\]|[^/:@\s]+):(\d+)/?", url)
    if match is None:
        raise ValueError("a gRPC proxy is given as grpc://host:port")
    if importlib.util.find_spec("grpc") is None or importlib.util.find_spec("google") is None:
        raise ImportError("grpcio and protobuf are not installed: pip install 'tunehook[grpc]'")
    import warnings

    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import GrpcStorageProxy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        proxy = GrpcStorageProxy(host=match[1], port=int(match[2]))
    try:
        proxy.wait_server_ready(timeout=_ANSWER)
    except ConnectionError as error:
        proxy.close()
        raise StudyError(
            f"The storage {url} does not answer ({error}).\n"
            "  Start Optuna's proxy there: optuna.storages.run_grpc_proxy_server(storage, host=..., port=...)."
        ) from error
    return proxy


def is_failure(error: BaseException) -> bool:
    """Whether an error is one of the storage itself, not an answer such as that there is no such trial."""
    import sqlalchemy.exc
    from optuna.exceptions import StorageInternalError

    return isinstance(error, sqlalchemy.exc.SQLAlchemyError | StorageInternalError | OSError) or _is_grpc(error)


def is_away(error: BaseException) -> bool:
    """Whether a storage failed because its server does not answer now, so that trying again makes sense."""
    import sqlalchemy.exc

    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if _is_grpc(error):
        code, details = getattr(error, "code", None), getattr(error, "details", None)
        name = code().name if callable(code) and code() is not None else ""
        said = str(details() or "") if callable(details) else ""
        # The proxy hides what its own storage raised; what it raises for good has other codes.
        is_hidden = bool(re.search("raised during the commit|OperationalError", said) or _TEXTS.search(said))
        return name in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED") or (name == "UNKNOWN" and is_hidden)
    if is_locked(error):
        return True
    cause = error.__cause__ or error
    if isinstance(cause, sqlalchemy.exc.TimeoutError):  # no connection of the pool is free
        return True
    if not isinstance(cause, sqlalchemy.exc.DBAPIError):
        return False
    if cause.connection_invalidated:
        return True
    orig = cause.orig
    if isinstance(orig, sqlite3.Error):  # a file does not come back
        return False
    state = getattr(orig, "sqlstate", None) or getattr(orig, "pgcode", None)
    if state:
        return bool(_STATES.fullmatch(state))
    numbers = [number for number in getattr(orig, "args", ()) if isinstance(number, int)]
    if numbers:
        return numbers[0] in _NUMBERS
    text = str(orig)
    return isinstance(cause, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError) and bool(
        _TEXTS.search(text) and not _DENIED.search(text)
    )


def is_locked(error: BaseException) -> bool:
    """Whether an SQLite file could not be used since another program holds it."""
    cause = error.__cause__ or error
    code = getattr(getattr(cause, "orig", cause), "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _is_grpc(error: BaseException) -> bool:
    return any(kind.__module__ == "grpc" and kind.__name__ == "RpcError" for kind in type(error).__mro__)
