"""A stand-in for the W&B server on the loopback: real HTTP for the real SDK, with faults that can be switched on."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Literal

import pytest

from run_file import steps_of

# What may be wrong: no one listens; answers after a second; never answers; the connection is cut before the request is
# taken, or after it was taken; an HTTP status.
Fault = Literal["refused", "slow", "hanging", "dropped", "cut"] | int

KEY = "local-" + "0123456789" * 4
ENTITY = "someone"
SLOW = 1.0
# A client that waits on a hanging server is let go at the latest then, so that no thread outlives its test for long.
PATIENCE = 60.0


@dataclass
class ServerRun:
    """A run as the server has it.

    Attributes:
        lines: The history by line number: a chunk that is sent again falls on the lines that it had.
    """

    name: str
    project: str
    entity: str = ENTITY
    display_name: str = ""
    group: str = ""
    job_type: str = ""
    tags: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    lines: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    is_stopped: bool = False

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The history in the order of its lines, without W&B's own columns."""
        lines = [self.lines[number] for number in sorted(self.lines)]
        return [{key: value for key, value in line.items() if not key.startswith("_")} for line in lines]

    @property
    def steps(self) -> list[int]:
        """The steps of the rows that are no snapshots, which have the step of the row before."""
        return steps_of(self.rows)

    def column(self, name: str) -> list[Any]:
        """The values of a metric, in the order of the lines."""
        return [row[name] for row in self.rows if name in row]

    def setting(self, name: str) -> Any:
        """A value of the configuration."""
        return self.config[name]["value"]

    def as_listed(self) -> dict[str, Any]:
        """What a list of runs has besides."""
        empty = dict.fromkeys(("sweepName", "commit", "createdAt", "heartbeatAt", "description", "notes"), "")
        return {**empty, "sweepName": None, "state": "finished", "readOnly": False, "systemMetrics": "{}",
                "user": {"name": ENTITY, "username": ENTITY}, "historyKeys": None, "projectId": "1"}  # fmt: skip

    def as_bucket(self) -> dict[str, Any]:
        """The run as GraphQL answers with it; whoever asks for less ignores the rest."""
        last = [json.dumps(self.lines[max(self.lines)])] if self.lines else []
        return {
            "id": f"gid-{self.name}",
            "name": self.name,
            "displayName": self.display_name or self.name,
            "description": "",
            "config": json.dumps(self.config),
            "summaryMetrics": json.dumps(self.summary),
            "sweepName": None,
            "historyLineCount": max(self.lines, default=-1) + 1,
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps(last),
            "eventsTail": "[]",
            "tags": list(self.tags),
            "group": self.group,
            "jobType": self.job_type,
            "wandbConfig": '{"t":{}}',
            "project": {
                "id": f"gid-{self.project}",
                "name": self.project,
                "entity": {"id": f"gid-{self.entity}", "name": self.entity},
            },
        }


