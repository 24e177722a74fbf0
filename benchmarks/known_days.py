"""CRPS against the number of known days, at stations that a method was never trained on.

    OMP_NUM_THREADS=1 python benchmarks/known_days.py runs/known_days --json nbs/results/known_days.json

Three cities, blocks held out (`new_stations`), `data.known_days`. Of each held-out station the last k training days are
known; nothing is trained again. The scale of a station follows from the same k days (`stouter.data.day_scale`) and is
drawn for each sample. All errors are in units of the station's range in all its training days, which no method sees.
With no day known only the shape is judged, in the true scale. Stations with a missing hour in their training days
are left out of the rows. Finished runs and rows are not computed again.
"""

import argparse
import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from stouter.config_file import load_config
from stouter.data.dataset import StationScaler
from stouter.data.day_scale import DayScale, fit_scale_ratio, similar_days
from stouter.data.known_days import make_known_days
from stouter.evaluation.calibration import interval_coverage
from stouter.evaluation.proper_scores import crps
from stouter.files import read_json, write_json
from stouter.pipeline.dataset import City, Datasets, load_city, make_datasets, pretrain_graphs
from stouter.pipeline.methods import Method, train_method
from stouter.training.batches import make_generator

N_SAMPLES, NEIGHBOURS = 32, 10
KNOWN = (0, 1, 2, 3, 5, 7, 14)  # and all
SETTINGS = {"data.protocol": "new_stations", "data.known_days": "true", "train.n_updates": "1500"}
CITIES = {  # the cities of squares of 235 m and of some kilometres need smaller blocks
    "nanjing": {},
    "demo": {"data.block_size_km": "0.5", "train.n_updates": "400"},
    "milan_28": {"data.block_size_km": "1", "train.n_updates": "300"},
}


def is_complete(
    data: Datasets,  # of a city
) -> np.ndarray:  # (N,) bool
    "Stations without a missing hour in their training days; a pool of days needs whole ones."
    return np.isfinite(data.train_periods.values).all((1, 2))


def nearest_stations(
    city: City,  # its stations
    data: Datasets,  # which of them are held out
) -> np.ndarray:  # (n, NEIGHBOURS) rows of training stations
    "The training stations nearest to each held-out one on the map."
    lonlat, train = city.traffic.stations[["lon", "lat"]].to_numpy(), data.split.train
    train = train[is_complete(data)[train]]
    distance = ((lonlat[data.test_rows][:, None] - lonlat[train][None]) ** 2).sum(-1)
    return train[distance.argsort(1)[:, :NEIGHBOURS]]


def sample_network(
    method: Method,  # trained
    data: Datasets,  # test periods and their conditions
    scaled: np.ndarray,  # (n, k, L) known days of the held-out stations
) -> np.ndarray:  # (S, n, P', L) scaled as the known days
    "Samples of the network, told k days of each held-out station."
    periods, k = data.history_periods, scaled.shape[1]
    values = np.full((len(periods.station), k, scaled.shape[2]), np.nan)
    values[data.test_rows] = scaled
    dates = periods.hour_of_week[len(periods.days) - k :], periods.day_numbers[len(periods.days) - k :]
    known = torch.ones(len(data.test.condition), k, dtype=torch.bool)
    condition = replace(data.test.condition, known_days=make_known_days(values, *dates), known=known)
    x = method.sample(condition, N_SAMPLES, make_generator(7)).numpy()
    return x.reshape(N_SAMPLES, len(data.test_rows), -1, x.shape[-1])


