"""Scripts that are run again for their trials: several ranks, several fits, errors, and runs of W&B's agent."""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest

import tunehook as th
from tunehook.trial.values import FinishedTrial
from waiting import PATIENCE
from warm import python

pytestmark = pytest.mark.slow

SCRIPT = """
import hashlib, logging, os, sys, warnings
warnings.simplefilter("ignore")
import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import tunehook as th
from tunehook.integrations.lightning import TuneCallback

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Net(L.LightningModule):
    def __init__(self, width=4, steps=1):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, width), nn.Dropout(0.2), nn.Linear(width, 1))
        self.steps = steps

    def training_step(self, batch, index):
        loss = ((self.net(batch[0]) - batch[1]) ** 2).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=self.steps)]


def fit(callbacks, width=4, batch_size=10, max_epochs=1, **settings):
    L.seed_everything(3, verbose=False)
    x = torch.randn(40, 4)
    loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=batch_size, shuffle=True)
    quiet = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    trainer = L.Trainer(max_epochs=max_epochs, callbacks=callbacks, accelerator="cpu", **quiet, **settings)
    net = Net(width, steps=len(loader) * trainer.max_epochs)
    trainer.fit(net, loader)
    weights = b"".join(one.detach().numpy().tobytes() for one in net.parameters())
    # In one piece, since ranks write at once.
    sys.stdout.write(f"TRAINED {hashlib.sha256(weights).hexdigest()} {trainer.global_step}\\n")


def study(space, search="random"):
    return th.Study("script", space, metric="loss", mode="min", search=search)

"""
END = """
if torch.distributed.is_initialized():  # torch may abort a process that ends without it
    torch.distributed.destroy_process_group()
"""
VALUES = '{"width": 7, "batch_size": 8, "max_epochs": 3}'


def run(folder: Path, code: str, *how: str, check: bool = True, **variables: str) -> tuple[list[str], str]:
    """Run a script in a process of its own; what it has trained, a line for each fit, and all that it wrote."""
    (folder / "train.py").write_text(SCRIPT + textwrap.dedent(code) + END)
    done = subprocess.run(
        [python(), *(how or ["train.py"])], cwd=folder, capture_output=True, text=True, timeout=PATIENCE,
        env={**os.environ, **variables}, check=False,
    )  # fmt: skip
    written = done.stdout + done.stderr
    assert (done.returncode == 0) is check, written
    return re.findall(r"^TRAINED (.+)$", done.stdout, re.MULTILINE), written


def trials(folder: Path) -> list[FinishedTrial]:
    """What the study has recorded."""
    return th.Study.open("script", folder=folder / "tunehook-studies" / "script").trials


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the script trains with the values typed in."""
    return run(tmp_path_factory.mktemp("plain"), "fit([], width=7, batch_size=8, max_epochs=3)")[0]


def test_two_ranks_that_lightning_starts(tmp_path: Path) -> None:
    """Each of them runs the script again, with the trial that rank 0 has asked for."""
    plain, written = run(tmp_path, 'fit([], width=7, batch_size=8, max_epochs=3, devices=2, strategy="ddp")')
    assert len(plain) == 2, written
    assert len(set(plain)) == 1
    tuned, written = run(tmp_path, f'fit([TuneCallback(study({VALUES}))], devices=2, strategy="ddp")')
    assert tuned == plain, written
    assert [trial.outcome.state for trial in trials(tmp_path)] == ["complete"]


TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
            "--rdzv-endpoint", "localhost:0", "train.py")  # fmt: skip
LAUNCHERS = pytest.mark.parametrize("how", [(), TORCHRUN], ids=["lightning", "torchrun"])
RANKS = 'ranks = {"devices": 2, "strategy": "ddp"}\n'
# Says at the very end of the process whether the ranks are still a group; once, for the script runs several times.
GROUP = """
import atexit
if not hasattr(sys, "last_word"):
    sys.last_word = atexit.register(lambda: sys.stdout.write(f"GROUP {torch.distributed.is_initialized()}\\n"))
