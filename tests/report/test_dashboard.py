"""optuna-dashboard over a study: the user's own values, nothing written, nothing for other machines."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from typer.testing import CliRunner

import tunehook as th
from browser import CHROMIUM, browser
from hostile import ESCAPES, UNSEEN
from studies import write_study
from tunehook.cli import app
from tunehook.report import dashboard
from tunehook.report.mirror import Mirror, axis, shown_as
from tunehook.study import Study
from tunehook.trial import Outcome, StudyError

HTML = "<img src=x onerror=alert(1)>**b**`c`$d$\n# e"


@contextlib.contextmanager
def served(study: Study, **options: Any) -> Iterator[str]:
    """The address of a dashboard."""
    found: list[str] = []
    is_there = threading.Event()

    def ready(address: str) -> None:
        found.append(address)
        is_there.set()

    given = {"port": 0, "ready": ready, **options}
    threading.Thread(target=dashboard.serve, args=(study,), kwargs=given, daemon=True).start()
    assert is_there.wait(60)
    yield found[0]


def asked(address: str, path: str, *, method: str = "GET", host: str | None = None) -> Any:
    """What the server answers to a request."""
    base = address.partition("/dashboard")[0]
    data = b"{}" if method != "GET" else None
    request = urllib.request.Request(f"{base}{path}", method=method, data=data)  # noqa: S310 - our own
    if host is not None:
        request.add_header("Host", host)
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
        return json.load(answer)


def test_values_are_the_users_own() -> None:
    """Those of a normal and of steps too, options in their order by their names, each trial at its number."""
    study = write_study(trials=40, epochs=3, snapshots=0)
    mirror = Mirror(Study.open("digits"))
    trials = mirror.get_all_trials(0)
    assert [one.number for one in trials] == list(range(40))
    for ours, theirs in zip(study.look(deep=False).trials, trials, strict=True):
        for name, distribution in theirs.distributions.items():
            assert theirs.params[name] == shown_as(study.space[name], ours.params[name])
            assert distribution._contains(distribution.to_internal_repr(theirs.params[name]))
        assert theirs.user_attrs["outcome"] == ours.state
        assert theirs.user_attrs.get("reason", "") == ours.outcome.reason
        assert theirs.user_attrs["journal"] == str(study.paths.journal(ours.number))
        assert not [name for name in [*theirs.user_attrs, *theirs.system_attrs] if name.startswith("tunehook")]
        expected = {"complete": "COMPLETE", "pruned": "PRUNED", "running": "RUNNING"}.get(ours.state, "FAIL")
        assert theirs.state.name == expected
    assert "model.layers" not in trials[0].params  # it is fixed
    assert mirror.get_best_trial(0).number == study.best.number
    known = mirror.get_study_system_attrs(0)
    assert known["study:metric_names"] == ["val_acc"]
    assert "- **reason**: val\\_acc is worse than the median at step 1" in known["dashboard:3:note_str:0"]


def test_where_a_trial_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its run is in its note and beside its values, once its journal was read; after that no journal is read again."""
    study = Study("digits", {"x": th.Float(0, 1)}, metric="acc", mode="max", search="random")
    trial = study.ask()
    journal = th.Journal(trial.folder)
    journal.config({"x": 0.5}, records=["https://wandb.ai/me/digits/runs/1"])
    journal.close()
    study.tell(trial, Outcome("complete", "", 0.5, 1))
    monkeypatch.setattr("tunehook.report.mirror._FRESH", -1.0)
    mirror = Mirror(study)
    for _ in range(2):
        note = mirror.get_study_system_attrs(0)["dashboard:0:note_str:0"]
    assert "- **run**: https\\://wandb\\.ai/me/digits/runs/1" in note
    assert mirror.get_all_trials(0)[0].user_attrs["run"] == "https://wandb.ai/me/digits/runs/1"

    def read(*_: object) -> list[str]:
        raise AssertionError("a journal is read again")

    monkeypatch.setattr(Study, "records", read)
    assert len(mirror.get_all_trials(0)) == 1


