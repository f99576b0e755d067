"""Values of optimizers and schedulers that are made in configure_optimizers: as if typed in, or an error."""

from __future__ import annotations

import functools
import importlib
import re
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from lightning_projects import (
    a_study,
    assert_same,
    classes,
    late,
    loader,
    one_cycle,
    optimized,
    refused,
    refused_late,
    scheduled,
    seed,
    trained,
    trainer,
    warm_up,
    weights,
)
from tunehook.integrations.lightning import TuneCallback
from tunehook.integrations.lightning.calls import hear_all
from tunehook.integrations.lightning.constructors import Window, editing
from tunehook.trial.errors import InjectionError, TrialError

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of small data, few workers, missing loggers ...


def test_warm_up_equals_typed_in(pl: Any) -> None:
    """An optimizer's learning rate and weight decay are as if typed in, below a scheduler too."""
    cls, typed = scheduled(pl, warm_up, lr=0.1), scheduled(pl, warm_up, lr=0.03, weight_decay=0.2)
    plain = trained(pl, lambda: (typed(), loader()))
    values = {"optimizer.lr": 0.03, "weight_decay": 0.2}
    assert_same(trained(pl, lambda: (cls(), loader()), values), plain)


def test_one_cycle_equals_typed_in(pl: Any) -> None:
    """A scheduler's argument is as if typed in, and estimated_stepping_batches follows the batch size and epochs."""
    cls = scheduled(pl, one_cycle, lr=0.1)
    typed = scheduled(pl, functools.partial(one_cycle, max_lr=0.3), lr=0.1)
    plain = trained(pl, lambda: (typed(), loader(5)), max_epochs=3)
    values = {"max_lr": 0.3, "batch_size": 5, "max_epochs": 3}
    assert_same(trained(pl, lambda: (cls(), loader()), values), plain)


def test_betas_as_list_become_a_tuple(one: Any) -> None:
    """A pair from a configuration file is what a pair typed in is."""
    cls, typed = scheduled(one, warm_up, lr=0.1), scheduled(one, warm_up, lr=0.1, betas=(0.8, 0.9))
    plain = trained(one, lambda: (typed(), loader()))
    assert_same(trained(one, lambda: (cls(), loader()), {"betas": [0.8, 0.9]}), plain)


def test_optimizer_key_that_does_not_exist(one: Any) -> None:
    """The optimizer's own keys are listed."""
    expected = (
        "optimizer.betas = (0.8, 0.9) was taken up by nothing. What the optimizers of this fit take:\n"
        "    optimizer.0 (SGD): lr, momentum, dampening, weight_decay, nesterov, maximize, foreach, differentiable, "
        "fused\n"
        "  Rename optimizer.betas in the space, or take it out."
    )
    assert refused(one, lambda: (classes(one)["Net"](), loader()), {"optimizer.betas": (0.8, 0.9)}) == expected


def test_short_name_of_an_argument_that_no_object_of_the_script_takes(one: Any) -> None:
    """Some scheduler of torch has it, and none of this script: what can be injected here is told."""
    message = refused(one, lambda: (classes(one)["Net"](), loader()), {"epochs": 3})
    assert message.startswith("There is nothing called 'epochs' to inject. Did you mean 'max_epochs'?\n")
    assert "    trainer.max_epochs = 2\n" in message
    assert "    optimizer.0 (SGD): lr, momentum, dampening, " in message
    assert message.endswith("read it where the script needs it: epochs = th.value('epochs', 3).")


def test_optimizer_that_was_made_before(one: Any) -> None:
    """It takes the value where it is made; one that was made outside of the training function cannot."""
    base = classes(one)["Net"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, rate: float = 0.1) -> None:
            super().__init__()
            self.optimizer = torch.optim.SGD(self.parameters(), lr=rate)

        def configure_optimizers(self) -> Any:
            return self.optimizer

    plain = trained(one, lambda: (Net(0.2), loader()))
    assert_same(trained(one, lambda: (Net(), loader()), {"optimizer.lr": 0.2}), plain)
    assert refused(one, (Net(), loader()), {"optimizer.lr": 0.2}) == (
        "optimizer.lr = 0.2 was taken up by nothing: no optimizer was made by configure_optimizers.\n"
        "  Make it there, or take optimizer.lr out of the space."
    )


def several(pl: Any, lrs: tuple[float, float] = (0.1, 0.1), decays: tuple[float, float] = (0.9, 0.9)) -> Any:
    """A module with two optimizers and schedulers, stepped by hand."""
    net = classes(pl)["Net"]

    class Several(net):  # type: ignore[misc, valid-type]
        automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.manual_backward(super().training_step(batch, batch_idx))
            for made, scheduler in zip(self.optimizers(), self.lr_schedulers(), strict=True):
                made.step()
                scheduler.step()
                made.zero_grad()

        def configure_optimizers(self) -> Any:
            made = [torch.optim.Adam(self.net[part].parameters(), lr=lr) for part, lr in zip((0, 2), lrs, strict=True)]
            exponential = torch.optim.lr_scheduler.ExponentialLR
            return made, [exponential(each, gamma) for each, gamma in zip(made, decays, strict=True)]

    return Several


