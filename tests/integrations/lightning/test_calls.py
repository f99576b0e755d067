"""Inside a study a value goes into the call that makes its object, so that all a script derives from it follows."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import importlib
import re
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

import optuna
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import tunehook as th
from lightning_projects import NAMESPACES, dataset, seed
from tunehook.inject import trace
from tunehook.integrations.lightning import TuneCallback
from tunehook.launch.one import forget_plans
from tunehook.record.paths import plans_of
from tunehook.trial.errors import InjectionError, TrialError

pytestmark = pytest.mark.filterwarnings("ignore")  # of Lightning: small data, few workers


class Project:
    """A small project in one of Lightning's namespaces: what its scripts put together."""

    def __init__(self, pl: Any) -> None:
        self.pl = pl

        class Net(pl.LightningModule):  # type: ignore[misc]
            def __init__(
                self, hidden: int = 4, lr: float = 0.1, dropout: float = 0.0, steps: int = 0, body: Any = None
            ) -> None:
                super().__init__()
                self.lr, self.steps = lr, steps
                self.net = body or nn.Sequential(
                    nn.Linear(4, hidden), nn.Tanh(), nn.Dropout(dropout), nn.Linear(hidden, 1)
                )

            def training_step(self, batch: Any, _index: int) -> Any:
                return nn.functional.mse_loss(self.net(batch[0]), batch[1])

            def validation_step(self, batch: Any, index: int) -> None:
                self.log("val_loss", self.training_step(batch, index))

            def configure_optimizers(self) -> Any:
                made = torch.optim.SGD(self.parameters(), lr=self.lr)
                if not self.steps:
                    return made
                cycle = torch.optim.lr_scheduler.OneCycleLR(made, self.lr, total_steps=self.steps)
                return {"optimizer": made, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}

        class Data(pl.LightningDataModule):  # type: ignore[misc]
            def __init__(self, batch_size: int = 8) -> None:
                super().__init__()
                self.batch_size = batch_size

            def train_dataloader(self) -> Any:
                return DataLoader(dataset(), self.batch_size, shuffle=True)

            def val_dataloader(self) -> Any:
                return DataLoader(dataset(), 40)

        self.net, self.data = Net, Data

    def trainer(self, callbacks: Any, **settings: Any) -> Any:
        """A quiet trainer."""
        quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        given = {"max_epochs": 2, "accelerator": "cpu", "logger": False, **quiet, **settings}
        return self.pl.Trainer(**given, callbacks=[*callbacks])


Script = Callable[..., Any]
_projects: dict[str, Project] = {}


@pytest.fixture(params=NAMESPACES)
def project(request: pytest.FixtureRequest) -> Project:
    """The project in one namespace."""
    return _projects.setdefault(request.param, Project(importlib.import_module(request.param)))


def derived(project: Project, *callbacks: Any, hidden: int = 4, batch_size: int = 8, max_epochs: int = 2) -> Any:
    """The number of steps comes from the datamodule and the Trainer."""
    trainer, data = project.trainer(callbacks, max_epochs=max_epochs), project.data(batch_size)
    model = project.net(hidden, steps=len(data.train_dataloader()) * trainer.max_epochs)
    trainer.fit(model, data)
    return model


def changed(project: Project, *callbacks: Any, hidden: int = 4, lr: float = 0.1) -> Any:
    """Between construction and fit the model is initialized by hand, frozen in part, run, and given an attribute."""
    model: Any = project.net(hidden, lr)
    nn.init.zeros_(model.net[0].weight)
    model.net[0].bias.requires_grad_(False)
    model.note = "mine"
    model.net(torch.rand(2, 4))
    project.trainer(callbacks).fit(model, project.data())
    return model


def held(project: Project, *callbacks: Any, hidden: int = 4, dropout: float = 0.0) -> Any:
    """A callback that stands before ours holds a part of the model, and changes it at the end."""

    class Holder(project.pl.Callback):  # type: ignore[name-defined,misc]
        def __init__(self, part: Any) -> None:
            self.part = part

        def on_train_end(self, *_: Any) -> None:
            self.part[0].weight.data.mul_(2)

    model = project.net(hidden, dropout=dropout)
    project.trainer([Holder(model.net), *callbacks]).fit(model, project.data())
    return model


def taught(project: Project, *callbacks: Any, hidden: int = 4, batch_size: int = 8) -> Any:
    """A second model of the same class keeps its own width."""
    teacher = project.net()
    model = project.net(hidden)
    model.teacher = [teacher]
    project.trainer(callbacks).fit(model, project.data(batch_size))
    assert teacher.net[0].out_features == 4
    return model


def phases(project: Project, *callbacks: Any, lr: float = 0.1, max_epochs: int = 2) -> Any:
    """The second fit has a smaller rate, and a Trainer with a length of its own."""
    model = project.net(lr=lr)
    project.trainer(callbacks, max_epochs=max_epochs).fit(model, project.data())
    model.lr = model.lr / 10
    project.trainer(callbacks, max_epochs=1).fit(model, project.data())
    return model


