"Small trainings that tests start in processes of their own."
import torch
from stouter.data.samples import Condition, Samples
from stouter.denoisers.stunet import STUnet
from stouter.diffusion.forward import NoiseSchedule
from stouter.diffusion.objective import LOSSES, OBJECTIVES
from stouter.training.batches import stream
from stouter.training.loop import fit
from stouter.training.state import Recipe

RECIPE = Recipe(n_updates=60, batch_size=16, checkpoint_every=4, validate_every=6, patience=0, lent_days=0.5)


def small_samples(n=40, seed=1):
    "Random days of three stations."
    week = torch.arange(168).reshape(7, 24).repeat(n // 7 + 1, 1)[:n]
    x = torch.rand(n, 24, generator=stream(seed))
    tables = torch.randn(3, 6, generator=stream(2)), torch.randn(168, 5, generator=stream(3))
    return Samples(x, Condition(torch.arange(n) % 3, week, *tables))


def train_small(checkpoint=None, on_update=None, team=None, recipe=RECIPE, seed=0):
    "Train a very small STUnet; returns what `fit` returns."
    torch.set_num_threads(1)
    torch.manual_seed(5)
    denoiser = STUnet(6, 5, width=8, multipliers=(1,))
    objective = OBJECTIVES["velocity"](NoiseSchedule(100))
    return fit(denoiser, objective, LOSSES["mse"], small_samples(), recipe, seed, checkpoint, on_update, small_samples(12, seed=9), team)


def train_and_keep(folder, recipe=RECIPE):
    "Train with a checkpoint and write the result: what a killed process did not get to."
    denoiser, history = train_small(folder / "checkpoint.pt", recipe=recipe)
    torch.save({"weights": denoiser.state_dict(), "history": history.drop(columns="seconds").to_numpy().tolist()}, folder / "done.part")
    (folder / "done.part").rename(folder / "done.pt")


def train_in_company(team, folder):
    "Train as one of a team; returns the loss curve, the validation errors and the weights."
    denoiser, history = train_small(team=team, checkpoint=folder / "checkpoint.pt")
    return history["loss"].tolist(), history["validation_error"].dropna().tolist(), {k: v.numpy() for k, v in denoiser.state_dict().items()}
