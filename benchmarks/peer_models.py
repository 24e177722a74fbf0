"""Generators of other packages, each behind `fit(data, seconds, seed, folder)` and `sample(data, n_samples, seed)`.

`peers.py` uses them. Their packages are imported when they are fitted. All of them see complete training days of 24
scaled hours with station and weekday, as our networks do; `fit` ends after the given CPU seconds of this process.
"""

import importlib.util
import logging
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from stouter.optim import make_ema, optimizer_step
from stouter.pipeline.dataset import Datasets
from stouter.training.state import TrainingArguments, learning_rate

HOURS, DDIM_STEPS, BATCH_SIZE = 24, 20, 128


class Budget:
    "CPU seconds of this process since it was made."

    def __init__(self, seconds: float):
        self.seconds, self.start_time = seconds, time.process_time()

    @property
    def spent(self) -> float:
        "Seconds so far."
        return time.process_time() - self.start_time

    @property
    def share(self) -> float:
        "Spent share, 1 and more when it is over."
        return self.spent / self.seconds


def station_and_weekday(samples) -> np.ndarray:  # (B, 2)
    "Station and weekday (0 Sunday) of every day of a dataset."
    condition = samples.condition
    return torch.stack([condition.station, condition.hour_of_week[:, 0] // 24], 1).numpy()


def import_1d():
    "The module for one dimension; the package itself is not executed, since its __init__ imports code for images."
    spec = importlib.util.find_spec("denoising_diffusion_pytorch")
    sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))
    module = importlib.import_module("denoising_diffusion_pytorch.denoising_diffusion_pytorch_1d")
    module.tqdm = partial(tqdm, disable=True)  # no progress bar for each batch
    return module


def costs(budget: Budget, n_updates: int, network: nn.Module) -> dict:
    "Facts of a training for its row; imports do not count."
    n_parameters = sum(p.numel() for p in network.parameters())
    return {"training_seconds": budget.spent, "updates": n_updates, "parameters": n_parameters}


class ConditionalUnet(nn.Module):
    "`Unet1D` with embeddings of station and weekday as further channels that are constant over the day."

    def __init__(self, make_unet, width: int, n_stations: int, dim: int = 16):
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(n, dim) for n in (n_stations, 7)])
        self.unet = make_unet(dim=width, channels=1 + 2 * dim, out_dim=1)
        self.channels, self.self_condition = 1, False  # read by the package

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        known = torch.cat([table(condition[:, k]) for k, table in enumerate(self.tables)], 1)
        return self.unet(torch.cat([x, known[..., None].expand(-1, -1, x.shape[-1])], 1), t)


class Unet1D:
    """`Unet1D` and `GaussianDiffusion1D` of denoising-diffusion-pytorch, predicting v, DDIM.

    Optimiser, schedule of the learning rate, batch size and averaged weights are those of our training.
    """

    packages = ("denoising-diffusion-pytorch",)

    def __init__(self, is_conditional: bool, lr: float = 2e-3, width: int = 32):
        self.is_conditional, self.lr, self.width = is_conditional, lr, width

    def fit(self, data: Datasets, seconds: float, seed: int, folder: Path) -> dict:
        "Train as ours is trained; the share of spent seconds takes the place of the share of updates."
        package = import_1d()
        budget, args = Budget(seconds), TrainingArguments(n_updates=1000, lr=self.lr, batch_size=BATCH_SIZE)
        torch.manual_seed(seed)
        train = data.train.drop_incomplete()
        x, known = train.x[:, None], torch.from_numpy(station_and_weekday(train))

        def make_unet(**settings):
            return package.Unet1D(dim_mults=(1, 2, 4), **settings)

        if self.is_conditional:
            network = ConditionalUnet(make_unet, self.width, len(data.train_periods.station))
        else:
            network = make_unet(dim=self.width, channels=1)
        model = package.GaussianDiffusion1D(
            network, seq_length=HOURS, objective="pred_v", sampling_timesteps=DDIM_STEPS
        )
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=args.weight_decay)
        ema, n_updates = make_ema(model, args.ema_decay), 0
        while budget.share < 1:
            rows = torch.randint(len(x), (args.batch_size,))
            loss = model(x[rows], model_forward_kwargs=self.inputs(known[rows]))
            lr = learning_rate(min(999, int(1000 * budget.share)), args)
            optimizer_step(model, optimizer, loss, lr, args.max_grad_norm, ema)
            n_updates += 1
        self.model = ema.module
        return costs(budget, n_updates, network)

    def inputs(self, known: Tensor) -> dict:
        "Further arguments of the network."
        return {"condition": known} if self.is_conditional else {}

    def sample(self, data: Datasets, n_samples: int, seed: int) -> tuple[np.ndarray, dict]:  # (S, B, L)
        "Days for every test day; without condition any days."
        torch.manual_seed(seed)
        known, days = torch.from_numpy(station_and_weekday(data.test)).repeat(n_samples, 1), []
        for part in known.split(256):
            days.append(self.model.sample(len(part), model_forward_kwargs=self.inputs(part))[:, 0])
        return torch.cat(days).reshape(n_samples, -1, HOURS).numpy(), {}