def folds(project: Project, *callbacks: Any, hidden: int = 4) -> Any:
    """Each round of a loop makes its own model."""
    for _ in range(2):
        model = project.net(hidden)
        project.trainer(callbacks).fit(model, project.data())
    return model


def models_first(project: Project, *callbacks: Any, hidden: int = 4) -> Any:
    """All models are made before the first is trained."""
    models = [project.net(hidden) for _ in range(2)]
    for model in models:
        project.trainer(callbacks).fit(model, project.data())
    return models[1]


def decided_by_the_trainer(project: Project, *callbacks: Any, precision: Any = None, limit: Any = None) -> Any:
    """What a Trainer decides when it is made."""
    model = project.net()
    project.trainer(callbacks, precision=precision, limit_train_batches=limit).fit(model, project.data())
    return model


def dependent(project: Project, *callbacks: Any, hidden: int = 4) -> Any:
    """Which object is trained depends on the value."""
    small: Any = project.net(3)
    large: Any = project.net(hidden)
    model = large if large.net[0].out_features > 4 else small
    project.trainer(callbacks).fit(model, project.data())
    return model


def undecided(project: Project, *callbacks: Any, hidden: int = 4) -> Any:
    """Whichever model gets the value, the other one is trained."""
    first: Any = project.net(hidden)
    second: Any = project.net(3)
    model = second if first.net[0].out_features == 6 else first
    project.trainer(callbacks).fit(model, project.data())
    return model


def reading(project: Project, *callbacks: Any, hidden: int = 4, lr: float = 0.1) -> Any:
    """The width is read by the script, doubled, and given to a constructor that has an argument of its name."""
    model = project.net(2 * th.value("hidden", hidden), lr)
    project.trainer(callbacks).fit(model, project.data())
    return model


class Body(nn.Sequential):
    """A network that is an argument of the module."""

    def __init__(self, width: int = 4, rate: float = 0.0) -> None:
        super().__init__(nn.Linear(4, width), nn.Dropout(rate), nn.Linear(width, 1))


def given_a_network(project: Project, *callbacks: Any, width: int = 4, rate: float = 0.0) -> Any:
    """The network is made by itself, run once, and given to the module."""
    body = Body(width, rate=rate)
    body(torch.rand(2, 4))
    model = project.net(body=body)
    project.trainer(callbacks).fit(model, project.data())
    return model


def given_networks(project: Project, *callbacks: Any, width: int = 4) -> Any:
    """The networks that the module is given are made by one call in a loop."""

    class Many(project.net):  # type: ignore[name-defined,misc]
        def __init__(self, parts: Any) -> None:
            super().__init__()
            self.net = nn.ModuleList(parts)

        def training_step(self, batch: Any, _index: int) -> Any:
            return nn.functional.mse_loss(sum(part(batch[0]) for part in self.net), batch[1])

    model = Many([Body(width) for _ in range(2)])
    project.trainer(callbacks).fit(model, project.data())
    return model


def given_loaders(project: Project, *callbacks: Any, batch_size: int = 8) -> Any:
    """The number of steps comes from a loader that is passed to fit."""
    loader = DataLoader(dataset(), batch_size=batch_size, shuffle=True)
    model = project.net(steps=len(loader) * 2)
    project.trainer(callbacks).fit(model, loader, DataLoader(dataset(), 40))
    return model


def given_the_rest(project: Project, *callbacks: Any, batch_size: int = 8) -> Any:
    """The datamodule takes what its loader takes, and keeps it."""

    class Data(project.pl.LightningDataModule):  # type: ignore[name-defined,misc]
        def __init__(self, **loading: Any) -> None:
            super().__init__()
            self.loading = loading

        def train_dataloader(self) -> Any:
            return DataLoader(dataset(), shuffle=True, **self.loading)

        def val_dataloader(self) -> Any:
            return DataLoader(dataset(), 40)

    model = project.net()
    project.trainer(callbacks).fit(model, Data(batch_size=batch_size))
    return model


def folds_of_loaders(project: Project, *callbacks: Any, batch_size: int = 8) -> Any:
    """Each fold has loaders of its own."""
    for _ in range(2):
        model = project.net()
        project.trainer(callbacks).fit(
            model, DataLoader(dataset(), batch_size, shuffle=True), DataLoader(dataset(), 40)
        )
    return model