class WandbServer:
    """The stand-in: keeps what runs send, and fails as told.

    Attributes:
        runs: The runs by id.
        views: The saved workspaces by name, as they were sent; ``spec`` is JSON.
        requests: What was asked, in order: the path, or the GraphQL operation.
    """

    def __init__(self) -> None:
        self.runs: dict[str, ServerRun] = {}
        self.views: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.filters: dict[str, Any] = {}  # of the last list of runs
        self._lock = threading.Lock()
        self._is_released = threading.Event()
        self._fault: Fault | None = None
        self._fault_after = 0
        self._port = 0
        self._http: _Http | None = None
        self._listen()

    @property
    def url(self) -> str:
        """The address for ``WANDB_BASE_URL``."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with which the SDK talks to this server."""
        return {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": KEY,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_MODE": "online",
            "WANDB_SILENT": "true",
        }

    def fail(self, fault: Fault, *, after: int = 0) -> None:
        """Fail from now on, or after so many more requests."""
        self._is_released.clear()
        self._fault, self._fault_after = fault, len(self.requests) + after
        if fault == "refused" and not after:
            self._unlisten()

    def recover(self) -> None:
        """Answer again; who waits on a hanging server is cut off."""
        self._fault = None
        self._is_released.set()
        if self._http is None:
            self._listen()

    def close(self) -> None:
        """End, whoever still waits."""
        self.recover()
        self._unlisten()

    @contextlib.contextmanager
    def answering(self, what: str) -> Iterator[Fault | None]:
        """Note a request, and wait or say how it fails."""
        with self._lock:
            self.requests.append(what)
            fault = self._fault if len(self.requests) > self._fault_after else None
        if fault == "slow":
            self._is_released.wait(SLOW)
        elif fault == "hanging":
            self._is_released.wait(PATIENCE)
        elif fault == "refused":
            threading.Thread(target=self._unlisten, daemon=True).start()
        with self._lock:
            yield fault

    def _listen(self) -> None:
        handler = type("Handler", (_Handler,), {"server_of_runs": self})
        self._http = _Http(("127.0.0.1", self._port), handler)
        self._port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def _unlisten(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            http.shutdown()
            http.server_close()

    # ------------------------------------------------------------------ what the SDK asks

    def graphql(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Answer a GraphQL request; what the SDK can do without is an error."""
        if operation == "UpsertBucket":
            return self._upsert(variables)
        if operation in ("Viewer", "GetDefaultEntity"):
            return {"data": {"viewer": {"id": "gid-viewer", "entity": ENTITY, "username": ENTITY, "flags": "{}",
                                        "email": "", "admin": False, "teams": {"edges": []}}}}  # fmt: skip
        if operation == "UpsertView2":
            self.views[variables["name"]] = variables
            made = {"id": variables.get("id") or f"gid-{variables['name']}", "name": variables["name"]}
            return {"data": {"upsertView": {"view": made, "inserted": "id" not in variables}}}
        if operation == "RunResumeStatus":
            run = self.runs.get(variables["name"])
            model = {
                "id": "gid-project",
                "name": variables["project"],
                "entity": {"id": f"gid-{ENTITY}", "name": ENTITY},
                "bucket": None if run is None else run.as_bucket(),
            }
            return {"data": {"model": model}}
        if operation == "Runs":
            edges = [{"cursor": run.name, "node": {**run.as_bucket(), **run.as_listed()}} for run in self.runs.values()
                     if run.project == variables["project"]]  # fmt: skip
            self.filters = json.loads(variables["filters"])
            page = {"endCursor": None, "hasNextPage": False}
            runs = {"edges": edges, "pageInfo": page}
            found = {"internalId": "1", "runCount": len(edges), "readOnly": False, "runs": runs}
            return {"data": {"project": found if edges else None}}
        if operation == "RunSampledHistory":
            run, asked = self.runs[variables["name"]], json.loads(variables["specs"][0])
            wanted = set(asked["keys"]) - {"_step"}
            rows = [{"_step": step, **row} for step, row in enumerate(run.rows) if wanted <= row.keys()]
            return {"data": {"project": {"run": {"sampledHistory": [rows]}}}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables["files"]]
            made = {"runID": variables["run"], "uploadHeaders": [], "files": files}
            return {"data": {"createRunFiles": made}}
        return {"errors": [{"message": f"The stand-in does not know {operation}."}], "data": None}

    def _upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["name"]
        is_new = name not in self.runs
        run = self.runs.setdefault(name, ServerRun(name, variables["project"], variables.get("entity") or ENTITY))
        run.display_name = variables.get("displayName") or run.display_name
        run.group, run.job_type = variables.get("groupName") or run.group, variables.get("jobType") or run.job_type
        run.tags = tuple(variables.get("tags") or run.tags)
        if variables.get("config"):
            run.config = json.loads(variables["config"])
        return {"data": {"upsertBucket": {"inserted": is_new, "bucket": run.as_bucket()}}}

    def stream(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Take a piece of a run's stream."""
        run = self.runs[name]
        for file, chunk in (body.get("files") or {}).items():
            if file == "wandb-history.jsonl":
                for number, line in enumerate(chunk["content"], start=chunk["offset"]):
                    run.lines[number] = json.loads(line)
            elif file == "wandb-summary.json":
                run.summary = json.loads(chunk["content"][-1])
        if body.get("complete"):
            run.exit_code = body.get("exitcode")
        return {"stopped": True} if run.is_stopped else {}


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed or lose their patience end their connections; other errors are the stand-in's own."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of_runs: ClassVar[WandbServer]

    def do_POST(self) -> None:
        server, body = self.server_of_runs, self._read()
        stream = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path)
        asked = json.loads(body or b"{}")
        operation = ""
        if stream is None:
            found = re.search(r"(?:query|mutation)\s+(\w+)", asked.get("query", ""))
            operation = found[1] if found else self.path
        with server.answering(operation or self.path) as fault:
            answer: dict[str, Any] = {}
            if fault in (None, "slow", "cut"):
                variables = asked.get("variables") or {}
                answer = server.stream(stream[1], asked) if stream else server.graphql(operation, variables)
        self._answer(fault, answer)

    def do_PUT(self) -> None:
        self._read()
        with self.server_of_runs.answering(self.path) as fault:
            pass
        self._answer(fault, {})

    do_GET = do_PUT  # noqa: N815 - the name is http.server's

    def _read(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, fault: Fault | None, answer: dict[str, Any]) -> None:
        if fault in ("refused", "hanging", "dropped", "cut"):
            self.close_connection = True
            return
        text = json.dumps(answer).encode()
        with contextlib.suppress(OSError):  # the client may be gone: it was killed, or lost its patience
            self.send_response(fault if isinstance(fault, int) else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Nothing: tests read `WandbServer.requests`."""


@contextlib.contextmanager
def serving() -> Iterator[WandbServer]:
    """A stand-in that is closed at the end."""
    server = WandbServer()
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def online(server: WandbServer, folder: Any) -> Iterator[None]:
    """The SDK of this process, talking to a stand-in and writing below a folder."""
    import wandb

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**server.environment, "WANDB_DIR": str(folder)}.items():
            patch.setenv(name, value)
        wandb.teardown()  # its settings are those of the environment
        try:
            yield
        finally:
            wandb.teardown()
