"""A GAN with manual optimization, whose two optimizers are tuned apart.

The loss of a GAN says little. What counts here is the energy distance between its images and real ones, which is 0
where both come from one source (Székely and Rizzo, 2013, https://doi.org/10.1016/j.jspi.2013.03.018).
"""

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th
from tunehook.integrations.lightning import TuneCallback

IMAGES = torch.tensor(load_digits().data / 8 - 1).float()


def energy_distance(some: Tensor, others: Tensor) -> Tensor:
    """Twice the mean distance between the two, less that within each."""
    return 2 * torch.cdist(some, others).mean() - torch.cdist(some, some).mean() - torch.cdist(others, others).mean()


class GAN(L.LightningModule):
    def __init__(self, latent: int = 16, hidden: int = 64) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.latent = latent
        self.generator = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, 64), nn.Tanh())
        self.critic = nn.Sequential(nn.Linear(64, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1))

    def images(self, count: int) -> Tensor:
        made: Tensor = self.generator(torch.randn(count, self.latent, device=self.device))
        return made

    def training_step(self, batch: list[Tensor], _: int) -> None:
        generator, critic = self.optimizers()  # type: ignore[attr-defined] # a list of two
        real, fake = batch[0], self.images(len(batch[0]))
        loss = nn.functional.softplus(-self.critic(real)) + nn.functional.softplus(self.critic(fake.detach()))
        critic.zero_grad()
        self.manual_backward(loss.mean())
        critic.step()
        generator.zero_grad()
        self.manual_backward(nn.functional.softplus(-self.critic(fake)).mean())
        generator.step()

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        self.log("distance", energy_distance(self.images(len(batch[0])), batch[0]))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.Adam(self.generator.parameters(), lr=1e-3, betas=(0.5, 0.9)),
            torch.optim.Adam(self.critic.parameters(), lr=1e-3, betas=(0.5, 0.9)),
        ]


def train() -> GAN:
    L.seed_everything(0)
    model = GAN()
    trainer = L.Trainer(max_epochs=5, accelerator="cpu", enable_progress_bar=False, callbacks=[TuneCallback()])
    trainer.fit(
        model,
        DataLoader(TensorDataset(IMAGES[:1300]), 64, shuffle=True, drop_last=True),
        DataLoader(TensorDataset(IMAGES[1300:]), 512),
    )
    return model


study = th.Study(
    "gan",
    {
        "optimizer.0.lr": th.Float(1e-4, 1e-2, log=True),  # the generator's
        "optimizer.1.lr": th.Float(1e-4, 1e-2, log=True),  # the critic's
        "latent": th.Int(4, 64, log=True),
        "hidden": th.Int(32, 256, log=True),
    },
    metric="distance",
    mode="min",
)

if __name__ == "__main__":
    study.optimize(train, trials=20)
    print(study.best.params, study.best.value)