def given_callbacks(project: Project, *callbacks: Any, patience: int = 3, threshold: float | None = None) -> Any:
    """A callback of Lightning's ends the training early."""
    stopping = importlib.import_module(f"{project.pl.__name__}.callbacks").EarlyStopping
    model = project.net()
    ours = stopping("val_loss", patience=patience, min_delta=100.0, stopping_threshold=threshold)
    project.trainer([ours, *callbacks], max_epochs=6).fit(model, project.data())
    return model


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of a model, one of which is computed."""

    hidden: int = 4
    lr: float = 0.1
    decay: float = dataclasses.field(init=False, default=0.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "decay", self.lr / 10)


def configured(project: Project, *callbacks: Any, hidden: int = 4, lr: float = 0.1) -> Any:
    """The module takes its settings in an object, beside an optimizer that has a rate too."""

    class Net(project.net):  # type: ignore[name-defined,misc]
        def __init__(self, config: Config) -> None:
            super().__init__(config.hidden, config.lr)
            self.config = config

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.config.lr, weight_decay=self.config.decay)

    config = Config(hidden, lr)
    model = Net(config)
    project.trainer(callbacks).fit(model, project.data())
    assert config == Config(hidden, lr)  # the script's own is not changed
    return model


def distilled(project: Project, *callbacks: Any, width: int = 4, hidden: int = 4) -> Any:
    """What is trained begins with what another network gives, to which no argument leads."""
    teacher = Body(width)
    model: Any = project.net(hidden)
    model.net[0].bias.data.fill_(teacher(torch.ones(1, 4)).item())
    project.trainer(callbacks).fit(model, project.data())
    return model


def given_an_optimizer(project: Project, *callbacks: Any, lr: float = 0.1, momentum: float = 0.0) -> Any:
    """The optimizer is made by the script, with a scheduler, and handed over."""

    class Net(project.net):  # type: ignore[name-defined,misc]
        def configure_optimizers(self) -> Any:
            return {"optimizer": self.made, "lr_scheduler": self.scheduler}

    model = Net()
    model.made = torch.optim.SGD(model.parameters(), lr, momentum=momentum)
    model.scheduler = torch.optim.lr_scheduler.StepLR(model.made, 1, gamma=model.made.defaults["lr"] * 5)
    project.trainer(callbacks).fit(model, project.data())
    return model


def optimized_in_setup(project: Project, *callbacks: Any, lr: float = 0.1) -> Any:
    """The module makes its optimizer when it is set up; a callback and a teacher have optimizers of their own."""
    rates = []

    class Ema(project.pl.Callback):  # type: ignore[name-defined,misc]
        def on_fit_start(self, _trainer: Any, module: Any) -> None:
            self.own = torch.optim.SGD(module.parameters(), lr=0.5)
            rates.append(self.own.param_groups[0]["lr"])

    class Net(project.net):  # type: ignore[name-defined,misc]
        def setup(self, stage: str) -> None:
            teacher = project.net(lr=0.3)
            project.trainer([], max_epochs=1).fit(teacher, project.data())
            rates.append(teacher.lr)
            self.made = torch.optim.SGD(self.parameters(), lr=0.1)

        def configure_optimizers(self) -> Any:
            return self.made

    class Typed(Net):
        def setup(self, stage: str) -> None:
            super().setup(stage)
            self.made = torch.optim.SGD(self.parameters(), lr=lr)

    model = (Net if callbacks else Typed)(lr=0.7)
    project.trainer([Ema(), *callbacks]).fit(model, project.data())
    assert set(rates) == {0.3, 0.5}
    return model


def copied(project: Project, *callbacks: Any, hidden: int = 4, lr: float = 0.1) -> Any:
    """A library trains copies of the models that it is given, and sets attributes on them first."""
    models = [project.net(hidden, lr)]
    (model,) = copy.deepcopy(models)
    del models
    model.trained_by = "library"
    project.trainer(callbacks).fit(model, project.data())
    return model


def saved(project: Project, *callbacks: Any, width: int = 4, rate: float = 0.0) -> Any:
    """The constructor saves its arguments, and reads them from there."""

    class Saving(project.net):  # type: ignore[name-defined,misc]
        def __init__(self, width: int = 4, rate: float = 0.0) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.build()

        def build(self) -> None:
            layers = nn.Linear(4, self.hparams["width"]), nn.Dropout(self.hparams.rate)
            self.net = nn.Sequential(*layers, nn.Linear(self.hparams["width"], 1))

    model = Saving(width, rate)
    project.trainer(callbacks).fit(model, project.data())
    return model


def of_a_project(project: Project, *callbacks: Any, max_epochs: int = 2, batch_size: int = 8, lr: float = 0.1) -> Any:
    """The module takes the settings of the whole project, and reads one of them."""

    class Net(project.net):  # type: ignore[name-defined,misc]
        def __init__(self, config: Any) -> None:
            super().__init__(lr=config["lr"])

    model = Net({"lr": lr, "max_epochs": 7, "batch_size": 7})
    trainer = project.trainer(callbacks, max_epochs=max_epochs)
    trainer.fit(model, DataLoader(dataset(), batch_size, shuffle=True), DataLoader(dataset(), 40))
    return model


CASES = [
    (of_a_project, {"max_epochs": 3, "batch_size": 10, "lr": 0.05}, {}),
    (copied, {"hidden": 6, "lr": 0.05}, {}),
    (saved, {"width": 6, "rate": 0.4}, {}),
    (given_a_network, {"width": 6, "rate": 0.4}, {}),
    (given_a_network, {"width": 6, "rate": 0.4}, {"Body.width": "width", "model.body.rate": "rate"}),
    (given_loaders, {"batch_size": 10}, {}),
    (folds_of_loaders, {"batch_size": 10}, {}),
    (given_callbacks, {"patience": 1}, {}),
    (given_callbacks, {"threshold": 99.0}, {"EarlyStopping.stopping_threshold": "threshold"}),
    (configured, {"hidden": 6, "lr": 0.05}, {}),
    (configured, {"hidden": 6, "lr": 0.05}, {"model.config.hidden": "hidden", "config.lr": "lr"}),
    (given_the_rest, {"batch_size": 10}, {}),
    (given_networks, {"width": 6}, {}),
    (given_networks, {"width": 6}, {"Body.width": "width"}),
    (distilled, {"width": 6, "hidden": 5}, {}),
    (distilled, {"width": 6, "hidden": 5}, {"Body.width": "width", "Net.hidden": "hidden"}),
    (given_an_optimizer, {"lr": 0.05, "momentum": 0.5}, {"optimizer.lr": "lr", "optimizer.momentum": "momentum"}),
    (optimized_in_setup, {"lr": 0.05}, {"optimizer.lr": "lr"}),
    (changed, {"hidden": 6, "lr": 0.05}, {"*.hidden": "hidden", "Net.l*": "lr"}),
    (derived, {"hidden": 6, "batch_size": 10, "max_epochs": 3}, {}),
    (changed, {"hidden": 6, "lr": 0.05}, {}),
    (held, {"hidden": 6, "dropout": 0.4}, {}),
    (taught, {"hidden": 6}, {}),
    (phases, {"lr": 0.05, "max_epochs": 3}, {}),
    (folds, {"hidden": 6}, {}),
    (models_first, {"hidden": 6}, {}),
    (decided_by_the_trainer, {"precision": "bf16-mixed", "limit": 3}, {"trainer.limit_train_batches": "limit"}),
    (dependent, {"hidden": 6}, {}),
    (reading, {"hidden": 6, "lr": 0.05}, {}),
]


@pytest.mark.parametrize(("script", "values", "names"), CASES)
def test_a_script_equals_itself_with_the_values_typed_in(
    project: Project, script: Script, values: dict[str, Any], names: dict[str, str]
) -> None:
    """All weights, in the first trial and in the second, bit for bit; the script's own values give others."""
    space = {name: value for name, value in values.items() if name not in names.values()}
    space.update({path: values[name] for path, name in names.items()})
    weights = []

    def train() -> None:
        seed()
        weights.append(script(project, TuneCallback()).state_dict())

    study = th.Study("calls", space, metric="val_loss", mode="min", search="random")
    study.optimize(train, trials=2, progress=False)
    seed()
    typed_in = script(project, **values).state_dict()
    seed()
    own = script(project).state_dict()
    for tuned in weights:
        assert tuned.keys() == typed_in.keys()
        assert all(torch.equal(tuned[name], weight) for name, weight in typed_in.items())
    assert not all(typed_in[name].shape == own[name].shape and torch.equal(typed_in[name], own[name]) for name in own)