class PAR:
    """Probabilistic autoregressive model of `sdv`, by its engine `deepecho`, with station and weekday as context.

    The engine makes one update an epoch, from all days. Its own sampler makes one day at a time; here all days are
    drawn at once from the same distributions, and the seconds of its own sampler are measured on some days.
    """

    packages = ("sdv", "deepecho")
    n_timed = 24  # days

    def fit(self, data: Datasets, seconds: float, seed: int, folder: Path) -> dict:
        "As many epochs as fit into the seconds, by the time of the first ones."
        from deepecho import PARModel

        train = data.train.drop_incomplete()
        context = station_and_weekday(train).astype(str).tolist()
        sequences = [{"context": c, "data": [x.tolist()]} for c, x in zip(context, train.x)]
        types, spent = (["categorical"] * 2, ["continuous"]), []
        for epochs in (1, 3):
            budget = Budget(seconds)
            PARModel(epochs, cuda=False, verbose=False).fit_sequences(sequences, *types)
            spent.append(budget.spent)
        epochs = max(1, round(1 + (seconds - spent[0]) / ((spent[1] - spent[0]) / 2)))
        torch.manual_seed(seed)
        self.model, budget = PARModel(epochs, cuda=False, verbose=False), Budget(seconds)
        self.model.fit_sequences(sequences, *types)
        return costs(budget, epochs, self.model._model)

    def sample(self, data: Datasets, n_samples: int, seed: int) -> tuple[np.ndarray, dict]:  # (S, B, L)
        "All days at once."
        torch.manual_seed(seed)
        context = station_and_weekday(data.test).astype(str).tolist()
        start_time = time.process_time()
        for known in context[: self.n_timed]:
            self.model.sample_sequence(known)
        per_day = (time.process_time() - start_time) / self.n_timed
        table = torch.stack([self.model._context_to_tensor(c) for c in context])
        x = self.draw(table.repeat(n_samples, 1)).reshape(n_samples, -1, HOURS).numpy()
        return x, {"sampling_seconds": per_day * len(context) * n_samples}

    @torch.no_grad()
    def draw(self, context: Tensor) -> Tensor:  # (B, L)
        "What `deepecho` draws for one day, for B of them: hour, flag of a missing value, token."
        network, names = self.model._model, self.model._data_map
        (mu, sigma, missing), value = names[0]["indices"], names[0]
        tokens = list(names["<TOKEN>"]["indices"].values())
        x, state, hours = torch.zeros(1, len(context), self.model._data_dims), None, []
        x[..., names["<TOKEN>"]["indices"]["<START>"]] = 1
        for _ in range(HOURS):
            h, state = network.rnn(network.down(torch.cat([x, context[None]], 2)), state)
            out = network.up(h)
            x = torch.zeros_like(x)
            x[..., missing] = torch.bernoulli(torch.sigmoid(out[..., missing]))
            drawn = torch.normal(out[..., mu], nn.functional.softplus(out[..., sigma]))
            x[..., mu] = drawn * (1 - x[..., missing])
            token = torch.multinomial(out[0][:, tokens].softmax(1), 1)
            x[0] = x[0].scatter(1, torch.tensor(tokens)[token], 1.0)
            hours.append(x[0, :, mu] * value["std"] + value["mu"])
        return torch.stack(hours, 1)


def series_of(data: Datasets) -> list[dict]:
    "Training days of each station as one series of hours, for GluonTS."
    hours, cube = data.train_periods.hours.tz_localize(None), data.train.cube.numpy()
    if len(hours) * pd.Timedelta("1h") != hours[-1] - hours[0] + pd.Timedelta("1h"):
        raise ValueError("the training days do not follow each other")
    start = hours[0].to_period("h")
    return [{"start": start, "target": x.ravel(), "feat_static_cat": [k]} for k, x in enumerate(cube)]