def test_several_optimizers_and_schedulers(pl: Any) -> None:
    """They are named by number, in the order in which they are made."""
    cls, typed = several(pl), several(pl, (0.1, 0.03), (0.5, 0.9))
    plain = trained(pl, lambda: (typed(), loader()))
    assert_same(trained(pl, lambda: (cls(), loader()), {"optimizer.1.lr": 0.03, "scheduler.0.gamma": 0.5}), plain)
    assert refused(pl, (cls(), loader()), {"optimizer.lr": 0.03}) == (
        "optimizer.lr could go to 2 optimizers.\n"
        "  Write optimizer.0.lr or optimizer.1.lr in the space, in the order in which they are made."
    )
    assert refused(pl, (cls(), loader()), {"gamma": 0.5}) == (
        "scheduler.gamma could go to 2 schedulers.\n"
        "  Write scheduler.0.gamma or scheduler.1.gamma in the space, in the order in which they are made."
    )


def test_manual_optimization(one: Any) -> None:
    """Clipping and accumulation are not heeded by a module that optimizes by hand."""

    def script() -> Any:
        return several(one)(), loader()

    assert refused_late(one, script, {"accumulate_grad_batches": 2, "gradient_clip_val": 1.0}) == (
        "trainer.accumulate_grad_batches, trainer.gradient_clip_val has no effect: Several optimizes manually "
        "(automatic_optimization = False).\n"
        "  Make it an argument of the module's constructor and use it in training_step."
    )

    def train() -> None:
        trainer(one, TuneCallback()).fit(*script())

    expected = "The framework refuses the training before anything is measured: MisconfigurationException: Automatic "
    with pytest.raises(TrialError, match=f"^{expected}gradient clipping is not supported for manual optimization"):
        a_study({"gradient_clip_val": 1.0}).optimize(train, trials=5, progress=False)


def test_parameter_group_with_its_own_value(one: Any) -> None:
    """A value that does not reach all groups is an error."""
    cls = optimized(
        one,
        lambda self: torch.optim.SGD(
            [{"params": self.net[0].parameters()}, {"params": self.net[2].parameters(), "lr": 0.5}], lr=0.1
        ),
    )
    assert refused(one, (cls(), loader()), {"optimizer.lr": 0.2}) == (
        "optimizer.lr = 0.2 does not reach parameter group 1 of SGD, which has its own lr.\n"
        "  Make it an argument of the module's constructor, or leave lr out of the group."
    )


def test_an_optimizer_validates_its_value(one: Any) -> None:
    """A wrong value is refused by the optimizer, as when it is typed in."""
    made = trainer(one, late({"optimizer.lr": -1.0}))
    with pytest.raises(ValueError, match=re.escape("Invalid learning rate: -1.0")):
        made.fit(optimized(one, lambda self: torch.optim.SGD(self.parameters(), lr=0.1))(), loader())


def test_scheduler_that_overwrites_the_learning_rate(one: Any) -> None:
    """OneCycleLR sets its own learning rates; the way out is its max_lr."""
    message = refused(one, (scheduled(one, one_cycle, lr=0.1)(), loader()), {"optimizer.lr": 0.2})
    assert message == (
        "optimizer.lr = 0.2 has no effect: OneCycleLR overwrites it with 0.004.\n  Tune scheduler.max_lr instead."
    )

    def cyclic(module: Any, optimizer: Any) -> Any:
        return torch.optim.lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, cycle_momentum=False)

    message = refused(one, (scheduled(one, cyclic, lr=0.1)(), loader()), {"optimizer.lr": 0.2})
    assert message == (
        "optimizer.lr = 0.2 has no effect: CyclicLR overwrites it with 0.01.\n"
        "  Tune scheduler.base_lr or scheduler.max_lr instead."
    )


def test_a_scheduler_that_is_handed_over_overwrites_the_learning_rate(one: Any) -> None:
    """It is named as one that configure_optimizers makes."""

    class Net(classes(one)["Net"]):  # type: ignore[misc]
        def configure_optimizers(self) -> Any:
            return [self.made], [self.cycle]

    def make() -> Any:
        model = Net()
        model.made = torch.optim.SGD(model.parameters(), lr=0.1)
        model.cycle = torch.optim.lr_scheduler.OneCycleLR(model.made, 0.1, total_steps=20)
        return model, loader()

    assert refused(one, make, {"optimizer.lr": 0.2}) == (
        "optimizer.lr = 0.2 has no effect: OneCycleLR overwrites it with 0.004.\n  Tune scheduler.max_lr instead."
    )