def test_axes() -> None:
    """Of each distribution: its kind, its range, whether it is logarithmic, and the names of its options."""
    found: dict[str, Any] = {name: axis(one) for name, one in th.Space({
        "lr": th.Float(1e-4, 1, log=True), "step": th.Float(0, 1, step=0.25), "n": th.Int(2, 8, log=True),
        "normal": th.Normal(2, 1), "log": th.LogNormal(0, 1), "log_step": th.LogNormal(0, 1, step=1),
        "choice": th.Choice(["1", 1, None]), "one": 3,
    }).searched.items()}  # fmt: skip
    ranges = {name: (one.low, one.high, one.log) for name, one in found.items() if hasattr(one, "low")}
    assert ranges == {
        "lr": (1e-4, 1.0, True), "step": (0.0, 1.0, False), "n": (2, 8, True), "normal": (-3.0, 7.0, False),
        "log": (pytest.approx(math.exp(-5)), pytest.approx(math.exp(5)), True), "log_step": (0, 148, False),
    }  # fmt: skip
    assert found["choice"].choices == ("0: '1'", "1: 1", "2: None")


def test_several_metrics_and_what_has_no_number() -> None:
    """Each metric has its direction, and what is infeasible has no value."""
    study = Study("two", {"x": th.Float(0, 1)}, metric=["acc", "latency"], mode=["max", "min"], search="random")
    study.tell(study.ask(), Outcome("complete", "", 0.5, 1, values=(0.5, 3.0)))
    study.tell(study.ask(), Outcome("infeasible", "NaN", None, 1))
    study.optuna.enqueue_trial({"x": 0.5})
    study.ask()
    mirror = Mirror(study)
    assert [one.name for one in mirror.get_study_directions(0)] == ["MAXIMIZE", "MINIMIZE"]
    assert [(one.state, one.values) for one in mirror.get_all_trials(0)] == [
        (TrialState.COMPLETE, [0.5, 3.0]), (TrialState.FAIL, None), (TrialState.RUNNING, None)
    ]  # fmt: skip


def test_it_only_reads(tmp_path: Path) -> None:
    """Nothing in the folder changes; requests that would write, or come by another name, are refused."""
    write_study(trials=3, epochs=2, snapshots=0)
    gc.collect()  # its connection ends, by which SQLite moves all to the file
    study = Study.open("digits")
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    with served(study) as address:
        assert address.startswith("http://127.0.0.1:")
        assert asked(address, "/api/studies/0")["objective_names"] == ["val_acc"]
        assert len(asked(address, "/api/studies/0", host="localhost")["trials"]) == 3
        for method, path, host in (
            ("DELETE", "/api/studies/0", None), ("PUT", "/api/studies/0/note", None), ("POST", "/api/studies", None),
            ("GET", "/api/studies/0", "evil.example"), ("GET", "/api/studies/0", "evil.example:80"),
        ):  # fmt: skip
            with pytest.raises(urllib.error.HTTPError, match="403"):
                asked(address, path, method=method, host=host)
        port = int(address.partition("/dashboard")[0].rpartition(":")[2])
        done = CliRunner().invoke(app, ["dashboard", "digits", "--port", str(port)])
        assert done.exit_code == 1
        assert "Give another port: --port 8081, or --port 0 for one that is free." in done.output
    with pytest.raises(StorageInternalError, match="not to write"):
        Mirror(study).create_new_trial(0)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == files


