"Small trainings for tests that start processes."

import torch

from stouter.data.dataset import Condition, TrafficDataset
from stouter.denoisers.stunet import STUnet
from stouter.diffusion.forward import linear_schedule
from stouter.diffusion.objective import LOSSES, OBJECTIVES
from stouter.files import InputError
from stouter.training.batches import make_generator
from stouter.training.state import TrainingArguments
from stouter.training.trainer import fit

TRAINING_ARGS = TrainingArguments(
    n_updates=60, batch_size=16, checkpoint_every=4, validate_every=6, patience=0, weekday_randomization=0.5
)


def small_samples(n=40, seed=1):
    "Random days of three stations."
    week = torch.arange(168).reshape(7, 24).repeat(n // 7 + 1, 1)[:n]
    x = torch.rand(n, 24, generator=make_generator(seed))
    tables = torch.randn(3, 6, generator=make_generator(2)), torch.randn(168, 5, generator=make_generator(3))
    return TrafficDataset(x, Condition(torch.arange(n) % 3, week, *tables))


def train_small(checkpoint=None, on_update=None, fabric=None, training_args=TRAINING_ARGS, seed=0):
    "Train a very small STUnet; returns what `fit` returns."
    torch.set_num_threads(1)
    torch.manual_seed(5)
    denoiser = STUnet(6, 5, base_channels=8, channel_multipliers=(1,))
    objective = OBJECTIVES["v_prediction"](linear_schedule(100))
    return fit(
        denoiser,
        objective,
        LOSSES["mse"],
        small_samples(),
        training_args,
        seed,
        checkpoint,
        on_update,
        small_samples(12, seed=9),
        fabric,
    )


def train_and_keep(folder, training_args=TRAINING_ARGS):
    "Train with a checkpoint and write the result, which a killed process does not do."
    denoiser, history = train_small(folder / "checkpoint.pt", training_args=training_args)
    torch.save(
        {"weights": denoiser.state_dict(), "history": history.drop(columns="seconds").to_numpy().tolist()},
        folder / "done.part",
    )
    (folder / "done.part").rename(folder / "done.pt")


def train_distributed(fabric, folder):
    "Train as one of several processes; returns the loss curve, the validation errors and the weights."
    denoiser, history = train_small(fabric=fabric, checkpoint=folder / "checkpoint.pt")
    return (
        history["loss"].tolist(),
        history["validation_error"].dropna().tolist(),
        {k: v.numpy() for k, v in denoiser.state_dict().items()},
    )


def train_interrupted(fabric, folder, update):
    "Train as one of several processes, all of which stop after an update with the error of a user."

    def stop(done, loss):
        if done == update:
            raise InputError(f"stopped at {done}: the reason")

    train_small(folder / "checkpoint.pt", stop, fabric)
