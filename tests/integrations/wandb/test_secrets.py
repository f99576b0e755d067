"""Secrets among the values in force reach neither the journal nor W&B's run file, which say that they left them out."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

import tunehook as th
from run_file import read_runs
from tunehook.inject import Slot
from tunehook.record import LEFT_OUT, Config, read_events
from tunehook.study import Study
from tunehook.trial import Outcome

wandb = pytest.importorskip("wandb")
from tunehook.integrations.wandb import WandbRecorder  # noqa: E402


@dataclass
class Login:
    """A configuration, as users write it."""

    user: str = "me"
    password: str = "s3cret"  # noqa: S105 - what is looked for
    num_tokens: int = 64


class Client:
    """An object whose ``repr`` shows what it holds, by no name."""

    def __init__(self, access_token: str) -> None:
        self.inner = SimpleNamespace(access_token=access_token)

    def __repr__(self) -> str:
        return f"Client({self.inner.access_token!r}, {'x' * 300})"


class Size(enum.Enum):
    """An object of another class."""

    SMALL = 1


HELD: dict[str, Any] = {
    "model.token": "s3cret", "model.api_key": "s3cret", "model.password": "s3cret", "model.my_field": "s3cret",
    "data.db_url": "postgresql://me:s3cret@h/d?sslpassword=s3cret", "data.secret": SecretStr("s3cret"),
    "model.login": Login(),
    "model.cfg": {"aws": {"secret_access_key": "s3cret", "region": "eu"}, "n": [{"token": "s3cret"}]},
    "data.headers": {"Authorization": "Bearer s3cret"}, "data.inner": [{"my_field": ["s3cret"]}],
    "model.size": Size.SMALL, "model.client": Client("s3cret-2"), "model.space": SimpleNamespace(a=[{"pwd": "s3cret"}]),
    "data.note": "it is s3cret", "data.list": [Client("s3cret-3")],
    "model.num_tokens": 64, "model.token_embedding_size": 8, "model.max_tokens": 9, "model.tokenizer": "bpe",
    "model.key_dim": 4, "model.pad_token": "<pad>", "model.use_auth_token": True, "model.hf_token": None,
    "model.lr": 0.5,
}  # fmt: skip


def test_no_record_has_a_secret() -> None:
    """At any depth; what is none though it sounds so is recorded, and so is every value of the space."""
    space = {"model.lr": th.Fixed(0.5), "model.access_token": th.Choice(["one", "two"])}
    study = Study("digits", space, metric="acc", mode="max", search="random", secrets=["my_field"],
                  recorders=[WandbRecorder("digits", lean=True)])  # fmt: skip
    trial = study.ask()
    held = {**HELD, "model.access_token": "mine"}
    slots = [Slot(path, partial(held.get, path), partial(held.__setitem__, path)) for path in held]
    session = study.session(trial)
    session.begin(slots)
    session.ready()
    session.report(1, {"acc": 0.5})
    session.end()
    (config,) = [event for event in read_events(study.paths.journal(0)) if isinstance(event, Config)]
    told = dict(config.effective)
    assert told.pop("model.access_token") == trial.params["model.access_token"]
    assert told == {
        **dict.fromkeys(("model.token", "model.api_key", "model.password", "model.my_field", "data.secret"), LEFT_OUT),
        "data.db_url": f"postgresql://me:{LEFT_OUT}@h/d?sslpassword={LEFT_OUT}",
        "model.login": f"Login(user='me', password={LEFT_OUT}, num_tokens=64)",
        "model.cfg": {"aws": {"secret_access_key": LEFT_OUT, "region": "eu"}, "n": [{"token": LEFT_OUT}]},
        "data.headers": {"Authorization": LEFT_OUT}, "data.inner": [{"my_field": LEFT_OUT}],
        "model.size": "<Size.SMALL: 1>", "model.space": f"namespace(a=[{{'pwd': {LEFT_OUT}}}])",
        "model.client": (client := f"Client('{LEFT_OUT}', {'x' * 300})")[:95] + "..." + client[-95:],
        "data.note": f"it is {LEFT_OUT}", "data.list": [client[:95] + "..." + client[-95:]],
        **{path: HELD[path] for path in [*HELD][[*HELD].index("model.num_tokens") :]},
    }  # fmt: skip
    (run,) = (one for one in read_runs(Path()) if one.job_type == "trial")
    assert run.config["tunehook"]["slots"]["model.cfg"] == told["model.cfg"]
    written = [path for path in Path().rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
    assert written == []
    assert session.outcome == Outcome("complete", session.outcome.reason, 0.5, 1) if session.outcome else False


@pytest.mark.parametrize("secrets", ["my_field", [1], [""], [None]])
def test_names_that_are_none(secrets: Any) -> None:
    """They are refused, as what was passed."""
    with pytest.raises(TypeError, match=r"^secrets is a list of names, such as \['my_field'\]; got "):
        Study("digits", {"lr": th.Float(0, 1)}, metric="acc", mode="max", secrets=secrets)