class DeepAR:
    """`DeepAREstimator` of GluonTS, a forecaster: it goes on from the last training hours, test days included.

    Lags lie within the training days; everything else is the default of the package.
    """

    packages = ("gluonts", "lightning")
    lags = [1, 2, 3, 4, 5, 6, 7, 23, 24, 25, 47, 48, 49, 167, 168, 169]

    def fit(self, data: Datasets, seconds: float, seed: int, folder: Path) -> dict:
        "Train until the seconds are spent."
        from gluonts.torch import DeepAREstimator
        from lightning.pytorch.callbacks import Callback
        from lightning.pytorch.utilities import disable_possible_user_warnings

        budget = Budget(seconds)

        class Stop(Callback):
            n_updates = 0

            def on_train_batch_end(self, trainer, *_):
                self.n_updates += 1
                trainer.should_stop = budget.share >= 1

        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        disable_possible_user_warnings()
        torch.manual_seed(seed)
        np.random.seed(seed)
        stop, n_test = Stop(), data.test.cube.shape[1] * HOURS
        quiet = {"enable_progress_bar": False, "logger": False, "enable_model_summary": False}
        estimator = DeepAREstimator(
            freq="h",
            prediction_length=n_test,
            context_length=HOURS,
            lags_seq=self.lags,
            num_feat_static_cat=1,
            cardinality=[len(data.train.cube)],
            nonnegative_pred_samples=True,
            trainer_kwargs={
                "max_epochs": 10_000,
                "callbacks": [stop],
                "accelerator": "cpu",
                "default_root_dir": folder,
                **quiet,
            },
        )
        self.predictor = estimator.train(series_of(data))
        return costs(budget, stop.n_updates, self.predictor.prediction_net)

    def sample(self, data: Datasets, n_samples: int, seed: int) -> tuple[np.ndarray, dict]:  # (S, B, L)
        "Paths over the test days, cut into days."
        torch.manual_seed(seed)
        forecasts = self.predictor.predict(series_of(data), num_samples=n_samples)
        paths = np.stack([forecast.samples for forecast in forecasts], 1)  # (S, N, hours of the test days)
        return paths.reshape(n_samples, -1, HOURS), {}


class TimeUp(Exception):
    "The seconds are spent."


def match_attributes(
    wanted: np.ndarray,  # (B, 2) station and weekday of the test days
    made: np.ndarray,  # (n, 2) those of generated days
    n_samples: int,  # S
    rng: np.random.Generator,
) -> tuple[np.ndarray, float]:  # (S, B) rows of `made`; share of test days with days of their station and weekday
    "Generated days of the same station and weekday; if there is none, of the station, of the weekday, or any."
    rows, n_exact = np.empty((n_samples, len(wanted)), int), 0
    for place, (station, weekday) in enumerate(wanted):
        same_station, same_weekday = made[:, 0] == station, made[:, 1] == weekday
        pools = (same_station & same_weekday, same_station, same_weekday, np.ones(len(made), bool))
        chosen = next(k for k, pool in enumerate(pools) if pool.any())
        n_exact += chosen == 0
        rows[:, place] = rng.choice(np.flatnonzero(pools[chosen]), n_samples)
    return rows, n_exact / len(wanted)


class DGAN:
    """`DGAN` (DoppelGANger) of gretel-synthetics, with station and weekday as discrete attributes.

    It generates attributes and days together: days are generated freely, and those with the attributes of a test day
    are taken for it.
    """

    packages = ("gretel-synthetics",)
    n_generated = 4  # days generated for each sample that is needed

    def fit(self, data: Datasets, seconds: float, seed: int, folder: Path) -> dict:
        "Train until the seconds are spent; defaults of the package but the batch size."
        from gretel_synthetics.timeseries_dgan import config, dgan

        warnings.filterwarnings("ignore", category=FutureWarning, module="gretel_synthetics|torch")
        budget, n_updates = Budget(seconds), 0
        torch.manual_seed(seed)
        np.random.seed(seed)
        train, discrete = data.train.drop_incomplete(), config.OutputType.DISCRETE
        self.model = dgan.DGAN(
            config.DGANConfig(HOURS, sample_len=4, batch_size=BATCH_SIZE, epochs=100_000, cuda=False)
        )

        def stop(_):
            nonlocal n_updates
            n_updates += 1
            if budget.share >= 1:
                raise TimeUp

        try:
            self.model.train_numpy(
                train.x[..., None].numpy().astype(float),
                [config.OutputType.CONTINUOUS],
                station_and_weekday(train),
                [discrete, discrete],
                progress_callback=stop,
            )
        except TimeUp:
            self.model._set_mode(False)
        return costs(budget, n_updates, self.model.generator)

    def sample(self, data: Datasets, n_samples: int, seed: int) -> tuple[np.ndarray, dict]:  # (S, B, L)
        "Days with the attributes of the test days."
        torch.manual_seed(seed)
        wanted = station_and_weekday(data.test)
        with torch.no_grad():
            made, days = self.model.generate_numpy(self.n_generated * n_samples * len(wanted))
        rows, exact = match_attributes(wanted, made.astype(int), n_samples, np.random.default_rng(seed))
        return np.stack(days)[rows, :, 0].astype(np.float32), {"matched_share": exact}
