"""Deviations from pooled mean days (`data.residuals`) against scaled traffic, with small networks of equal size.

    OMP_NUM_THREADS=1 python benchmarks/residuals.py runs/residuals --json nbs/results/residuals.json

For each city, on the last week of the training days (held out) and on the test days: a network of half the width with
300 updates of 64 samples on scaled traffic and on residuals, and the tuned references; a network of the whole width
and length on residuals shows what length costs. Beside the scores stand parts of
the error: the CRPS of the mean of a day (its level), the error of the median and the width of the 80 % band. A VAE and
two bootstraps show how far methods hold weekends and working days apart.
Finished networks and rows are not computed again.
"""

import argparse
import platform
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from references import load_data, reference_samples, score_row

from stouter.baselines.tuned_reference import TUNED_BASELINES, SmoothedBootstrap
from stouter.config import ExperimentConfig
from stouter.config_file import load_config
from stouter.evaluation.calibration import interval_coverage
from stouter.evaluation.proper_scores import crps, energy_score
from stouter.files import read_json, write_json
from stouter.pipeline.dataset import Datasets, cut_periods, load_city
from stouter.pipeline.evaluate import make_evaluator
from stouter.pipeline.methods import train_method
from stouter.training.batches import make_generator

CITIES = ("milan_28", "demo", "shandong", "nanjing")
N_SAMPLES = 16
SMALL = {"denoiser.base_channels": "16", "train.batch_size": "64", "train.n_updates": "300"}
COMMON = {"train.weekday_randomization": "1.0", "evaluation.n_samples": str(N_SAMPLES)}
VARIANTS = {  # name -> fields
    "traffic": SMALL,
    "residuals": {**SMALL, "data.residuals": "true"},
    "residuals, stations alike": {**SMALL, "data.residuals": "true", "graph.ablate": "[space]"},  # no identity
    "residuals, all updates": {"data.residuals": "true"},  # width and length of the configuration
    "VAE": {"method": "vae", "train.lr": "0.004", "train.n_updates": "900"},  # more of its cheaper updates
}
APART, TOGETHER = "bootstrap, day types apart", "bootstrap, day types together"  # smoothed, for `kind_contrast`
POOLS = {APART: 0.0, TOGETHER: 1.0}
HELD_OUT, TEST = "held-out week", "test days"


def make_config(city: str, variant: str, days: str, folder: Path) -> ExperimentConfig:
    "A small network for the test days, or for the last week of the training days (half of them if there are few)."
    fields = COMMON | VARIANTS.get(variant, {})
    if days == HELD_OUT:
        config = load_config(city)
        train, _, _ = cut_periods(load_city(config.data, folder / "city").traffic, config.data)
        n_held_out = str(min(7, len(train.days) // 2))
        fields |= {"data.last_day": str(train.days[-1].date()), "data.n_test_periods": n_held_out}
    return load_config(city, fields)


def error_parts(real: np.ndarray, x: np.ndarray) -> dict[str, float]:
    "Scores of samples (S, B, L), and parts of their error."
    low, high = np.quantile(x, [0.1, 0.9], axis=0)
    return {
        "crps": crps(real, x),
        "energy_score": energy_score(real, x),
        "coverage_80": interval_coverage(real, x),
        "level_crps": crps(real.mean(1, keepdims=True), x.mean(2, keepdims=True)),
        "median_error": float(np.nanmean(np.abs(real - np.median(x, axis=0)))),
        "width_80": float((high - low).mean()),
    }


def kind_contrast(data: Datasets, x: np.ndarray) -> float:
    """How much of the difference between weekends and working days of a station samples (S, B, L) repeat.

    Slope of a regression, without constant, on the differences of the training days, over stations and hours.
    """
    known, test = data.known.drop_incomplete(), data.test
    differences = []
    for days, values in ((known, known.x.numpy()), (test, x.mean(0))):
        station, weekend = days.condition.station.numpy(), days.condition.weekend.numpy()
        table = pd.DataFrame(values)
        means = [table[weekend == kind].groupby(station[weekend == kind]).mean() for kind in (True, False)]
        differences.append((means[0] - means[1]).dropna())
    of_training, of_samples = differences[0].align(differences[1], "inner")
    return float((of_training * of_samples).to_numpy().sum() / of_training.pow(2).to_numpy().sum())


def network_samples(config: ExperimentConfig, data: Datasets, seed: int, place: Path) -> np.ndarray:
    "Samples (S, B, L) of a network; trained if it is not there."
    place.mkdir(parents=True, exist_ok=True)
    method = train_method(config, data, seed, place)
    return method.sample(data.test.condition, N_SAMPLES, make_generator(seed, 30)).numpy()


def score_job(city: str, variant: str, days: str, seed: int, folder: Path) -> dict:
    "One row: a network or a reference on the held-out week or on the test days; realism is for the first seed."
    config = make_config(city, variant, days, folder / city)
    place = folder / city / days.replace(" ", "_")
    evaluated, data = load_data(config, seed, place / "city")
    if variant in VARIANTS:
        x = network_samples(config, data, seed, place / variant / f"seed{seed}")
    elif variant in POOLS:
        pool = SmoothedBootstrap({"other_kind": POOLS[variant], "half_life": np.inf, "bandwidth": 0.5})
        x = pool.fit(data.known).sample(data.test.condition, N_SAMPLES, make_generator(seed, 50)).numpy()
    else:
        x = reference_samples(variant, data, seed)[0][:N_SAMPLES]
    row = error_parts(data.test.x.numpy(), x)
    if set(data.known.condition.weekend.tolist()) == set(data.test.condition.weekend.tolist()) == {False, True}:
        row["kind_contrast"] = kind_contrast(data, x)
    if days == TEST and seed == 0:
        row |= score_row(make_evaluator(config, evaluated, data, seed), x)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--cities", nargs="*", default=list(CITIES))
    parser.add_argument("--methods", nargs="*", default=[*TUNED_BASELINES, *POOLS, *VARIANTS])
    parser.add_argument("--days", nargs="*", default=[HELD_OUT, TEST])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    machine = {"processor": platform.machine(), "torch": torch.__version__, "threads": 1}
    jobs = [
        (city, days, seed, method)
        for seed in options.seeds
        for days in options.days
        for city in options.cities
        for method in options.methods
    ]
    for city, days, seed, method in jobs:
        stored = read_json(options.json, {}) or {"rows": []}
        done = [(row["city"], row["days"], row["seed"], row["method"]) for row in stored["rows"]]
        if (city, days, seed, method) in done:
            continue
        row = {"city": city, "days": days, "seed": seed, "method": method}
        row |= score_job(city, method, days, seed, options.folder)
        stored = read_json(options.json, {}) or {"rows": []}
        stored |= {"machine": machine, "samples": N_SAMPLES, "fields": VARIANTS}
        write_json(options.json, stored | {"rows": [*stored["rows"], row]})
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)


if __name__ == "__main__":
    main()
