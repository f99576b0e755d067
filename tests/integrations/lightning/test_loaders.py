"""Batch sizes of loaders that no constructor argument holds: as if typed in, or an error."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler

import tunehook as th
from lightning_projects import (
    assert_same,
    attached,
    classes,
    dataset,
    loader,
    refused,
    refused_late,
    scheduled,
    trained,
    trainer,
)
from tunehook.integrations.lightning.slots import LightningSlots
from tunehook.trial.errors import InjectionError

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of small data, few workers, missing loggers ...


def test_bare_loader_equals_typed_in(pl: Any) -> None:
    """A batch size put into a loader that was passed to fit is the same as one typed in."""
    net = classes(pl)["Net"]
    plain = trained(pl, lambda: (net(), loader(5)))
    assert_same(trained(pl, lambda: (net(), loader()), {"batch_size": 5}), plain)


def test_collections_of_loaders(one: Any) -> None:
    """Every loader of a collection gets the batch size."""
    base = classes(one)["Net"]

    class Net(base):  # type: ignore[misc, valid-type]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch["a"], 0) + super().training_step(batch["b"][0], 0)

    plain = trained(one, lambda: (Net(), {"a": loader(5), "b": [loader(5)]}))
    assert_same(trained(one, lambda: (Net(), {"a": loader(), "b": [loader()]}), {"batch_size": 5}), plain)


@pytest.mark.parametrize(
    ("sizes", "shown"), [((4, 6), "[4, 6]"), ((4, 4), "4"), ((None, 6), "[None, 6]"), ((None,), "None")]
)
def test_loaders_that_exist_are_listed_with_their_sizes(one: Any, sizes: tuple[Any, ...], shown: str) -> None:
    """Also where they differ, or have none."""
    net = classes(one)["Net"]
    message = refused(one, lambda: (net(), [DataLoader(dataset(), size) for size in sizes]), {"batchsize": 5})
    assert f"data.batch_size = {shown}\n" in message


def test_hook_loader_argument_equals_typed_in(pl: Any) -> None:
    """A batch size that is an argument of the module reaches the loader that its hook makes."""
    cls = classes(pl)["Hooks"]
    assert_same(trained(pl, lambda: (cls(),), {"size": 5}), trained(pl, lambda: (cls(size=5),)))


def test_hook_loader_typed_in_equals_typed_in(pl: Any) -> None:
    """A size typed in in a hook is changed for this fit; validation loaders have a name of their own."""
    cls = classes(pl)["TypedIn"]

    class Five(cls):  # type: ignore[misc, valid-type]
        size = 5

    made: list[Any] = []

    def make() -> Any:
        made.append(cls())
        return (made[-1],)

    plain = trained(pl, lambda: (Five(),))
    assert_same(trained(pl, make, {"batch_size": 5, "val_batch_size": 3}), plain)
    assert made[0].sizes == {0: 1, 1: 1}  # 40 samples in batches of 3
    again = trainer(pl, max_epochs=1)
    again.fit(made[0])
    assert again.train_dataloader.batch_size == 8


class Endless(IterableDataset[torch.Tensor]):
    """Samples without a length."""

    def __iter__(self) -> Any:
        return iter(dataset())


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: DataLoader(dataset(), batch_size=None), "a DataLoader has no batch size"),
        (
            lambda: DataLoader(dataset(), batch_sampler=BatchSampler(RandomSampler(dataset()), 4, False)),
            "a DataLoader has a batch sampler of its own",
        ),
        (lambda: [(torch.zeros(2, 4), torch.zeros(2, 1))], "list is no torch DataLoader"),
    ],
)
def test_loader_without_a_batch_size(one: Any, make: Any, why: str) -> None:
    """A loader that does not make its batches by size is an error, passed to fit or made by a hook."""
    expected = (
        f"data.batch_size = 5 cannot be injected: {why}.\n"
        "  Make the batch size an argument of the datamodule or module that makes it."
    )
    assert refused_late(one, lambda: (classes(one)["Net"](), make()), {"batch_size": 5}) == expected
    for made in (lambda self: make(), lambda self: (DataLoader(dataset(), batch_size=None), make())[1]):
        hook = type("Hook", (classes(one)["Net"],), {"train_dataloader": made})
        assert refused(one, (hook(),), {"batch_size": 5}) == expected


def test_loader_of_an_iterable_dataset(one: Any) -> None:
    """A stream of samples is batched with the new size."""
    net = classes(one)["Net"]
    plain = trained(one, lambda: (net(), DataLoader(Endless(), batch_size=5)))
    assert_same(trained(one, lambda: (net(), DataLoader(Endless(), batch_size=8)), {"batch_size": 5}), plain)


def test_loader_that_lightning_makes_again(one: Any) -> None:
    """A loader that is constructed again, as for a distributed sampler, has the new size too."""
    cls = classes(one)["TypedIn"]
    plain = trained(one, lambda: (type("Five", (cls,), {"size": 5})(),), overfit_batches=3)
    assert_same(trained(one, lambda: (cls(),), {"batch_size": 5}, overfit_batches=3), plain)


def test_loader_that_types_in_its_size(one: Any) -> None:
    """A loader class with its own size comes back with it when it is constructed again."""

    class Four(DataLoader[Any]):
        def __init__(self, data: Any, **kwargs: Any) -> None:
            super().__init__(data, **{"batch_size": 4, "shuffle": True, **kwargs, "batch_size": 4})  # noqa: F601

    hook = type("Hook", (classes(one)["Net"],), {"train_dataloader": lambda self: Four(dataset())})
    assert refused(one, (hook(),), {"batch_size": 5}, overfit_batches=3) == (
        "data.batch_size = 5 does not reach Four, which has batches of 4.\n"
        "  Make the batch size an argument of the datamodule or module that makes the loader."
    )


@pytest.mark.parametrize("value", [0, -3, True, 2.5])
def test_batch_size_that_is_none(one: Any, value: Any) -> None:
    """A batch size is a positive integer."""
    size = LightningSlots(attached(one), attached(one).lightning_module)._loaders[0]
    with pytest.raises(InjectionError) as error:
        size.set(value)
    assert str(error.value) == (
        f"data.batch_size is {value!r}, but a batch size is an integer from 1.\n  Use a distribution that gives one."
    )


def test_an_argument_that_the_script_also_gave_to_the_loader(one: Any) -> None:
    """The loader follows where it is made with it; where its size is typed in beside, that is told."""
    base = classes(one)["Net"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, batch_size: int = 8) -> None:
            super().__init__()
            self.batch_size = batch_size

    def make(batch_size: int = 8) -> Any:
        model = Net(batch_size)
        return model, loader(model.batch_size)

    assert_same(trained(one, make, {"batch_size": 5}), trained(one, lambda: make(5)))
    assert refused(one, lambda: (Net(), loader(8)), {"batch_size": 5}) == (
        "model.batch_size = 5 does not reach the loader that was passed to fit, which has batches of 8.\n"
        "  Write 'data.batch_size' in the space, or make the loader in model's train_dataloader."
    )


def test_loaders_of_which_some_were_made_outside(one: Any) -> None:
    """The trial ends, as with a model: what the script has derived of such a loader would be of its old size."""
    base = classes(one)["Net"]

    class Net(base):  # type: ignore[misc, valid-type]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch[0], 0) + super().training_step(batch[1], 0)

    outside, message = loader(), (
        "data.batch_size = 5 cannot be put in: DataLoader was made before this trial was known.\n"
        "  Make it in the training function, which is called for each trial."
    )  # fmt: skip
    assert refused(one, lambda: (Net(), [loader(), outside]), {"batch_size": 5}) == message
    assert refused(one, lambda: (Net(), [outside, loader()]), {"data.batch_size": 5}) == message
    plain = trained(one, lambda: (Net(), [loader(5), loader(5)]))
    assert_same(trained(one, lambda: (Net(), [loader(), loader()]), {"batch_size": 5}), plain)


def test_numbers_that_come_of_the_loader_of_a_hook(pl: Any) -> None:
    """Whoever calls a hook, before fit or in it, gets the loader that the hook makes with the size typed in."""

    class Cycle(classes(pl)["Net"]):  # type: ignore[misc]
        def __init__(self, steps: int) -> None:
            super().__init__()
            self.steps = steps

        def configure_optimizers(self) -> Any:
            made, data = super().configure_optimizers(), self.trainer.datamodule
            steps = self.trainer.estimated_stepping_batches + len(data.train_dataloader()) + data.count
            cycle = torch.optim.lr_scheduler.OneCycleLR(made, 0.1, total_steps=steps + self.steps)
            return [made], [{"scheduler": cycle, "interval": "step"}]

    def script(size: int = 8, val_size: int = 4) -> Any:
        class Data(pl.LightningDataModule):  # type: ignore[misc]
            def train_dataloader(self) -> Any:
                made = DataLoader(dataset(), batch_size=size, shuffle=True)
                self.count = len(made)
                return made

            def val_dataloader(self) -> Any:
                return [DataLoader(dataset(), batch_size=val_size)]

        data = Data()
        trainer(pl, max_epochs=1).fit(classes(pl)["Net"](), data)  # a teacher, which draws random numbers
        return Cycle(len(data.train_dataloader()) + len(data.val_dataloader()[0])), data

    values = {"batch_size": 5, "val_batch_size": 3}
    assert_same(trained(pl, script, values), trained(pl, lambda: script(5, 3)))


def test_loader_that_was_made_before_its_hook_is_called(pl: Any) -> None:
    """What its maker has derived of the old size would stay: an error."""

    class Held(pl.LightningDataModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.made = loader()

        def train_dataloader(self) -> Any:
            return self.made

    message = refused(pl, lambda: (classes(pl)["Net"](), Held()), {"batch_size": 5})
    assert re.fullmatch(
        r"data\.batch_size = 5 cannot be put in: train_dataloader gives the DataLoader at lightning_projects\.py:\d+, "
        r"which was made before\.\n  Make the batch size an argument of the datamodule or module that makes it\.",
        message,
    )


def counting(pl: Any) -> Any:
    """A module whose schedule has a number of steps that the script counts."""
    cls = scheduled(pl, lambda module, made: torch.optim.lr_scheduler.LinearLR(made, total_iters=module.steps), lr=0.1)

    class Counting(cls):  # type: ignore[misc, valid-type]
        def __init__(self, steps: int) -> None:
            super().__init__()
            self.steps = steps

    return Counting


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_loader_of_a_hook_that_is_not_returned(pl: Any, is_kept: bool) -> None:
    """One for statistics has a size of its own, which the trial's must not replace: an error, with the way out.

    Also where the hook makes it only when the script calls it before the fit.
    """

    def script(size: int | None = None) -> Any:
        own = th.value("batch_size", 8) if size is None else size

        class Data(pl.LightningDataModule):  # type: ignore[misc]
            mean: Any = None

            def train_dataloader(self) -> Any:
                if self.mean is None or not is_kept:
                    self.mean = next(iter(DataLoader(dataset(), 32)))[0].mean()
                return DataLoader(dataset(), own, shuffle=True)

        data = Data()
        if is_kept:
            data.train_dataloader()
        return classes(pl)["Net"](lr=float(abs(data.mean)) if is_kept else 0.1), data

    message = refused(pl, lambda: script(8), {"batch_size": 5})
    assert re.fullmatch(
        r"data\.batch_size = 5 has gone into the DataLoader at test_loaders\.py:\d+ too, which train_dataloader makes "
        r"and does not return\.\n"
        r"  Make the batch size an argument of the datamodule or module that makes it, or read it before the fit: "
        r"batch_size = th\.value\('batch_size', \.\.\.\)\.",
        message,
    )
    assert_same(trained(pl, script, {"batch_size": 5}), trained(pl, lambda: script(5)))


def test_a_function_that_has_the_name_of_a_hook(pl: Any) -> None:
    """It is none: of two loaders that it makes, the one that is passed to fit takes the value."""
    net = counting(pl)

    def train_dataloader(size: int) -> Any:
        return DataLoader(dataset(), size, shuffle=True)

    def script(size: int = 8) -> Any:
        other = train_dataloader(4)
        given = train_dataloader(size)
        return net(len(other) + 3 * len(given)), given

    assert_same(trained(pl, script, {"batch_size": 5}), trained(pl, lambda: script(5)))


@pytest.mark.parametrize("is_outer", [False, True])
def test_hooks_that_call_others(pl: Any, is_outer: bool) -> None:
    """A size typed in in a base class, behind a decorator, or in the hook of a datamodule within, is the trial's."""
    net = counting(pl)

    def handed_on(hook: Any) -> Any:
        return lambda *args: hook(*args)

    def script(size: int = 8) -> Any:
        class Base(pl.LightningDataModule):  # type: ignore[misc]
            def train_dataloader(self) -> Any:
                return DataLoader(dataset(), size, shuffle=True)

        class Data(Base):
            @handed_on
            def train_dataloader(self) -> Any:
                return super().train_dataloader()

            def val_dataloader(self) -> Any:
                return self.train_dataloader()

        class Outer(pl.LightningDataModule):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.inner = Data()

            def train_dataloader(self) -> Any:
                return self.inner.train_dataloader()

            def val_dataloader(self) -> Any:
                return self.inner.val_dataloader()

        data: Any = Outer() if is_outer else Data()
        return net(len(data.train_dataloader())), data

    assert_same(trained(pl, script, {"batch_size": 5}), trained(pl, lambda: script(5)))
    assert re.fullmatch(
        r"data\.val_batch_size = 5 cannot be put in: val_dataloader gives the DataLoader at test_loaders\.py:\d+, "
        r"which another hook makes\.\n  Make the batch size an argument of the datamodule or module that makes it\.",
        refused(pl, script, {"val_batch_size": 5}),
    )


@pytest.mark.parametrize("is_called", [False, True])
def test_a_hook_that_is_no_method(pl: Any, is_called: bool) -> None:
    """Nobody sees whose hook it is; where the script calls it before the fit, that is an error."""
    net = counting(pl)

    def script(size: int = 8) -> Any:
        data = pl.LightningDataModule.from_datasets(dataset(), batch_size=size)
        return net(len(data.train_dataloader()) if is_called else 3), data

    if is_called:
        assert refused(pl, script, {"batch_size": 5}) == (
            "data.batch_size = 5 cannot be put in: train_dataloader was called before the fit, and is no method of "
            "LightningDataModule.\n"
            "  Make the batch size an argument of the datamodule or module that makes it, or read it before the fit: "
            "batch_size = th.value('batch_size', ...)."
        )
    else:
        assert_same(trained(pl, script, {"batch_size": 5}), trained(pl, lambda: script(5)))
