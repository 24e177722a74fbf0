"""Joint samples from one noise vector per day that all stations share, beside the latent field of `joint.py`.

    OMP_NUM_THREADS=1 python benchmarks/shared_noise.py runs/shared --json nbs/results/shared_noise.json

A network of one pass makes following days of a station from the shared noise of each day, which a station multiplies
with numbers of its own, from noise of its own, and from its condition. Both kinds of noise have learned memory from day
to day. The loss is the energy score of station-days, plus a weight times energy scores of joint vectors. All settings
are compared on the last week of the training days (half of them if there are few) with seed 0, one set for all cities;
the chosen ones are scored on the test days once for each seed, beside the same networks with noise that nothing shares
(the same single days). Rows that are in the file are not computed again.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from joint import measure
from references import load_data
from torch import Tensor, nn
from torch.nn import functional as F

from stouter.baselines.one_step import FiLMConditioner
from stouter.config_file import load_config
from stouter.data.dataset import Condition
from stouter.evaluation.sums import expected_days
from stouter.files import read_json, write_json
from stouter.joint.calibration import PairKernels
from stouter.joint.field import N_FREQUENCIES, LatentField
from stouter.optim import make_ema, optimizer_step
from stouter.pipeline.dataset import Datasets, cut_periods, load_city
from stouter.training.batches import make_generator, randomize_weekday

SAMPLES = {"demo": 32, "milan_28": 64, "nanjing": 32}  # as in joint.json
BASE = {"residuals": True, "weight": 1.0, "joint": "vector", "k": 16, "stations": 16, "days": 7, "updates": 400}
TRIED = ({}, {"residuals": False}, {"weight": 4.0}, {"joint": "sums"}, {"k": 4})  # what differs from `BASE`
WIDTH, BATCH, LR = 32, 224, 4e-3  # channels; station-days of an update, at least; learning rate
JUDGED = ("crps", "city_hour_crps", "neighbourhood_hour_crps", "station_week_crps")  # their geometric mean decides


class SharedNoiseNetwork(nn.Module):
    "Noise of following days, shared and own, and conditions to days; convolutions go over midnight."

    def __init__(self, data: Datasets, place: Tensor, k: int):
        super().__init__()
        condition, self.k = data.known.condition, k
        station_dim, hour_dim = condition.station_table.shape[1], condition.hour_table.shape[1]
        self.conditioner = FiLMConditioner(station_dim, hour_dim, WIDTH)
        self.register_buffer("place", torch.cat([place, condition.station_table], 1))  # (N, F) of each station
        self.gain = nn.Linear(self.place.shape[1], k)
        self.memory = nn.Parameter(torch.linspace(-2, 3, k).repeat(2))  # logits of correlations, shared and own
        self.from_latent = nn.Linear(2 * k, 3 * 2 * WIDTH)
        sizes = (2 * WIDTH, 2 * WIDTH, WIDTH, WIDTH)
        self.layers = nn.ModuleList(nn.Conv1d(a + WIDTH, b, 5, padding=2) for a, b in zip(sizes, sizes[1:]))
        self.head = nn.Conv1d(2 * WIDTH, 2, 1)
        nn.init.zeros_(self.head.weight)
        self.head.bias.data = torch.tensor([0.0, -2.0])

    def remember(self, white: Tensor, shared: bool) -> Tensor:
        "White noise (..., W, k) of following days to noise with memory, of variance 1."
        rho = self.memory[: self.k].sigmoid() if shared else self.memory[self.k :].sigmoid()
        days = [white[..., 0, :]]
        for day in range(1, white.shape[-2]):
            days.append(rho * days[-1] + (1 - rho**2).sqrt() * white[..., day, :])
        return torch.stack(days, -2)

    def encode(self, condition: Condition, n_days: int) -> list[Tensor]:
        "Of B W days: factors of the shared noise (B, 1, k), and conditions (B, d, H) with H / W = 6, 12, 24."
        cond = self.conditioner(condition).unflatten(0, (-1, n_days)).transpose(1, 2).flatten(2)  # (B, d, 24 W)
        levels = [cond.unflatten(2, (-1, size)).mean(3) for size in (4, 2)]
        return [self.gain(self.place[condition.station[::n_days]])[:, None], *levels, cond]

    def forward(self, shared: Tensor, own: Tensor, hourly: Tensor, encoded: list[Tensor]) -> Tensor:
        "White noise (B, W, k), (B, W, k) and (B, W, 24) of B series of W days -> (B, W, 24), traffic from -1 to 1."
        gain, *levels = encoded
        z = torch.cat([gain * self.remember(shared, True), self.remember(own, False)], -1)
        h = self.from_latent(z).unflatten(2, (-1, 3)).transpose(1, 2).flatten(2)  # (B, C, 3 W)
        for net, cond in zip(self.layers, levels):
            h = F.elu(net(torch.cat([h.repeat_interleave(2, 2), cond], 1)))
        mean, log_std = self.head(torch.cat([h, cond], 1)).chunk(2, dim=1)
        return (mean + log_std.clamp(-5, 1).exp() * hourly.flatten(1)[:, None])[:, 0].unflatten(1, hourly.shape[1:])


def energy(x: Tensor, first: Tensor, second: Tensor, n_last: int) -> Tensor:
    "Unbiased energy score of two draws, the norm over the last axes by the root of their size; NaN is left out."
    known = x.isfinite().flatten(-n_last)
    n = known.sum(-1).clamp(min=1)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        square = torch.where(known, (a.flatten(-n_last) - b.flatten(-n_last)).square(), 0.0)
        return ((square.sum(-1) + 1e-12) / n).sqrt()

    x = x.nan_to_num()
    each = (distance(first, x) + distance(second, x) - distance(first, second)) / 2
    return each[known.any(-1)].mean()


def joint_energy(x: Tensor, first: Tensor, second: Tensor, joint: str) -> Tensor:
    "Of patches (G, K, W, L): all hours of all stations and days as one vector, or means over stations and over days."
    if joint == "vector":
        return energy(x, first, second, 3) + energy(x, first, second, 2)  # patches of stations, and stations
    known = x.isfinite().float()
    draws = [torch.where(x.isfinite(), part, 0.0) for part in (x, first, second)]
    hours = [part.sum(1) / known.sum(1).clamp(min=1) for part in draws]  # (G, W, L) of the patch
    weeks = [part.sum((2, 3)) / known.sum((2, 3)).clamp(min=1) for part in draws]  # (G, K) of the stations
    return energy(*hours, 2) + energy(*(part[..., None] for part in weeks), 1)


def draw(network, shared: Tensor, encoded: list[Tensor], generator: torch.Generator) -> Tensor:
    "Days (B, W, 24) from shared noise (B, W, k), with noise of their own."
    own = torch.randn(shared.shape, generator=generator)
    return network(shared, own, torch.randn(*shared.shape[:2], 24, generator=generator), encoded)


def make_network(data: Datasets, lonlat: np.ndarray, s: dict, seed: int) -> SharedNoiseNetwork:
    "Untrained; places are described by smooth functions on five scales of distance."
    lengths = PairKernels.from_lonlat(lonlat).length_km
    shares = (1.0, *[0.0] * (len(lengths) + 1))
    features = LatentField(tuple(lonlat.mean(0).tolist()), lengths, shares, shares).features(lonlat)
    features[:, 1:] *= N_FREQUENCIES**0.5
    torch.manual_seed(seed)
    return SharedNoiseNetwork(data, torch.from_numpy(features).float(), s["k"])


def fit(data: Datasets, lonlat: np.ndarray, s: dict, seed: int) -> SharedNoiseNetwork:
    "Train on windows of following days of patches of near stations."
    train, network, n_days = data.train.for_network(), make_network(data, lonlat, s, seed), s["days"]
    n, day, cube = len(lonlat), data.train_periods.day_numbers, 2 * train.cube - 1
    n_days = min(n_days, len(day) // 2)
    starts = np.flatnonzero(day[n_days - 1 :] - day[: len(day) - n_days + 1] == n_days - 1)
    east = (lonlat - lonlat.mean(0)) * [np.cos(np.radians(lonlat[:, 1].mean())), 1]
    nearest = np.argsort(((east[:, None] - east[None]) ** 2).sum(2), axis=1, kind="stable")[:, : s["stations"]]
    n_patches, rng = max(2, -(-BATCH // (nearest.shape[1] * n_days))), np.random.default_rng(seed)
    ema, optimizer = make_ema(network, 0.99), torch.optim.AdamW(network.parameters(), LR, weight_decay=1e-4)
    for update in range(s["updates"]):
        rows = nearest[rng.integers(n, size=n_patches)]  # (G, K)
        days = rng.choice(starts, n_patches)[:, None] + np.arange(n_days)  # (G, W)
        index = torch.from_numpy(rows[:, :, None] * len(day) + days[:, None])  # (G, K, W)
        x = cube.flatten(0, 1)[index]
        condition = randomize_weekday(train.condition[index.flatten()], 1.0, seed, update)
        encoded, generator, draws = network.encode(condition, n_days), make_generator(seed, 4, update), []
        for _ in range(2):
            shared = torch.randn(n_patches, 1, n_days, s["k"], generator=generator).expand(-1, rows.shape[1], -1, -1)
            draws.append(draw(network, shared.flatten(0, 1), encoded, generator).view_as(x))
        loss = energy(x, *draws, 1)
        if s["weight"]:
            loss = loss + s["weight"] * joint_energy(x, *draws, s["joint"])
        lr = LR * min(1, (update + 1) / 50) * (1 + np.cos(np.pi * update / s["updates"])) / 2
        optimizer_step(network, optimizer, loss, lr, 1.0, ema)
    return ema.module.eval()


@torch.no_grad()
def sample(network: SharedNoiseNetwork, data: Datasets, n_samples: int, seed: int, is_shared: bool) -> np.ndarray:
    "Cities (S, N, Q, 24) of the test days; without sharing every station and day has noise of its own."
    condition, n_days = data.test.condition, len(data.test_periods.day_numbers)
    n, generator, cities = len(condition) // n_days, make_generator(seed, 30), []
    encoded = network.encode(condition, n_days)
    one_by_one = [part.repeat_interleave(n_days, 0) for part in encoded]
    for _ in range(n_samples):
        if is_shared:
            shared = torch.randn(1, n_days, network.k, generator=generator).expand(n, -1, -1)
            x = draw(network, shared, encoded, generator)
        else:
            parts = [torch.randn(n * n_days, n_days, network.k, generator=generator) for _ in range(2)]
            hourly = torch.randn(n * n_days, n_days, 24, generator=generator)
            x = network(*parts, hourly, one_by_one).view(n, n_days, n_days, 24)
            x = x[:, torch.arange(n_days), torch.arange(n_days)]  # each day from a draw of its own
        cities.append(condition.from_network((x.reshape(-1, 24) + 1) / 2).clamp(min=0))
    return torch.stack(cities).view(n_samples, n, n_days, 24).numpy()


def open_data(city: str, s: dict, held_out: bool, seed: int, folder: Path) -> tuple[Datasets, np.ndarray]:
    "Data of the test days, or with the last week of the training days in their place; positions of the stations."
    fields = {"data.residuals": str(s["residuals"]).lower()}
    if held_out:
        config = load_config(city)
        train, _, _ = cut_periods(load_city(config.data, folder / city / "test").traffic, config.data)
        fields |= {"data.last_day": str(train.days[-1].date())}
        fields |= {"data.n_test_periods": str(min(7, len(train.days) // 2))}
    place = folder / city / ("held_out" if held_out else "test")
    source, data = load_data(load_config(city, fields), seed, place)
    return data, source.traffic.stations[["lon", "lat"]].to_numpy()


def score(city: str, s: dict, held_out: bool, seed: int, folder: Path) -> dict[str, dict]:
    "Scores of shared noise, and on the test days also of the same network with noise that nothing shares."
    data, lonlat = open_data(city, s, held_out, seed, folder)
    start = time.process_time()
    network = fit(data, lonlat, s, seed)
    seconds, found = time.process_time() - start, {}
    week, test_week = (p.hour_of_week for p in (data.train_periods, data.test_periods))
    real = data.test.cube.numpy()
    expected = expected_days(data.known.cube.numpy(), week, test_week)
    for name, is_shared in (("shared noise", True), ("independent", False))[: 1 if held_out else 2]:
        start = time.process_time()
        x = sample(network, data, SAMPLES[city], seed, is_shared)
        row = measure(real, x, expected, lonlat, data.test_periods.day_numbers)
        found[name] = {**row, "train_seconds": round(seconds, 1), "seconds": round(time.process_time() - start, 1)}
    return found


def choose(rows: list[dict]) -> dict:
    "The settings with the lowest geometric mean of the judged scores on the held-out weeks of all cities."
    losses = {}
    for row in rows:
        losses.setdefault(str(row["settings"]), []).extend(np.log([row[name] for name in JUDGED]))
    best = min(losses, key=lambda key: np.mean(losses[key]))
    return next(row["settings"] for row in rows if str(row["settings"]) == best)


def main() -> None:
    "Measure what is not in the file yet."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where cities and embeddings are kept")
    parser.add_argument("--json", type=Path, required=True, help="rows that it holds are not computed again")
    parser.add_argument("--cities", nargs="*", default=list(SAMPLES))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = read_json(options.json, {}) or {"held_out": [], "test": []}
    done = [(row["city"], row["settings"]) for row in table["held_out"]]
    for settings in [BASE | changed for changed in TRIED]:
        for city in options.cities:
            if (city, settings) not in done:
                row = score(city, settings, True, 0, options.folder)["shared noise"]
                table["held_out"].append({"city": city, "settings": settings, **row})
                write_json(options.json, table)
                print(city, settings, {k: round(v, 4) for k, v in row.items() if isinstance(v, float)}, flush=True)
    chosen = choose(table["held_out"])
    done = [(row["city"], row["seed"], row["settings"]) for row in table["test"]]
    for seed in options.seeds:
        for city in options.cities:
            if (city, seed, chosen) not in done:
                for name, row in score(city, chosen, False, seed, options.folder).items():
                    table["test"].append({"city": city, "seed": seed, "method": name, "settings": chosen, **row})
                write_json(options.json, table)
                print(city, seed, chosen, flush=True)


if __name__ == "__main__":
    main()
