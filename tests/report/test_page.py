"""The report of a study, in a real browser and as a file."""

from __future__ import annotations

import itertools
import json
import math
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import optuna
import pytest
from typer.testing import CliRunner

import tunehook as th
from browser import CHROMIUM, Browser, browser
from studies import write_study
from tunehook.cli import app
from tunehook.figures import Curve, StudyView, TrialView
from tunehook.report.page import make_page
from tunehook.trial.values import Outcome

NONE = "\N{EN DASH}"
HOSTILE = [
    "<script>document.title='broken in'</script>",
    "</script><img src=x onerror=\"document.title='broken in'\">",
    'it\'s "quoted" & {x} %{y} $(z) `w`',
    "two\nlines\x1b[2J\u202eturned\u2028",
    "🦊🏳️‍🌈 ünï-日本",
    "x" * 10_000,
    "\ud800",
]


def report(name: str = "digits", *arguments: str) -> Path:
    """The report of a study in the working directory, by the command."""
    done = CliRunner().invoke(app, ["report", name, *arguments])
    assert (done.exit_code, done.output) == (0, f"{name}.html\n")
    return Path(f"{name}.html").absolute()


class Parts(HTMLParser):
    """The elements of a page in their order, with what they hold themselves."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        """The attributes of the elements of some kinds."""
        return [attributes for tag, attributes in self.found if tag in tags]


def data_of(page: str) -> dict[str, Any]:
    """What the page's script reads."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return dict(json.loads(found))


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Browser]:
    """A browser; Debian's package is called chromium."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    with browser(tmp_path) as opened:
        yield opened


DRAWN = "[...document.querySelectorAll('.plot')].filter(one => one.offsetParent)"


def draw_all(page: Browser) -> int:
    """Look at the whole page, at each figure until it is drawn; their number."""
    for name in page.run(f"{DRAWN}.map(one => one.id)"):
        page.run(f"document.getElementById({name!r}).scrollIntoView()")
        page.wait(f"document.getElementById({name!r}).dataset.drawn")
    return int(page.run(f"{DRAWN}.filter(one => one.querySelector('.main-svg')).length"))


def change(page: Browser, name: str, value: str, event: str) -> None:
    """Give a control a value, as a user does."""
    page.run(f"(one => {{ one.value = {value!r}; one.dispatchEvent(new Event({event!r})) }})"
             f"(document.getElementById({name!r}))")  # fmt: skip


@pytest.mark.slow
def test_the_report_in_a_browser(chromium: Browser, tmp_path: Path) -> None:
    """No error, every figure drawn, nothing loaded; search, selection, light and dark, on a desk and on a phone."""
    write_study()
    page = chromium
    page.size(1280, 900)
    page.prefer("light")
    page.open(report("digits", "--trial", "4"))
    page.press("Tab")
    assert page.run("document.activeElement.className") == "skip"  # the keyboard need not go through all links
    assert draw_all(page) == 6 + 7 + 4  # the search and what the value depends on, slices, one trial's parameters
    # Search and order.
    assert page.run("document.querySelectorAll('#rows tr').length") == 40
    page.run("document.getElementById('find').focus()")
    for letter in "memory":
        page.press(letter)
    assert page.run("document.getElementById('found').textContent") == "2 of 40 trials"
    change(page, "find", "", "input")
    page.run("[...document.querySelectorAll('#heads button')][2].click()")
    assert page.run("document.querySelectorAll('#heads th')[3].getAttribute('aria-sort')") == "ascending"
    values = page.run("[...document.querySelectorAll('#rows tr')].map(one => one.children[3].textContent)")
    known = [float(one) for one in values if one != NONE]
    assert known == sorted(known)
    assert values[len(known) :] == [NONE] * (40 - len(known))  # those without a value come last
    # A trial that is selected is marked in each figure that has it, and shown whole.
    page.run("document.querySelector('#rows input').focus()")
    page.press(" ")
    chosen = int(page.run("document.querySelector('#rows tr.chosen th').textContent"))
    draw_all(page)
    marked = f"{DRAWN}.filter(one => one.data.some(trace => trace.name === 'trial {chosen}')).map(one => one.id)"
    assert {"plot-history", "plot-curves", "plot-parallel", "plot-contour", "plot-slice-optimizer.lr"} <= {
        *page.run(marked)
    }
    assert page.run("document.getElementById('said').textContent") == f"Trial {chosen} selected, 1 in all."
    # The parameters of another trial.
    change(page, "snapshot-trial", "4", "change")
    assert draw_all(page) == 6 + 7 + 4
    # Light and dark, by the system and by the switch.
    back = "getComputedStyle(document.body).backgroundColor"
    light = page.run(back)
    page.prefer("dark")
    page.wait(f"{back} !== {light!r}")
    dark = page.run(back)
    page.run("document.getElementById('theme').click()")
    assert (page.run(back), page.run("document.getElementById('theme').textContent")) == (light, "Dark")
    # A phone: nothing is wider than it.
    page.size(390, 844, is_phone=True)
    page.run("document.getElementById('theme').click()")
    assert page.run(back) == dark
    assert draw_all(page) == 6 + 7 + 4
    page.wait("document.documentElement.scrollWidth === 390")  # figures follow a moment later
    page.picture(tmp_path / "phone.png")
    assert (tmp_path / "phone.png").stat().st_size > 10_000
    assert page.complaints == []
    assert [one for one in page.requests if not one.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.slow
def test_hostile_names_in_a_browser(chromium: Browser) -> None:
    """HTML, quotes, ends of lines, emoji, 10,000 characters and escapes are texts in each part of the page."""
    ends = {number: Outcome("failed", text, traceback=text) for number, text in enumerate(HOSTILE)}
    space = {
        "lr": th.Float(1e-4, 1e-1, log=True),
        "text": th.Choice(HOSTILE),
        "any": th.Choice([None, True, [1, "<b>"]]),
    }
    write_study("hostile", trials=30, space=space, metric=HOSTILE[0], ends=ends, snapshots=2)
    chromium.size(1280, 900)
    chromium.open(report("hostile"))
    assert draw_all(chromium) > 8
    assert chromium.run("document.title") == "hostile · tunehook"
    assert chromium.run("document.querySelectorAll('img, iframe, main script, svg script').length") == 0
    assert "broken in" in chromium.run("document.getElementById('rows').textContent")
    assert chromium.complaints == []


# ------------------------------------------------------------------ the file


def test_the_report_is_read_in_order() -> None:
    """Landmarks, headings without a gap, a text for each figure, and links that lead somewhere."""
    write_study(trials=30)
    parts = Parts(report().read_text())
    tags = [tag for tag, _ in parts.found]
    assert [tags.count(one) for one in ("header", "nav", "main", "footer", "h1")] == [1] * 5
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    plots = [one for one in parts.all("div") if one.get("class") == "plot"]
    assert plots
    assert all(one["role"] == "img" and len(one["aria-label"] or "") > 20 for one in plots)
    ids = [str(attributes["id"]) for _, attributes in parts.found if "id" in attributes]
    assert sorted(ids) == sorted(set(ids))
    links = [one["href"] for one in parts.all("a")]
    assert all(link is not None and link.removeprefix("#") in ids for link in links)
    data = data_of(Path("digits.html").read_text())
    assert {f"plot-{name}" for name in data["figures"]} == {one["id"] for one in plots}
    assert len(data["rows"]) == 30


def test_what_stands_in_the_report() -> None:
    """The best trial and how it was found, its configuration, failures by cause, and what trains where."""
    study = write_study(trials=30)
    best = study.best
    texts = " ".join(Parts(report().read_text()).texts)
    for one in (
        f"as trial {best.number} of 30. It reached val_acc", best.as_python(), study.records(best.number)[0],
        "trainer.precision: 32-true", "ValueError: shapes do not match", "memory ran out: CUDA out of memory",
        "node-1, node-2", repr(study.space["optimizer.weight_decay"]),
        f"optuna, in trial {best.number}", optuna.__version__,
    ):  # fmt: skip
        assert one in texts


def test_every_kind_of_study_has_a_report() -> None:
    """Several metrics with branches and known trials, and a population: in the page and on the terminal."""

    def train() -> dict[str, float]:
        has_more = th.value("opt", "sgd") == "sgd"
        speed = th.value("momentum", 0.5) if has_more else 0.1
        return {"acc": th.value("lr", 0.1) - 0.3 * speed, "latency": speed}

    space = {"lr": th.Float(0, 1), "opt": th.Choice({"adam": {}, "sgd": {"momentum": th.Float(0, 1)}})}
    metrics: dict[str, Any] = {"metric": ["acc", "latency"], "mode": ["max", "min"], "search": "random", "seed": 1}
    study = th.Study("several", space, **metrics)
    study.optimize(train, trials=8)
    front = [one.number for one in study.best_trials]
    page = report("several").read_text()
    data, texts = data_of(page), " ".join(Parts(page).texts)
    assert data["figures"]["front-0"]["data"][-1]["y"] == pytest.approx(
        [one.values[0] for one in sorted(study.best_trials, key=lambda one: one.values[1])], rel=1e-4
    )
    assert data["columns"][:7] == ["trial", "state", "acc", "latency", "lr", "opt", "momentum"]
    assert {row[6] is None for row in data["rows"] if row[5] == "adam"} == {True}
    assert "acc as large as possible, latency as small as possible" in texts
    assert "best so far" not in page.partition('id="data"')[2].partition("</script>")[0]
    assert all(f"trial {number}" in study._repr_html_() for number in front)
    assert len(study.plot.front()) == 1
    told = {one: CliRunner().invoke(app, one.split()).output for one in (
        "trials several", "trials several --best 2", "list", f"show several {front[0]}"
    )}  # fmt: skip
    assert all(f"{number}*  complete" in told["trials several"] for number in front)
    assert "2 metrics, so --best has no order" in told["trials several --best 2"]
    assert f"8 complete; front: trial{'s' * (len(front) > 1)} {', '.join(map(str, front))}" in told["list"]
    assert f"latency {study.trials[front[0]].values[1]!r}\n" in told[f"show several {front[0]}"]

    ends = {8: Outcome("complete", "its interval ended", 0.99, 2)}
    th.Study("empty", space, **metrics).trials  # noqa: B018 - it is made
    done = CliRunner().invoke(app, ["best", "empty"])
    assert (done.exit_code, done.output) == (
        1, "Study 'empty' has no complete trial yet (no trials), so none is on the front.\n"
    )  # fmt: skip

    write_study("members", trials=13, epochs=2, population=4, snapshots=0, ends=ends)
    page = report("members").read_text()
    data = data_of(page)
    assert "It is the last of 3 intervals of training, whose values changed" in " ".join(Parts(page).texts)
    assert [trace["name"] for trace in data["figures"]["lineage"]["data"]][:2] == ["goes on", "copies another member"]
    assert data["columns"][:5] == ["trial", "state", "val_acc", "member", "from trial"]
    assert data["rows"][6][3:5] == [2, 0]
    told["show"] = CliRunner().invoke(app, ["show", "members", "6"]).output
    assert "member 2 of the population, generation 1, goes on with trial 0\n" in told["show"]


@pytest.mark.parametrize("trials", [0, 1])
def test_a_study_that_has_hardly_begun(trials: int) -> None:
    """It has a report too, which says that there is no best trial."""
    if trials:
        write_study(trials=trials)
    else:
        th.Study("digits", {"x": th.Float(0, 1)}, metric="val_acc", mode="max").trials  # noqa: B018 - it is made
    texts = " ".join(Parts(report().read_text()).texts)
    assert "No trial is complete yet, so there is no best one." in texts


def test_one_bad_trial_stops_no_report() -> None:
    """A journal that is damaged, one that is no file, and a snapshot that is none: the others are shown."""
    study = write_study(trials=30, snapshots=2)
    damaged, gone, odd = (study.paths.journal(number) for number in (1, 2, study.best.number))
    damaged.write_bytes(b"\x00{]\n" * 3)
    gone.unlink()
    gone.mkdir()
    odd.write_text(odd.read_text().replace('"counts": [', '"counts": ["x", '))
    data = data_of(report().read_text())
    assert len(data["rows"]) == 30
    curves = [trace for trace in data["figures"]["curves"]["data"] if trace["name"] != "best"]
    assert sum(len(trace["meta"]["spans"]) for trace in curves) == 30  # the storage has the tuned metric too


def test_a_report_needs_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the message says what installs it, and nothing is written."""
    write_study(trials=4)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    monkeypatch.setitem(sys.modules, "plotly", None)
    done = CliRunner().invoke(app, ["report", "digits"])
    assert (done.exit_code, done.output) == (
        1, "A report needs the package plotly: pip install 'tunehook[report]'\n"
    )  # fmt: skip
    assert not [*Path().glob("*.html*")]