def test_train_is_called_once_more_only_where_a_value_belongs_elsewhere(project: Project) -> None:
    """With the teacher, whose constructor takes the name too, in the first trial; never with the others."""
    for script, expected in ((changed, 2), (taught, 3)):
        made: list[str] = []

        def train(script: Script = script, made: list[str] = made) -> None:
            made.append(script.__name__)
            script(project, TuneCallback())

        name = f"{script.__name__}-{project.pl.__name__}"
        study = th.Study(name, {"hidden": 6}, metric="val_loss", mode="min", search="random")
        study.optimize(train, trials=2, progress=False)
        assert len(made) == expected
        study.optimize(train, trials=3, progress=False)  # as another process does: by what the study's folder says
        assert len(made) == expected + 1


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"hidden": 3}', '{"hidden": {"calls": [["x"]], "late": []}}', '{"hidden": {"calls": [], "late": []}}'],
)
def test_what_a_study_keeps_of_its_script_is_only_a_hint(project: Project, text: str) -> None:
    """A file that is damaged, or of an older script, costs a call of train."""
    study = th.Study("calls", {"hidden": th.Int(5, 9)}, metric="val_loss", mode="min", search="random")
    widths, folders = [], []

    def train() -> None:
        trial = th.current()
        assert trial is not None
        folders.append(trial.folder)
        widths.append(taught(project, TuneCallback()).net[0].out_features)

    study.optimize(train, trials=1, progress=False)
    plans = plans_of(folders[0])
    assert '"hidden"' in plans.read_text()
    plans.write_text(text)
    study.optimize(train, trials=2, progress=False)
    assert widths == [trial.params["hidden"] for trial in study.trials]