"""


@LAUNCHERS
def test_two_ranks_derive_the_same_numbers(tmp_path: Path, how: tuple[str, ...]) -> None:
    """Each calls train again where a value belongs elsewhere, such as into the loader of which steps are counted."""
    space = '{"width": th.Int(5, 8), "batch_size": th.Choice([4, 8]), "max_epochs": 2}'
    code = f"study({space}).optimize(lambda: fit([TuneCallback()], **ranks), trials=2, progress=False)"
    tuned, written = run(tmp_path, RANKS + code, *how)
    assert len(tuned) == 4, written
    plain = [run(tmp_path, RANKS + f"fit([], **{one.params}, **ranks)", *how)[0] for one in trials(tmp_path)]
    assert sorted(tuned) == sorted(line for lines in plain for line in lines)


def test_two_ranks_of_torchrun(tmp_path: Path) -> None:
    """Each of them runs the script again once it knows its trial."""
    plain, written = run(tmp_path, RANKS + "fit([], width=7, batch_size=8, max_epochs=3, **ranks)", *TORCHRUN)
    assert len(plain) == 2, written
    code = RANKS + GROUP + f"fit([TuneCallback(study({VALUES}))], **ranks)"
    tuned, written = run(tmp_path, code, *TORCHRUN)
    assert tuned == plain, written
    # A group that Python's end finds there may abort the process after all is done.
    assert written.count("GROUP False") == 2, written
    assert [trial.outcome.state for trial in trials(tmp_path)] == ["complete"]


@LAUNCHERS
def test_a_loop_of_fits_of_two_ranks(tmp_path: Path, how: tuple[str, ...]) -> None:
    """The other rank would not hear of the second trial: an error, before it is asked for."""
    code = f"made = study({VALUES})\nfor _ in range(2):\n    fit([TuneCallback(made)], **ranks)"
    _, written = run(tmp_path, RANKS + code, *how, check=False)
    assert "TrialError: The script goes on to a second trial, but its training has several ranks" in written
    assert [trial.outcome.state for trial in trials(tmp_path)] == ["complete"]


# Made with a width, from which its configuration derives another one.
DERIVED = """
import dataclasses


@dataclasses.dataclass
class Config:
    width: int = 4
    more: int | None = None

    def __post_init__(self):
        self.more = 2 * self.width + 1 if self.more is None else self.more


class Derived(Net):
    def __init__(self, config, steps):
        super().__init__(config.width, steps)
        self.net = nn.Sequential(self.net[0], nn.Linear(config.width, config.more), nn.Linear(config.more, 1))


def Net(width, steps):
    sys.stdout.write("CALLED\\n")
    return Derived(Config(width), steps)
"""


def test_a_configuration_that_derives_a_value(tmp_path: Path) -> None:
    """It equals the typed-in script: on two ranks, whose scripts define the class again, and in trial processes."""
    plain, _ = run(tmp_path, DERIVED + RANKS + "fit([], width=7, **ranks)")
    tuned, written = run(tmp_path, DERIVED + RANKS + 'fit([TuneCallback(study({"width": 7}))], **ranks)')
    assert tuned == plain, written
    assert len(tuned) == 2

    folder = tmp_path / "processes"
    folder.mkdir()
    code = """
if __name__ == "__main__":
    study({"width": th.Choice([5, 6])}, "grid").optimize(lambda: fit([TuneCallback()]), workers=1, progress=False)
    fit([], width=5)
    fit([], width=6)
"""
    plain, _ = run(folder, DERIVED + code)
    recorded = trials(folder)
    outputs = [(folder / f"tunehook-studies/script/trial-000{one.number}/output.txt").read_text() for one in recorded]
    for trial, output in zip(recorded, outputs, strict=True):
        assert re.findall("^TRAINED (.+)$", output, re.MULTILINE) == [plain[trial.params["width"] - 5]], output
    assert outputs[1].count("CALLED") == 1


def test_a_loop_of_fits(tmp_path: Path) -> None:
    """Each round is a trial, whose values go into its objects. A module that draws is imported again."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own/noise.py").write_text("import random\nDICE = random.Random(5)\n")
    (tmp_path / "own/data.py").write_text("from own import noise\ndef draw(): return noise.DICE.random()\n")
    draws = "from own.data import draw\nsys.stdout.write(f'TRAINED {draw()}\\n')\n"
    space = '{"width": th.Int(5, 8), "batch_size": th.Choice([4, 8]), "max_epochs": th.Int(1, 3)}'
    tuned, _ = run(tmp_path, f"{draws}made = study({space})\nfor _ in range(3):\n    fit([TuneCallback(made)])")
    recorded = trials(tmp_path)
    assert len({str(trial.params) for trial in recorded}) > 1
    plain, _ = run(tmp_path, draws + "\n".join(f"fit([], **{trial.params})" for trial in recorded))
    assert tuned[-4:] == plain
    assert {*tuned[:-4]} == {plain[0]}  # the script begins once more