@pytest.mark.slow
def test_figures_for_a_paper() -> None:
    """The figures of the study as a whole, as PDF."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    write_study(trials=6, epochs=2, space={"lr": th.Float(1e-4, 1e-1, log=True), "n": th.Choice([2, 1])}, snapshots=0)
    done = CliRunner().invoke(app, ["report", "digits", "--pdf", "images"])
    names = ["history", "curves", "parallel", "contour", "slice-lr", "slice-n", "timeline"]
    assert (done.exit_code, done.output.split()) == (0, [f"images/{name}.pdf" for name in names])
    assert all(Path(f"images/{name}.pdf").read_bytes().startswith(b"%PDF") for name in names)
    assert not Path("digits.html").exists()


def test_images_need_kaleido(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the message says what installs it."""
    write_study(trials=4, epochs=2, snapshots=0)
    monkeypatch.setitem(sys.modules, "kaleido", None)
    done = CliRunner().invoke(app, ["report", "digits", "--png", "images"])
    assert (done.exit_code, done.output) == (
        1, "Images need the package kaleido: pip install 'tunehook[report]' kaleido, and Chrome or Chromium\n"
    )  # fmt: skip


def test_a_report_that_cannot_be_written() -> None:
    """It is told in a line, and so is a trial that does not exist."""
    write_study(trials=4)
    done = CliRunner().invoke(app, ["report", "digits", "-o", "nowhere/digits.html"])
    assert done.exit_code == 1
    assert done.output.startswith("The report cannot be written: [Errno 2] No such file or directory")
    done = CliRunner().invoke(app, ["report", "digits", "--trial", "99"])
    assert (done.exit_code, done.output) == (1, "There is no trial 99.\n")


def test_a_large_study_is_a_small_file() -> None:
    """2,000 trials of 100 epochs are below 10 MB."""
    space = th.Space({"lr": th.Float(1e-5, 1e-1, log=True), **{f"x{n}": th.Float(0, 1) for n in range(8)}})
    steps = range(1, 101)
    trials = [
        TrialView(
            number, dict.fromkeys(space, 1e-3 + (number * 37 % 97) / 1e3),
            Outcome("complete", "trained to its end", math.sin(number), 100), began=60.0 * number,
            ended=60.0 * number + 300, host="node", curves={"acc": Curve(steps, [math.sin(number * s) for s in steps])},
        )
        for number in range(2000)
    ]  # fmt: skip
    page = make_page(StudyView("large", "acc", "max", space, trials, 11))
    assert len(page.encode()) < 10_000_000
    assert len(data_of(page)["figures"]["curves"]["data"]) == 2  # one trace a state, not one a trial