def test_a_short_name_of_a_callback_and_of_a_scheduler(project: Project) -> None:
    """Both exist, and have other values: the name is told to be ambiguous."""

    class Net(project.net):  # type: ignore[name-defined,misc]
        def configure_optimizers(self) -> Any:
            made = super().configure_optimizers()
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(made, patience=5)
            return {"optimizer": made, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}

    def train() -> None:
        stopping = importlib.import_module(f"{project.pl.__name__}.callbacks").EarlyStopping
        project.trainer([TuneCallback(), stopping("val_loss")]).fit(Net(), project.data())

    study = th.Study("calls", {"patience": 2}, metric="val_loss", mode="min", search="random")
    message = (
        r"^The hyperparameter 'patience' could go to callback.EarlyStopping.patience and scheduler.patience.\n"
        r"  Write the full path in the space, for example 'callback.EarlyStopping.patience'.$"
    )
    with pytest.raises(InjectionError, match=message):
        study.optimize(train, trials=1, progress=False)


def test_an_argument_that_is_passed_on_by_its_place(project: Project) -> None:
    """The value would be given twice; the way out is to name the argument."""

    class Handing(project.net):  # type: ignore[name-defined,misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)

    def train() -> None:
        project.trainer([TuneCallback()]).fit(Handing(4), project.data())

    study = th.Study("calls", {"hidden": 6}, metric="val_loss", mode="min", search="random")
    message = (
        r"^Handing at test_calls.py:\d+ cannot be constructed with hidden = 6: TypeError: .* multiple values "
        r"for argument 'hidden'\n  Pass it by its name where the object is made.$"
    )
    with pytest.raises(InjectionError, match=message):
        study.optimize(train, trials=1, progress=False)


def test_a_script_that_catches_everything(project: Project) -> None:
    """What leaves train to call it once more must not be caught."""

    def train() -> None:
        with contextlib.suppress(BaseException):
            taught(project, TuneCallback())

    study = th.Study("calls", {"hidden": 6}, metric="val_loss", mode="min", search="random")
    with pytest.raises(InjectionError, match=r"^train has caught the exception that leaves it, to call it once more"):
        study.optimize(train, trials=1, progress=False)


def test_an_optimizer_that_makes_no_step(project: Project) -> None:
    """The value of the second optimizer changes nothing, since manual optimization steps the first one only."""

    class Net(project.net):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, index: int) -> None:
            first, _ = self.optimizers()
            first.zero_grad()
            self.manual_backward(super().training_step(batch, index))
            first.step()

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_loss", super().training_step(batch, index))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1), torch.optim.Adam(self.parameters(), lr=0.1)

    def train() -> None:
        project.trainer([TuneCallback()]).fit(Net(), project.data())

    message = (
        r"^optimizer.1.lr has no effect: Adam, optimizer 1 of configure_optimizers, made no step in the first epoch.\n"
        r"  Let it step, or take the name out of the space.$"
    )
    study = th.Study("calls", {"optimizer.0.lr": 0.05}, metric="val_loss", mode="min", search="random")
    study.optimize(train, trials=1, progress=False)
    study = th.Study("idle", {"optimizer.1.lr": 0.05}, metric="val_loss", mode="min", search="random")
    with pytest.raises(InjectionError, match=message):
        study.optimize(train, trials=1, progress=False)


IN_A_THREAD = (
    r"^model.hidden = 6 cannot be put in: Net was made before this trial was known.\n"
    r"  Make the objects, and call fit, in the thread in which the training function is called.$"
)


def test_a_fit_in_another_thread_than_its_objects(project: Project) -> None:
    """It cannot tell whether a value went where it belongs."""

    def train() -> None:
        model: Any = project.net()
        with futures.ThreadPoolExecutor() as pool:
            pool.submit(project.trainer([TuneCallback()]).fit, model, project.data()).result()

    study = th.Study("calls", {"hidden": 6}, metric="val_loss", mode="min", search="random")
    with pytest.raises(InjectionError, match=IN_A_THREAD):
        study.optimize(train, trials=1, progress=False)


@pytest.mark.parametrize("name", ["hidden", "optimizer.lr"])
def test_a_fit_in_a_thread_of_its_own(project: Project, name: str) -> None:
    """A thread that train begins does not know of its calls: only what is made in fit takes a value."""
    raised: list[Exception] = []
    rates = []

    def fit() -> None:
        model: Any = project.net()
        try:
            project.trainer([TuneCallback()]).fit(model, project.data())
            rates.append(model.trainer.optimizers[0].param_groups[0]["lr"])
        except Exception as error:  # noqa: BLE001 - handed on to the thread of the training function
            raised.append(error)

    def train() -> None:
        thread = threading.Thread(target=fit)
        thread.start()
        thread.join()
        for error in raised:
            raise error

    study = th.Study("calls", {name: 6}, metric="val_loss", mode="min", search="random")
    if name == "optimizer.lr":
        study.optimize(train, trials=1, progress=False)
        assert rates == [6]
        return
    with pytest.raises(InjectionError, match=IN_A_THREAD):
        study.optimize(train, trials=1, progress=False)