def test_schedulers_within_a_scheduler(one: Any) -> None:
    """Each scheduler of a SequentialLR has its own arguments."""

    def sequence(module: Any, optimizer: Any, start: float = 0.1, gamma: float = 0.9) -> Any:
        schedulers = torch.optim.lr_scheduler
        parts = [schedulers.LinearLR(optimizer, start, total_iters=3), schedulers.ExponentialLR(optimizer, gamma)]
        return schedulers.SequentialLR(optimizer, parts, milestones=[3])

    cls = scheduled(one, sequence, lr=0.1)
    typed = scheduled(one, functools.partial(sequence, start=0.4, gamma=0.7), lr=0.1)
    plain = trained(one, lambda: (typed(), loader()))
    assert_same(trained(one, lambda: (cls(), loader()), {"start_factor": 0.4, "gamma": 0.7}), plain)


def test_a_window_edits_the_calls_inside(pl: Any) -> None:
    """Of classes that are defined meanwhile too, each object once, and none within the constructor of another one."""
    hear_all()
    window, sizes = Window("optimizer"), [nn.Parameter(torch.zeros(1))]
    window.staged["lr"] = 0.6

    class Mine(torch.optim.SGD):
        def __init__(self, params: Any, lr: float = 0.1) -> None:
            super().__init__(params, lr=lr / 2)
            self.inner = torch.optim.Adam(sizes, lr=0.3)

    with editing([window]):
        made = Mine(sizes)
    assert (made.param_groups[0]["lr"], made.inner.param_groups[0]["lr"]) == (0.3, 0.3)
    assert [each.made for each in window.made] == [made]
    assert Mine(sizes).param_groups[0]["lr"] == 0.05


@pytest.mark.parametrize("name", ["lr", "optimizer.lr"])
def test_checkpoint_that_restores_an_old_learning_rate(pl: Any, tmp_path: Any, name: str) -> None:
    """A restored optimizer would train with the old value."""
    cls = classes(pl)["Net"]
    if name == "optimizer.lr":
        cls = optimized(pl, lambda self: torch.optim.SGD(self.parameters(), lr=0.1))
    made = trainer(pl, max_epochs=1)
    made.fit(cls(), loader())
    made.save_checkpoint(tmp_path / "old.ckpt")
    expected = (
        "The checkpoint restored lr of SGD: it is 0.1 instead of the injected 0.03.\n"
        "  Load only the weights (load_from_checkpoint, load_state_dict), or take the name out of the space."
    )

    def train() -> float:
        trainer(pl, TuneCallback(), max_epochs=2).fit(cls(), loader(), ckpt_path=tmp_path / "old.ckpt")
        return 0.0

    with pytest.raises(InjectionError, match=re.escape(expected)):
        a_study({name: 0.03}).optimize(train, trials=1, progress=False)


def test_learning_rate_finder(pl: Any) -> None:
    """One that runs before fit and sets the rate does so with a value that is typed in, too."""

    def found(*callbacks: Any, **typed: Any) -> Any:
        seed()
        model = classes(pl)["Net"](**typed)
        made = trainer(pl, *callbacks, max_epochs=5)
        finder = importlib.import_module(f"{pl.__name__}.tuner").Tuner(made)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            finder.lr_find(model, loader(), num_training=20, attr_name="lr", early_stop_threshold=None)
        made.fit(model, loader())
        return [torch.tensor(model.lr), *weights(model)]

    tuned: list[Any] = []

    def train() -> float:
        tuned[:] = found(TuneCallback())
        return 0.0

    a_study({"hidden": 7, "lr": 0.03}).optimize(train, trials=1, progress=False)
    assert_same(tuned, found(hidden=7, lr=0.03))


def test_learning_rate_finder_within_fit(pl: Any) -> None:
    """One that is a callback and changes an injected learning rate is told before training starts."""
    finder = pl.callbacks.LearningRateFinder

    def train() -> float:
        seed()
        search = finder(num_training_steps=20, attr_name="lr", early_stop_threshold=None)
        trainer(pl, TuneCallback(), search, max_epochs=5).fit(classes(pl)["Net"](), loader())
        return 0.0

    with pytest.raises(InjectionError, match=re.escape("instead of 0.03 (hyperparameter 'lr')")) as error:
        a_study({"lr": 0.03}).optimize(train, trials=1, progress=False)
    assert str(error.value).startswith("Injected values were lost while the model was set up:\n  model.lr holds ")


def test_no_hook_is_left_on_an_optimizer(one: Any) -> None:
    """Steps are counted in the first epoch only."""
    found: list[Any] = []

    def train() -> float:
        model = classes(one)["Net"]()
        made = trainer(one, TuneCallback())
        made.fit(model, loader())
        found.extend(made.optimizers)
        return 0.0

    a_study({"optimizer.lr": 0.03}).optimize(train, trials=1, progress=False)
    assert [len(one._optimizer_step_post_hooks) for one in found] == [0]
