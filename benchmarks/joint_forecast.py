"""Forecasts of the test week by the field given the last training week, beside draws without condition.

    OMP_NUM_THREADS=1 python benchmarks/joint_forecast.py runs/run/demo/seed0 --out nbs/results/joint_forecast.json

Mean absolute errors are those of the median of the samples; the seasonal naive forecast repeats the hour of a week ago.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from stouter.evaluation.calibration import interval_coverage
from stouter.evaluation.proper_scores import crps
from stouter.files import write_json
from stouter.joint.field import LatentField
from stouter.joint.forecast import PastNoise, draw_joint
from stouter.joint.inversion import integrate_noise
from stouter.pipeline.run import RunResults, load_run

LEADS = {"1": slice(0, 1), "2 to 3": slice(1, 3), "4 to 7": slice(3, 7)}  # days after the last known one


def generate(
    run: RunResults, field: LatentField, past: PastNoise | None, n_samples: int
) -> np.ndarray:  # (S, N, Q, L) scaled
    "The test days of all stations."
    condition, day = run.data.test.condition, run.data.test_periods.day_numbers
    key = condition.station.numpy()
    rows = run.city.traffic.stations[["lon", "lat"]].to_numpy()[key]
    days, samples = np.tile(day, len(key) // len(day)), []
    for s in range(n_samples):
        noise = draw_joint(field, past, rows, key, days, np.full(len(key), s), run.seed)
        samples.append(integrate_noise(run.method, condition, torch.from_numpy(noise)).numpy())
    return np.stack(samples).reshape(n_samples, -1, len(day), 24)


def score(real: np.ndarray, samples: np.ndarray) -> dict:
    "Errors of single hours and of the mean of the city; real (N, Q, L), samples (S, N, Q, L)."
    city, city_samples = np.nanmean(real, 0), np.where(np.isfinite(real), samples, np.nan)
    city_samples = np.nanmean(city_samples, 1)
    return {
        "crps": crps(real.reshape(-1, 24), samples.reshape(len(samples), -1, 24)),
        "mae": float(np.nanmean(np.abs(np.median(samples, 0) - real))),
        "coverage_80": interval_coverage(real.reshape(-1, 24), samples.reshape(len(samples), -1, 24)),
        "city_hour_crps": crps(city, city_samples),
        "city_hour_mae": float(np.nanmean(np.abs(np.median(city_samples, 0) - city))),
        "city_hour_coverage_80": interval_coverage(city, city_samples),
    }


def compare(run: RunResults, n_samples: int) -> dict:
    "Both kinds of draws and the seasonal naive forecast, by lead."
    start = time.process_time()
    field, past = run.field, run.past
    seconds = time.process_time() - start
    real, train = run.data.test.cube.numpy(), run.data.known.cube.numpy()
    naive, rows = train[:, -7:][:, : real.shape[1]], {}
    cities = {"forecast": generate(run, field, past, n_samples), "without past": generate(run, field, None, n_samples)}
    for lead, days in LEADS.items():
        rows[lead] = {name: score(real[:, days], city[:, :, days]) for name, city in cities.items()}
        error = np.abs(naive - real)[:, days], np.abs(np.nanmean(naive, 0) - np.nanmean(real, 0))[days]
        rows[lead]["seasonal naive"] = {
            "mae": float(np.nanmean(error[0])),
            "city_hour_mae": float(np.nanmean(error[1])),
        }
    errors = {"level_variance": past.level_variance, "evening_variance": past.evening_variance}
    return {"leads": rows, **errors, "seconds": seconds, "samples": n_samples, "updates": run.config.train.n_updates}


def main() -> None:
    "Measure what is not in the file yet."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; runs that it holds are not repeated")
    parser.add_argument("--samples", type=int, default=32)
    args = parser.parse_args()
    table = json.loads(args.out.read_text()) if args.out.exists() else {}
    for run in map(load_run, args.runs):
        if (name := f"{run.config.name}/seed{run.seed}") not in table:
            table[name] = compare(run, args.samples)
            write_json(args.out, table)


if __name__ == "__main__":
    main()