@pytest.mark.parametrize("is_used", [False, True])
def test_a_rate_that_a_scheduler_overwrites(project: Project, is_used: bool) -> None:
    """With a number of its own the search would be in vain; with one that comes of the argument it is not."""

    class Net(project.net):  # type: ignore[name-defined,misc]
        def configure_optimizers(self) -> Any:
            made = torch.optim.SGD(self.parameters(), lr=self.lr)
            highest = self.lr * 3 if is_used else 0.7
            cycle = torch.optim.lr_scheduler.OneCycleLR(made, highest, total_steps=10)
            return {"optimizer": made, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}

    study = th.Study("calls", {"lr": 0.05}, metric="val_loss", mode="min", search="random")

    def train() -> None:
        project.trainer([TuneCallback()]).fit(Net(), project.data())

    if is_used:
        study.optimize(train, trials=1, progress=False)
        return
    message = (
        r"^model.lr = 0.05 has no effect: OneCycleLR overwrites it with 0.7, which is typed into "
        r"configure_optimizers.\n  Give OneCycleLR the argument too, or take model.lr out of the space.$"
    )
    with pytest.raises(InjectionError, match=message):
        study.optimize(train, trials=1, progress=False)


@pytest.mark.parametrize("is_outside", [False, True])
def test_a_callback_that_carries_its_state_to_the_next_trial(project: Project, is_outside: bool) -> None:
    """Made once, outside of train, it would stop the second trial by what the first one has reached."""
    stopping = importlib.import_module(f"{project.pl.__name__}.callbacks").EarlyStopping
    outside = stopping("val_loss")

    def train() -> None:
        ours = outside if is_outside else stopping("val_loss")
        project.trainer([TuneCallback(), ours]).fit(project.net(), project.data())

    study = th.Study("calls", {"hidden": th.Int(4, 9)}, metric="val_loss", mode="min", search="random")
    if not is_outside:
        study.optimize(train, trials=2, progress=False)
        return
    message = (
        r"^EarlyStopping has been in the fit of another trial, and goes on from there: {'wait_count': .*}.\n"
        r"  Make it in the training function: train is called for each trial, and so is EarlyStopping\(...\).$"
    )
    with pytest.raises(TrialError, match=message):
        study.optimize(train, trials=2, progress=False)
    assert [trial.outcome.state for trial in study.trials] == ["complete", "failed"]


@pytest.mark.parametrize("is_frozen", [False, True])
def test_a_network_that_is_kept_for_all_trials(project: Project, is_frozen: bool) -> None:
    """The next trial would go on with its weights: an error before the first step; not if none of them trains it."""
    kept = nn.Linear(4, 1).requires_grad_(not is_frozen)

    def train() -> None:
        model = project.net(body=nn.Sequential(kept, nn.Linear(1, 1)))
        project.trainer([TuneCallback()], max_epochs=1).fit(model, project.data())

    study = th.Study("calls", {"lr": th.Float(0.01, 0.1)}, metric="val_loss", mode="min", search="random")
    if is_frozen:
        study.optimize(train, trials=2, progress=False)
        return
    message = (
        r"^net.0.weight of the Net was trained in trial 0 of study 'calls' already, and trial 1 would go on with its "
        r"weights.\n  Make what holds it inside the training function, so that each trial starts from scratch; or "
        r"freeze it in all of them, and what it counts as well, as a BatchNorm does.$"
    )
    with pytest.raises(TrialError, match=message):
        study.optimize(train, trials=2, progress=False)
    assert [trial.outcome.state for trial in study.trials] == ["complete", "failed"]