def test_a_script_that_changes_where_it_runs_and_with_what(tmp_path: Path, plain: list[str]) -> None:
    """It is run again where it began, and with its arguments."""
    (tmp_path / "out").mkdir()
    code = f"""
    import os, sys
    sys.argv.pop(1)
    os.chdir("out")
    fit([TuneCallback(th.Study("script", {VALUES}, metric="loss", mode="min", search="random", folder="../one"))])
    """
    tuned, _ = run(tmp_path, code, "train.py", "argument")
    assert tuned == plain


def test_a_study_that_is_elsewhere_in_each_run_of_the_script(tmp_path: Path) -> None:
    """Its trial would be in the folder of the first run, of which the script knows nothing any more."""
    code = f"""
    import tempfile
    folder = tempfile.mkdtemp()
    fit([TuneCallback(th.Study("script", {VALUES}, metric="loss", mode="min", search="random", folder=folder))])
    """
    tuned, written = run(tmp_path, code, check=False)
    assert tuned == []
    assert "TrialError: The study 'script' is in " in written
    assert "each run makes the study elsewhere" in written


def test_both_ways_to_ask_for_a_trial(tmp_path: Path) -> None:
    """The run of the script that has a trial of TuneCallback(study) begins none of study.optimize."""
    code = f"""
    made = study({VALUES})
    made.optimize(lambda: fit([TuneCallback()]), trials=1, progress=False)
    fit([TuneCallback(made)])
    """
    _, written = run(tmp_path, code, check=False)
    assert written.rstrip().rpartition("TrialError: ")[2] == (
        "study.optimize is called by a script that is run again for trial 1 of study 'script', which a "
        "TuneCallback(study) has asked for.\n"
        "  Keep one of them: study.optimize(train, trials=...) with TuneCallback() in the fit of train, or a script "
        "with TuneCallback(study) alone, which trains one trial each time that it is started."
    )


def test_an_error_after_the_fit_is_the_scripts_own(tmp_path: Path) -> None:
    """The trial is complete, and the process ends as the script does."""
    _, written = run(tmp_path, f"fit([TuneCallback(study({VALUES}))])\nraise SystemExit('mine')", check=False)
    assert written.rstrip().endswith("mine")
    assert [trial.outcome.state for trial in trials(tmp_path)] == ["complete"]


def test_an_error_in_the_fit_fails_the_trial(tmp_path: Path) -> None:
    """And ends the process with it."""
    code = f"Net.on_train_end = lambda self: 1 / 0\nfit([TuneCallback(study({VALUES}))])"
    _, written = run(tmp_path, code, check=False)
    assert "ZeroDivisionError: division by zero" in written
    (trial,) = trials(tmp_path)
    assert (trial.outcome.state, trial.outcome.reason) == ("failed", "ZeroDivisionError: division by zero")


def test_a_value_that_is_read_before_its_trial_is_known(tmp_path: Path, plain: list[str]) -> None:
    """In a loop it would be an earlier trial's: an error."""
    read = 'width = th.value("width", 4)'
    code = f"made = study({VALUES})\nfor _ in range(2):\n    {read}\n    fit([TuneCallback(made)], width=width)"
    tuned, written = run(tmp_path, code, check=False)
    assert tuned == plain
    assert "th.value('width', ...) was read before this trial was known" in written


def test_a_script_of_a_sweep(tmp_path: Path, plain: list[str]) -> None:
    """The values that W&B's agent hands to a script go into its calls too."""
    file = tmp_path / "config-run.yaml"
    file.write_text("width: {value: 7}\nbatch_size: {value: 8}\ntrainer: {value: {max_epochs: 3}}\n")
    sweep: dict[str, Any] = {"WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "run", "WANDB_SWEEP_PARAM_PATH": str(file)}
    code = "import wandb\nwith wandb.init() as run:\n    fit([TuneCallback()])\n    print('RUN', run.id)"
    tuned, written = run(tmp_path, code, **sweep, WANDB_MODE="offline", WANDB_SILENT="true")
    assert tuned == plain
    assert re.findall("^RUN .*$", written, re.MULTILINE) == ["RUN run"]
