"""Whether the runs of W&B, recorded offline, say what the journals of a study say."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from run_file import read_run
from wandb_server import online, serving


def journals(study: Path) -> list[Path]:
    """Those of a study's folder, in the order of the trials."""
    return sorted(study.glob("*/journal.jsonl"))


def events(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal, each of which has to be whole."""
    data = path.read_bytes()
    assert data == b"" or data.endswith(b"\n"), path
    return [json.loads(line) for line in data.splitlines()]


def check_runs(study: Path, done: Collection[int], steps: Sequence[int]) -> set[str]:
    """Fragments hold what no earlier attempt made, each step once; the keys of trials that none holds to the end.

    Args:
        study: The study's folder; the runs are in ``wandb`` here.
        done: The numbers of the trials that are complete.
        steps: The steps that each of them reports the metric ``v`` at.
    """
    begun = {found[0]["trial"]: found[0] for path in journals(study) if (found := events(path))}
    keys = {number: event["key"] for number, event in begun.items()}
    rows = {
        int(path.parent.name[-4:]): [
            (event["step"], event["metrics"]["v"]) for event in events(path) if event["event"] == "report"
        ] for path in journals(study)
    }  # fmt: skip
    attempts: dict[str, list[int]] = {}
    for number, key in sorted(keys.items()):
        attempts.setdefault(key, []).append(number)
    whole: Counter[int] = Counter()
    there: dict[str, list[int]] = {}
    for path in Path("wandb").glob("offline-run-*/*.wandb"):
        run = read_run(path)
        if run.job_type != "trial":  # the study's own, or of a process that was killed as the run began
            continue
        number = run.config["tunehook"]["trial"]
        assert run.id == f"{begun[number]['study']}-{keys[number]}"
        logged = [(row["trial/step"], row["v"]) for row in run.rows if "v" in row]
        made = max((len(rows[other]) for other in attempts[keys[number]] if other < number), default=0)
        assert logged == rows[number][made : made + len(logged)]
        there.setdefault(run.id, []).extend(step for step, _ in logged)
        if run.summary.get("outcome") == "complete" and run.exit_code is not None:
            assert (number in done, run.exit_code, [step for step, _ in logged]) == (True, 0, [*steps][made:])
            whole[number] += 1
    assert there
    assert set(whole.values()) <= {1}
    assert [run_id for run_id, seen in there.items() if len(seen) != len(set(seen))] == []
    return {keys[number] for number in done if number not in whole}


def check_upload(study: Path, chosen: Collection[str], steps: Sequence[int]) -> None:
    """After `tunehook sync` W&B has each step of the trials of these keys once."""
    from tunehook.integrations.wandb.sync import Synced, sync

    expected = {}
    for path in journals(study):
        found = events(path)
        if found and found[0]["key"] in chosen:
            shutil.copytree(path.parent, Path("chosen", path.parent.name))
            expected[f"{found[0]['study']}-{found[0]['key']}"] = [*steps]
    told: list[Synced] = []
    with serving() as server, online(server, Path("uploaded").absolute()):
        sync(Path("chosen"), told.append)
        assert {each.state for each in told} == {"uploaded"}, told
        sync(Path("chosen"), told.append)
        assert {each.state for each in told[len(chosen) :]} == {"complete"}, told
    assert len(told) == 2 * len(chosen)
    assert {name: run.column("trial/step") for name, run in server.runs.items()} == expected
    assert {(run.exit_code, run.summary["outcome"]) for run in server.runs.values()} == {(0, "complete")}