class Counting(nn.Module):
    """Has what it learns in a buffer, in whose place it puts a new one with the same sum; and a cache."""

    levels: torch.Tensor
    cache: torch.Tensor

    def __init__(self, *, learns: bool) -> None:
        super().__init__()
        self.learns = learns
        self.register_buffer("levels", torch.tensor([1.0, 2.0]))
        self.register_buffer("cache", torch.zeros(1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and self.learns:
            self.levels = self.levels + torch.tensor([-0.25, 0.25])
        self.cache += 1
        return x


class Still(nn.BatchNorm1d):
    """It counts nothing; Lightning below 2.2 puts all modules into training mode."""

    def train(self, mode: bool = True) -> Still:
        return super().train(False)


@pytest.mark.parametrize("learns", [True, False])
def test_a_module_that_counts_and_is_kept_for_all_trials(project: Project, learns: bool) -> None:
    """What it has counted is of its weights, though no optimizer has them; what it does not save is none of them."""
    kept = nn.Sequential(Counting(learns=learns), Still(4).train()).requires_grad_(False)

    def train() -> None:
        model = project.net(body=nn.Sequential(kept, nn.Linear(4, 1)))
        project.trainer([TuneCallback()], max_epochs=1).fit(model, project.data())

    study = th.Study("calls", {"lr": th.Float(0.01, 0.1)}, metric="val_loss", mode="min", search="random")
    if not learns:
        study.optimize(train, trials=2, progress=False)
        return
    with pytest.raises(TrialError, match=r"^net.0.0.levels of the Net was trained in trial 0 of study 'calls' already"):
        study.optimize(train, trials=2, progress=False)


def test_a_name_by_class_means_what_the_fit_uses(project: Project) -> None:
    """Also where the script has made another object of the class before, such as a teacher."""

    class Body(nn.Linear):
        def __init__(self, scale: float = 1.0) -> None:
            super().__init__(4, 1)
            self.scale = scale

    made = []

    def train() -> None:
        teacher, body = Body(), Body()
        project.trainer([TuneCallback()], max_epochs=1).fit(project.net(body=body), project.data())
        made.append((teacher.scale, body.scale))

    study = th.Study("calls", {"Body.scale": 3.0}, metric="val_loss", mode="min", search="random")
    study.optimize(train, trials=1, progress=False)
    assert made == [(1.0, 3.0)]


def test_a_variable_that_configure_optimizers_uses_elsewhere_too(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """The schedule would be made of the script's own rate."""

    class Net(project.net):  # type: ignore[misc, name-defined]
        def configure_optimizers(self) -> Any:
            rate = 0.1
            made = torch.optim.SGD(self.parameters(), lr=rate)
            return [made], [torch.optim.lr_scheduler.CosineAnnealingLR(made, 10, eta_min=rate / 100)]

    def train() -> None:
        quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "logger": False, "accelerator": "cpu"}
        project.pl.Trainer(max_epochs=1, callbacks=[TuneCallback()], **quiet).fit(Net(), project.data())

    study = th.Study("calls", {"optimizer.lr": th.Choice([0.2, 0.3])}, metric="val_loss", mode="min", search="grid")
    with caplog.at_level("WARNING", logger="tunehook"):
        study.optimize(train, trials=1, progress=False)
        trace._told.clear()  # as in the process of a further trial, which reads no file of the script for it
        forget_plans(has_ranks_from_outside=False)
        study.optimize(train, progress=False)
    (said,) = [record.getMessage() for record in caplog.records if record.name == "tunehook"]
    assert re.fullmatch(
        r"lr of SGD at test_calls.py:\d+ takes the trial's value; the script passes rate there, which line \d+ uses "
        r"too, with the script's own value. To reach both: rate = th.value\('optimizer.lr', ...\).",
        said,
    )


@pytest.mark.parametrize("at", ["lr", "hparams"])
def test_an_attribute_that_the_script_sets_after_the_constructor(
    project: Project, caplog: pytest.LogCaptureFixture, at: str
) -> None:
    """It counts, as with the value typed in; where it is a number of its own the search is in vain: said, once."""
    rates: list[float] = []

    class Net(project.net):  # type: ignore[misc, name-defined]
        def __init__(self, lr: float = 0.1) -> None:
            super().__init__(lr=lr)
            self.save_hyperparameters()

        def configure_optimizers(self) -> Any:
            rates.append(self.lr if at == "lr" else self.hparams.lr)
            return torch.optim.SGD(self.parameters(), lr=rates[-1])

    def train() -> None:
        model = Net()
        owner = model if at == "lr" else model.hparams
        owner.lr = 0.05
        quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "logger": False, "accelerator": "cpu"}
        project.pl.Trainer(max_epochs=1, callbacks=[TuneCallback()], **quiet).fit(model, project.data())

    study = th.Study("calls", {"model.lr": th.Choice([0.2, 0.3])}, metric="val_loss", mode="min", search="grid")
    with caplog.at_level("WARNING", logger="tunehook"):
        study.optimize(train, progress=False)
    assert rates == [0.05, 0.05]
    (said,) = [record.getMessage() for record in caplog.records if record.name == "tunehook"]
    assert re.fullmatch(
        r"model.lr was made with the trial's value 0\.[23], and is 0.05 when the fit begins: test_calls.py:\d+ sets "
        r"it. To tune what it sets there: th.value\('lr', ...\).",
        said,
    )


def test_a_variable_that_is_used_elsewhere_too(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    """What the script computes of it keeps the script's own value: that is said, once, with the way out."""

    def train() -> None:
        epochs = 3
        model = project.net(steps=5 * epochs)
        quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "logger": False, "accelerator": "cpu"}
        project.pl.Trainer(max_epochs=epochs, callbacks=[TuneCallback()], **quiet).fit(model, project.data())

    space = {"max_epochs": th.Choice([1, 2])}
    study = th.Study("calls", space, metric="val_loss", mode="min", search="grid")
    with caplog.at_level("WARNING", logger="tunehook"):
        study.optimize(train, progress=False)
    (said,) = [record.getMessage() for record in caplog.records if record.name == "tunehook"]
    assert re.fullmatch(
        r"max_epochs of Trainer at test_calls.py:\d+ takes the trial's value; the script passes epochs "
        r"there, which line \d+ uses too, with the script's own value. To reach both: "
        r"epochs = th.value\('max_epochs', ...\).",
        said,
    )


def test_objects_that_depend_on_the_values(project: Project) -> None:
    """A fit whose objects are others with the values is told, with the way out."""
    study = th.Study("calls", {"hidden": 6}, metric="val_loss", mode="min", search="random")
    message = (
        r"^The names of the space mean other objects each time that train is called.\n"
        r"  Read such values in the script: th.value\('name', default\).$"
    )
    with pytest.raises(InjectionError, match=message):
        study.optimize(lambda: undecided(project, TuneCallback()), trials=1, progress=False)


def test_a_constructor_that_refuses_a_value(project: Project) -> None:
    """The message names the call, the value and the constructor's own error; the search ends."""
    study = th.Study("calls", {"hidden": -1}, metric="val_loss", mode="min", search="random")
    message = (
        r"^Net at test_calls.py:\d+ cannot be constructed with hidden = -1: RuntimeError: .*\n"
        r"  Leave such values out of the space.$"
    )
    with pytest.raises(InjectionError, match=message):
        study.optimize(lambda: changed(project, TuneCallback()), trials=1, progress=False)


def test_an_argument_that_no_line_reads(project: Project) -> None:
    """It is told after the first batch."""

    class Deaf(project.net):  # type: ignore[name-defined,misc]
        def __init__(self, unused: int = 1, **rest: Any) -> None:
            super().__init__(**rest)

    def train() -> None:
        project.trainer([TuneCallback()]).fit(Deaf(), project.data())

    study = th.Study("calls", {"unused": 2}, metric="val_loss", mode="min", search="random")
    message = (
        r"^Nothing uses model.unused: no line of the constructor of Deaf reads it, and it was not read from hparams in "
        r"the first batch.\n  Use the argument in Deaf, or take it out of the space.$"
    )
    with pytest.raises(InjectionError, match=message):
        study.optimize(train, trials=1, progress=False)


def test_one_user_of_a_shared_value_is_enough(project: Project) -> None:
    """A batch size that the model only stores, and the datamodule uses."""

    class Storing(project.net):  # type: ignore[name-defined,misc]
        def __init__(self, batch_size: int = 8, **rest: Any) -> None:
            super().__init__(**rest)
            self.save_hyperparameters()

    sizes = []

    def train() -> None:
        data = project.data()
        project.trainer([TuneCallback()]).fit(Storing(), data)
        sizes.append(data.batch_size)

    study = th.Study("calls", {"batch_size": 10}, metric="val_loss", mode="min", search="random")
    study.optimize(train, trials=1, progress=False)
    assert sizes == [10]


def test_an_error_of_the_script_under_a_guess_is_its_own(project: Project) -> None:
    """A script that fails with any values fails with its own error, and the trial as failed."""
    study = th.Study("calls", {"hidden": 6}, metric="val_loss", mode="min", search="random", max_failures=1)

    def train() -> None:
        project.net()
        raise KeyError("mine")

    with pytest.raises(th.StudyError, match="KeyError"):
        study.optimize(train, trials=1, progress=False)
    assert study.trials[0].outcome.state == "failed"


def test_an_objective_of_optuna(project: Project) -> None:
    """Decorated, it makes its objects with the trial's values; a name that belongs elsewhere is found in its fit."""
    weights, calls_of = [], []

    @th.objective
    def tune(trial: optuna.Trial) -> float:
        calls_of.append(trial.number)
        trial.suggest_int("hidden", 6, 6)
        trial.suggest_int("batch_size", 10, 10)
        seed()
        model = taught(project, TuneCallback(trial, metric="val_loss"))
        weights.append(model.state_dict())
        return float(model.trainer.callback_metrics["val_loss"])

    optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).optimize(tune, n_trials=2)
    assert calls_of == [0, 0, 1]  # the teacher takes the width too
    seed()
    typed_in = taught(project, hidden=6, batch_size=10).state_dict()
    for tuned in weights:
        assert all(torch.equal(tuned[name], weight) for name, weight in typed_in.items())


def test_objectives_in_threads(project: Project) -> None:
    """Each makes and trains its model with the values of its own trial."""
    seen = []

    @th.objective
    def tune(trial: optuna.Trial) -> float:
        trial.suggest_int("hidden", 4, 9)
        trial.suggest_float("optimizer.lr", 0.01, 0.1)
        model: Any = project.net()
        project.trainer([TuneCallback(trial, metric="val_loss")], max_epochs=1).fit(model, project.data())
        rate = model.trainer.optimizers[0].param_groups[0]["lr"]
        seen.append((dict(trial.params), {"hidden": model.net[0].out_features, "optimizer.lr": rate}))
        return float(model.trainer.callback_metrics["val_loss"])

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), pruner=optuna.pruners.NopPruner())
    study.optimize(tune, n_trials=6, n_jobs=3)
    assert len(seen) == 6
    assert all(wanted == present for wanted, present in seen)