def has_ipv6() -> bool:
    """Whether this machine's own address of IPv6 is there; in containers it often is not."""
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.mark.parametrize(
    "host", ["127.1", pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6"))]
)
def test_loopback_by_another_name(host: str) -> None:
    """It answers to that name, and to no page of the web; one that is none of this machine's is told."""
    study = write_study(trials=1, epochs=1, snapshots=0)
    with served(study, host=host) as address:
        assert address.startswith(f"http://[{host}]:" if ":" in host else f"http://{host}:")
        assert len(asked(address, "/api/studies/0")["trials"]) == 1
        with pytest.raises(urllib.error.HTTPError, match="403"):
            asked(address, "/api/studies/0", host="evil.example")
    with pytest.raises(
        StudyError, match=r"cannot listen on 192\.0\.2\.1:8080.*\n  Give an address of this machine: --host"
    ):
        dashboard.serve(study, host="192.0.2.1", ready=lambda _: None)


def test_it_shows_the_study_as_it_was_while_the_storage_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a line of the log says so."""
    study = write_study(trials=3, epochs=2, snapshots=0)
    mirror = Mirror(study)
    monkeypatch.setattr("tunehook.report.mirror._FRESH", -1.0)

    def away(**_: object) -> None:
        raise StudyError("it is away")

    monkeypatch.setattr(study, "look", away)
    assert len(mirror.get_all_trials(0)) == 3


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what installs it."""
    write_study(trials=1, epochs=1, snapshots=0)
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    done = CliRunner().invoke(app, ["dashboard", "digits"])
    assert done.exit_code == 1
    assert done.output == "The dashboard needs optuna-dashboard: pip install 'tunehook[dashboard]'\n"


def hostile_study() -> Study:
    """A study whose names, options and reasons are markup and escapes."""
    space = {"act": th.Choice([HTML, ESCAPES.replace("\ud800", ""), "x" * 10_000]), "lr": th.Float(0, 1)}
    study = Study("digits", space, metric=f"acc{HTML}", mode="max", search="random", seed=1)
    for value in (0.5, 0.25, 0.75):
        study.tell(study.ask(), Outcome("complete", HTML + ESCAPES, value, 3))
    study.tell(study.ask(), Outcome("failed", f"ValueError: {HTML}"))
    return study


def test_hostile_names_are_text() -> None:
    """Nothing of what is handed over is markup, to figures or to notes, nor moves a cursor."""
    mirror = Mirror(hostile_study())
    (study,) = mirror.get_all_studies()
    notes = [text for name, text in study.system_attrs.items() if "note_str" in name]
    assert len(notes) == 5
    for note in notes:
        assert "<" not in note
        assert not UNSEEN.search(note.replace("\n", ""))
        assert all(line.startswith("- **") or line in ("", "This is a view: what is changed here is not kept.")
                   for line in note.splitlines())  # fmt: skip
    for trial in mirror.get_all_trials(0):
        told = json.dumps([trial.params, trial.user_attrs, str(trial.distributions)], ensure_ascii=False)
        assert "<" not in told.replace("<class", "")
        assert not UNSEEN.search(told)
        assert all(len(name) <= 200 for name in trial.params)
        assert all(len(str(value)) <= 200 for value in trial.params.values())
    assert "<" not in study.system_attrs["study:metric_names"][0]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
def test_the_dashboard_in_a_browser(tmp_path: Path) -> None:
    """Figures are drawn, notes are text, nothing is loaded from elsewhere, and the console says nothing."""
    hostile_study()
    with served(Study.open("digits")) as address, browser(tmp_path) as page:
        page.size(1280, 900)
        page.ask("Page.navigate", url=address)
        page.wait("document.querySelectorAll('.js-plotly-plot .main-svg').length > 4")
        page.wait("document.body.innerText.includes('acc\u2039img src=x')")  # < is a quotation mark, as it is shown
        page.ask("Page.navigate", url=f"{address}/trials?numbers=3")
        page.wait("document.body?.innerText.includes('ValueError: <img src=x onerror=alert(1)>**b**`c`$d$')")
        assert page.run("document.querySelectorAll('img[src=x]').length") == 0
        page.size(390, 844, is_phone=True)
        page.picture(tmp_path / "phone.png")
        assert page.complaints == []
        base = address.partition("/dashboard")[0]
        assert [one for one in page.requests if not one.startswith((base, "data:"))] == []
