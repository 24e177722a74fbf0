"""Does it help to start from trained weights? CRPS of a city with few training days, fine-tuned and from scratch.

    OMP_NUM_THREADS=1 python benchmarks/fine_tuning.py runs/fine_tuning --json nbs/results/fine_tuning.json

Two cities, the last seven days held out, and the day or the 7 days before them to train on. `simulated` is a simulated
city of 49 squares with another seed than the models of the package; `milan_28` has 28 real squares. Each is trained
from random weights and from two models of the package, for few updates and for many. `as it is`: the weights of the
model without any update.
Scales are those of the training days. Intervals of the ratios are over stations and test days (`score_intervals`).
Finished rows are not computed again.
"""

import argparse
import platform
from pathlib import Path

import numpy as np

from stouter.config_file import load_config
from stouter.evaluation.calibration import coverage_terms
from stouter.evaluation.intervals import score_draws, score_intervals, station_day_sums
from stouter.evaluation.proper_scores import crps_terms
from stouter.files import read_json, write_json
from stouter.pipeline.dataset import load_city, make_datasets, pretrain_graphs
from stouter.pipeline.evaluate import sample_baseline
from stouter.pipeline.initial_weights import copy_initial
from stouter.pipeline.methods import train_method
from stouter.training.batches import make_generator

N_SAMPLES, N_TEST, FEW, MANY = 16, 7, 60, 240
CITIES = {
    "simulated": (
        "demo",
        {"data.source.n_stations": 49, "data.source.n_days": 14, "data.source.seed": 7},
        "2013-11-07",
    ),
    "milan_28": ("milan_28", {}, "2013-11-23"),  # configuration, settings, last training day
}
STARTS = ("random", "demo", "simulated_milan")
COMMON = {"train.weekday_randomization": 1.0, "train.batch_size": 32, "data.n_test_periods": N_TEST}


def variants() -> dict[str, dict]:
    "Name of a row -> where the training starts and how long it is."
    rows = {f"random, {n} updates": {"train.n_updates": n} for n in (FEW, MANY)}
    for start in STARTS[1:]:
        rows[f"{start}, as it is"] = {"init": start, "train.n_updates": 1, "train.lr": 1e-9}
        rows |= {f"{start}, {n} updates": {"init": start, "train.n_updates": n} for n in (FEW, MANY)}
    return rows


def prepare(city_name: str, days: int, given: dict, root: Path, folder: Path, seed: int):
    "Datasets and configuration of one training; graphs are those of the model where the run starts from one."
    name, settings, last = CITIES[city_name]
    first = (np.datetime64(last) - days + 1).astype(str)
    if name == "demo":
        settings = {**settings, "data.source.cache_dir": str(root / "city")}
    else:
        settings = {**settings, "data.source.cache_dir": str(root / "ingested")}
    config = load_config(name, {**settings, **COMMON, "data.first_day": first, **given})
    folder.mkdir(parents=True, exist_ok=True)
    copy_initial(config, folder)
    city = load_city(config.data, folder)
    embeddings = pretrain_graphs(config.graph, city, seed, folder)
    return config, make_datasets(config.data, city, embeddings, seed)


def sums_of(data, samples: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    "Sums of CRPS and coverage for each station and test day."
    real = data.test.cube.numpy()
    generated = samples.reshape(len(samples), *real.shape)
    return {name: station_day_sums(real, generated, t) for name, t in (("crps", crps_terms), ("cover", coverage_terms))}


def city_rows(city_name: str, days: int, root: Path, seed: int) -> dict[str, dict]:
    "CRPS, coverage, and the ratio of each CRPS to that of random weights with many updates, with its interval."
    sums = {}
    for name, given in variants().items():
        folder = root / f"{city_name}_{days}" / name.replace(" ", "_").replace(",", "") / str(seed)
        config, data = prepare(city_name, days, given, root, folder, seed)
        method = train_method(config, data, seed, folder)
        sums[name] = sums_of(data, method.sample(data.test.condition, N_SAMPLES, make_generator(seed, 30)).numpy())
        if len(sums) == 1:
            for reference in ("bootstrap", "nearest stations"):
                drawn = sample_baseline(reference, data, N_SAMPLES, make_generator(seed, 31)).numpy()
                sums[reference] = sums_of(data, drawn)
        total, count = sums[name]["crps"]
        print(f"{city_name}, {days} days: {name}: {total.sum() / count.sum():.4f}", flush=True)
    draws = score_draws({name: part["crps"] for name, part in sums.items()})
    base = draws[f"random, {MANY} updates"]
    ends = score_intervals({name: values / base for name, values in draws.items()})
    rows = {}
    for name, part in sums.items():
        rows[name] = {key: float(t.sum() / n.sum()) for key, (t, n) in part.items()}
        rows[name]["ratio"] = rows[name]["crps"] / float(
            np.divide(*[p.sum() for p in sums[f"random, {MANY} updates"]["crps"]])
        )
        rows[name]["interval"] = list(ends[name])
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--cities", nargs="+", default=list(CITIES))
    parser.add_argument("--days", nargs="+", type=int, default=[1, 7])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for city_name in options.cities:
        for days in options.days:
            result = read_json(options.json, {})
            place = result.setdefault("rows", {}).setdefault(city_name, {}).setdefault(str(days), {})
            if str(options.seed) not in place:
                place[str(options.seed)] = city_rows(city_name, days, options.folder, options.seed)
                about = {
                    "few": FEW,
                    "many": MANY,
                    "batch_size": COMMON["train.batch_size"],
                    "n_samples": N_SAMPLES,
                    "test_days": N_TEST,
                }
                write_json(options.json, {**result, **about, "machine": platform.machine()})