def score_rows(city: City, data: Datasets, method: Method, k: int, seed: int) -> dict[str, dict[str, float]]:
    "CRPS and coverage of the 80 % band of every method with k known days; method -> metric -> value."
    rng, test = np.random.default_rng([seed, k]), data.test_rows
    days = data.history_periods.values[test][:, len(data.history_periods.days) - k :]
    low, span = data.test_scaler.min_[test][:, None, None], data.test_scaler.range_[test][:, None, None]
    real = data.test_periods.values[test]
    n, n_periods, length = real.shape
    if k == 0:
        samples = {"STOUTER": sample_network(method, data, days)}
    else:
        weekday, rows = data.history_periods.hour_of_week[:, 0] // 24, np.arange(n)
        ratio = fit_scale_ratio(data.train_periods.values[data.split.train], similar_days(weekday[-k:], weekday))
        scale = DayScale.from_days(days, ratio)
        factor = np.exp(scale.deviation * rng.normal(size=(N_SAMPLES, n)))
        minimum, drawn = scale.draw(np.tile(rows, (N_SAMPLES, 1)), factor)
        scaled = StationScaler(*scale.draw(rows, np.ones(n))).transform(days.swapaxes(0, 1), rows).swapaxes(0, 1)
        x = sample_network(method, data, scaled)
        volume = np.maximum(x * drawn[..., None, None] + minimum[..., None, None], 0)
        pick = rng.integers(k, size=(N_SAMPLES, n, n_periods))
        pool = days[np.arange(n)[:, None], pick]
        other = nearest_stations(city, data)[np.arange(n)[:, None], rng.integers(NEIGHBOURS, size=pick.shape)]
        a_day = data.train_periods.values[other, rng.integers(len(data.history_periods.days), size=pick.shape)]
        shape = (a_day - data.scaler.min_[other][..., None]) / data.scaler.range_[other][..., None]
        borrowed = np.maximum(shape * drawn[..., None, None] + minimum[..., None, None], 0)
        own = rng.random((N_SAMPLES, n, n_periods, 1)) < k / (k + 2)
        samples = {
            "STOUTER": volume,
            "pool of the known days": pool,
            "pool and neighbours": np.where(own, pool, borrowed),
        }
        samples = {name: (value - low) / span for name, value in samples.items()}
    kept, rows = is_complete(data)[test], {}
    truth = ((real - low) / span)[kept].reshape(-1, length).astype(np.float32)
    for name, value in samples.items():
        value = value[:, kept].reshape(N_SAMPLES, -1, length).astype(np.float32)
        rows[name] = {"crps": crps(truth, value), "coverage_80": interval_coverage(truth, value, 0.8)}
    return rows


def score_city(name: str, seed: int, folder: Path, stored: dict, path: Path) -> None:
    "Train on one city, add the rows that `stored` lacks, and write it to `path` after each number of known days."
    folder.mkdir(parents=True, exist_ok=True)
    config = load_config(name, {**SETTINGS, **CITIES[name]})
    city = load_city(config.data, folder)
    embeddings = pretrain_graphs(config.graph, city, seed, folder)
    data = make_datasets(config.data, city, embeddings, seed)
    method = train_method(config, data, seed, folder)
    n_days = len(data.history_periods.days)
    for k in sorted({*(k for k in KNOWN if k < n_days), n_days}):
        if any((row["city"], row["seed"], row["known"]) == (name, seed, k) for row in stored["rows"]):
            continue
        labels = {
            "city": name,
            "seed": seed,
            "known": k,
            "all": n_days,
            "stations": int(is_complete(data)[data.test_rows].sum()),
        }
        for method_name, scores in score_rows(city, data, method, k, seed).items():
            stored["rows"].append({**labels, "method": method_name, **scores})
        write_json(path, stored)
        print(*stored["rows"][-3:], sep="\n", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--cities", nargs="*", default=list(CITIES), choices=CITIES)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    options = parser.parse_args()
    stored = read_json(options.json, {"rows": []})
    stored["settings"] = {**SETTINGS, "samples": N_SAMPLES, "cities": CITIES}
    stored["machine"] = {
        "processor": platform.machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    for name in options.cities:
        for seed in options.seeds:
            score_city(name, seed, options.folder / name / f"seed{seed}", stored, options.json)


if __name__ == "__main__":
    main()
