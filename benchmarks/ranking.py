"""Held-out stations as new sites: which will be busy, and how well the hours are predicted, beside nearest stations.

    stouter run nanjing --seed 1 -p data.protocol new_stations -p data.known_days true -p train.n_updates 1500 \\
        --out runs/ranking/nanjing
    stouter run demo -p data.protocol new_stations -p data.block_size_km 0.5 -p train.n_updates 200 \\
        -p evaluation.n_samples 4 --out runs/ranking/demo
    OMP_NUM_THREADS=1 python benchmarks/ranking.py runs/ranking/{nanjing,demo} --json nbs/results/ranking.json

The run generates the test days at its held-out stations with predicted scales, as for sites of a file. The references
have the training days of stations near on the map or alike in their counts, in physical units: a station for each
sample, a day of it for each day. CRPS is in units of a station's range in the test days, so that every station counts
alike; the weights of the hours are those of the training stations in training days.
"""

import argparse
import platform
from pathlib import Path

import numpy as np
import torch

from stouter.data.stations import to_ecef
from stouter.evaluation.proper_scores import crps, hour_weights, weighted_crps
from stouter.files import write_json
from stouter.pipeline.generate import generate_traffic, make_request
from stouter.pipeline.run import RunResults, load_run
from stouter.planning.ranking import busy_hour_traffic, rank_sites, ranking_scores

N_SAMPLES = 32


def borrowed_days(
    days: np.ndarray,  # (n, P, 24) training days of the training stations, physical units
    features: tuple[np.ndarray, np.ndarray],  # (n, d) of the training stations, (m, d) of the held-out ones
    neighbours: int,  # how many of the nearest training stations are drawn from
    n_days: int,  # days to be generated
    rng: np.random.Generator,
) -> np.ndarray:  # (S, m, H)
    "Days of stations that are near by their features: a station for each sample, a day of it for each day."
    known, asked = features
    nearest = ((asked[:, None] - known[None]) ** 2).sum(-1).argsort(1)[:, :neighbours]
    station = nearest[np.arange(len(asked)), rng.integers(neighbours, size=(N_SAMPLES, len(asked)))]
    day = rng.integers(days.shape[1], size=(N_SAMPLES, len(asked), n_days))
    return days[station[..., None], day].reshape(N_SAMPLES, len(asked), -1)


def samples_of(results: RunResults, rng: np.random.Generator) -> dict[str, np.ndarray]:
    "Samples (S, m, H) of the held-out stations in the test days; method -> traffic in physical units."
    data, stations = results.data, results.city.traffic.stations
    train, test, periods = data.split.train, data.split.test, data.test_periods
    days = data.train_periods.values[train]
    complete = np.isfinite(days).all((1, 2))
    days, train, n_days = days[complete], train[complete], len(periods.days)
    ids = [str(name) for name in stations.index[test]]
    span = [day.tz_localize(None) for day in (periods.days[0], periods.days[-1])]
    request = make_request(results.model, *span, N_SAMPLES, results.seed, ids)
    assert not request.places.is_known.any()
    samples = {"STOUTER": generate_traffic(request).values(request.model.traffic.services[0])}
    xyz, places = to_ecef(stations["lon"], stations["lat"]), data.place_table.numpy()
    for name, table, neighbours in (
        ("nearest station", xyz, 1),
        ("10 nearest stations", xyz, 10),
        ("10 most similar stations", places, 10),
    ):
        samples[name] = borrowed_days(days, (table[train], table[test]), neighbours, n_days, rng)
    return samples


def run_rows(folder: Path) -> list[dict]:
    "Scores of every method for one run."
    results = load_run(folder)
    data, rng = results.data, np.random.default_rng([results.seed, 50])
    test, weights = data.split.test, hour_weights(data.train_periods.values[data.split.train])
    real = data.test_periods.values[test]  # (m, P, 24)
    complete = np.isfinite(real).all((1, 2))
    real, rows = real[complete], []
    span, busy_hour = np.ptp(real, (1, 2))[:, None, None], busy_hour_traffic(real.reshape(len(real), -1))
    k = max(3, round(0.2 * len(real)))
    for method, load in samples_of(results, rng).items():
        load = load[:, complete]
        order = rank_sites(load, results.city.traffic.stations.index[test][complete])
        predicted = order["busy_hour"].reindex(results.city.traffic.stations.index[test][complete]).to_numpy()
        scaled = (load.reshape(N_SAMPLES, *real.shape) / span).reshape(N_SAMPLES, -1, 24).astype(np.float32)
        truth = (real / span).reshape(-1, 24).astype(np.float32)
        rows.append(
            {
                "data": results.config.name,
                "seed": results.seed,
                "updates": results.config.train.n_updates,
                "sites": len(real),
                "k": k,
                "method": method,
                **ranking_scores(busy_hour, predicted, k),
                "crps": crps(truth, scaled),
                "busy_hour_crps": weighted_crps(truth, scaled, weights),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    rows = [row for folder in arguments.runs for row in run_rows(folder)]
    machine = {"processor": platform.machine(), "torch": torch.__version__, "samples": N_SAMPLES}
    write_json(arguments.json, {"machine": machine, "rows": rows})


if __name__ == "__main__":
    main()
