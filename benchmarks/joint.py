"""Joint samples of a whole city: the latent field beside independent samples, Schaake shuffle, copula and stretches.

    OMP_NUM_THREADS=1 python benchmarks/joint.py runs/run/demo/seed0 --out nbs/results/joint.json

The field is calibrated on training days alone; the test days are generated once with each method. Stretches of real
days are compared as they are; their single hours are those of training days. Runs that are in the file are not
repeated. For each run one evening hour at all stations and the mean of the city in each hour are kept, of real traffic
and of three samples, for the figure.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from stouter.evaluation.calibration import interval_coverage
from stouter.evaluation.marginals import jsd_pooled
from stouter.evaluation.proper_scores import crps
from stouter.evaluation.spatial import distance_bins, knn_weights, morans_i
from stouter.evaluation.sums import (
    day_correlation,
    dependence,
    expected_days,
    heldout_week_residuals,
    midnight_jump_ratio,
    sum_scores,
)
from stouter.files import write_json
from stouter.joint.calibration import calibrate_field, generate_joint
from stouter.joint.field import white_field
from stouter.joint.inversion import noise_size
from stouter.joint.references import bootstrap_stretches, gaussian_copula, schaake_shuffle
from stouter.joint.weeks import days_of_periods, describe_weeks, split_days
from stouter.method_fields import is_read
from stouter.pipeline.run import RunResults, load_run

CHANNELS = "denoiser.base_channels"
N_BINS, N_SHOWN, EVENING, N_LONG = 5, 3, 19, 2  # bins of distance; samples in the figure; hour of the map; long samples


def measure(
    real: np.ndarray,  # (N, Q, L) test days
    generated: np.ndarray,  # (S, N, Q, L)
    expected: np.ndarray,  # (N, Q, L) see `expected_days`
    lonlat: np.ndarray,  # (N, 2) degrees
    day: np.ndarray,  # (Q,) ordinal numbers
) -> dict:
    "Everything that a row of the table has."
    n_samples, length = len(generated), real.shape[2]
    flat, flat_samples = real.reshape(-1, length), generated.reshape(n_samples, -1, length)
    bin_of_pair, weights = distance_bins(lonlat, N_BINS)[1], knn_weights(lonlat)
    residuals = [x - expected for x in (real, *generated[:8])]
    moran = np.array([morans_i(x.reshape(len(x), -1), weights).mean() for x in residuals])
    following = [day_correlation(x, day) for x in residuals]
    found = [dependence(x, day, bin_of_pair, N_BINS, 2) for x in residuals]
    dependent = {name: np.mean([each[name] for each in found[1:]], axis=0).tolist() for name in found[0]}
    return {
        "crps": crps(flat, flat_samples),
        "jsd_pooled": jsd_pooled(flat, flat_samples),
        "coverage_80": interval_coverage(flat, flat_samples),
        **sum_scores(real, generated, lonlat),
        "midnight_jump_ratio": midnight_jump_ratio(real, generated, day),
        "sunday_jump_ratio": midnight_jump_ratio(real, generated, day, weekday=6),
        "day_correlation": float(np.mean(following[1:])),
        "day_correlation_of_real": following[0],
        "morans_i": float(moran[1:].mean()),
        "morans_i_of_real": float(moran[0]),
        "dependence": dependent,
        "dependence_of_real": {name: value.tolist() for name, value in found[0].items()},
    }


def training_weeks(train: np.ndarray, week: np.ndarray, lonlat: np.ndarray, day: np.ndarray, real: np.ndarray) -> dict:
    "What the training weeks say of a week to come: dependence of each week about the others, and the jump ratio."
    bin_of_pair = distance_bins(lonlat, N_BINS)[1]
    weeks = heldout_week_residuals(train, week)
    found = [dependence(residual, day[position], bin_of_pair, N_BINS, 2) for position, residual in weeks]
    jumps = [midnight_jump_ratio(real, train[None, :, position], day[position]) for position, _ in weeks]
    following = [day_correlation(residual, day[position]) for position, residual in weeks]
    return {
        "day_correlation": following,
        "midnight_jump_ratio": jumps,
        "dependence": {name: [f[name].tolist() for f in found] for name in found[0]},
    }


def week_correlation(days: np.ndarray) -> float:  # days (N, P, L); NaN with fewer than three weeks
    "Correlation of the means of following weeks about the mean of all, all stations together."
    n = days.shape[1] // 7
    if n < 3:
        return float("nan")
    weeks = np.nanmean(days[:, -7 * n :].reshape(len(days), n, -1), axis=2)
    weeks -= weeks.mean(1, keepdims=True)
    before, after = weeks[:, :-1], weeks[:, 1:]
    return float((before * after).sum() / np.sqrt((before**2).sum() * (after**2).sum()))


def compare_training_days(periods: np.ndarray, cities: dict[str, np.ndarray], first: np.ndarray) -> dict:
    "What the test week is too short for: weeks after weeks and midnights of Sundays, on generated training days."
    n_days = periods.shape[2] // 24
    real, day = split_days(periods), days_of_periods(first, n_days)
    jumps = dict.fromkeys(["sunday_jump_ratio", "midnight_jump_ratio", *["period_jump_ratio"] * (n_days > 1)], 1.0)
    rows = {"real": {"week_correlation": week_correlation(real)} | jumps}
    for name, of_periods in cities.items():
        samples = np.where(np.isfinite(real), split_days(of_periods), np.nan)
        rows[name] = {
            "week_correlation": float(np.mean([week_correlation(city) for city in samples])),
            "sunday_jump_ratio": midnight_jump_ratio(real, samples, day, weekday=6),
            "midnight_jump_ratio": midnight_jump_ratio(real, samples, day),
        }
        if n_days > 1:
            rows[name]["period_jump_ratio"] = midnight_jump_ratio(periods, of_periods, first // n_days)
    return rows


def compare(run: RunResults, n_samples: int, n_rounds: int) -> dict:
    "All methods of one run."
    data, lonlat = run.data, run.city.traffic.stations[["lon", "lat"]].to_numpy()
    first_days, test_first_days = data.train_periods.day_numbers, data.test_periods.day_numbers
    n_days = data.known.x.shape[1] // 24  # of a period
    days, test_days = (days_of_periods(first, n_days) for first in (first_days, test_first_days))
    start = time.process_time()
    field, rounds = calibrate_field(run.method, data.known, lonlat, first_days, run.seed, n_rounds)
    seconds = {"calibration": time.process_time() - start}
    white = white_field(noise_size(run.method, data.known.x.shape[1]), n_days)
    train, real = (split_days(x.cube.numpy()) for x in (data.known, data.test))
    week, test_week = (p.hour_of_week.reshape(-1, 24) for p in (data.train_periods, data.test_periods))
    weekday, test_weekday, rng = week[:, 0] // 24, test_week[:, 0] // 24, np.random.default_rng(run.seed)
    expected = expected_days(train, week, test_week)
    samples, on_training_days = {}, {}
    for name, noise in (("independent", white), ("field", field)):
        start, condition = time.process_time(), data.test.condition
        cities = generate_joint(run.method, condition, noise, lonlat, test_first_days, n_samples, run.seed)
        samples[name] = split_days(cities)
        seconds[name] = time.process_time() - start
        known = run.method, data.known.condition, noise, lonlat, first_days
        on_training_days[name] = generate_joint(*known, N_LONG, run.seed)
    residual = train - expected_days(train, week, week)
    samples["Schaake shuffle"] = schaake_shuffle(samples["independent"], train, weekday, test_weekday, rng)
    samples["Gaussian copula"] = gaussian_copula(samples["independent"], residual, rng)
    samples["real stretches"] = np.nan_to_num(bootstrap_stretches(train, weekday, test_weekday, n_samples, rng))
    shown = {"real": real[None], **{name: samples[name][:N_SHOWN] for name in ("independent", "field")}}
    return {
        "methods": {name: measure(real, x, expected, lonlat, test_days) for name, x in samples.items()},
        "training_weeks": training_weeks(train, week, lonlat, days, real[:, -7:]),
        "on_training_days": compare_training_days(data.known.cube.numpy(), on_training_days, first_days),
        "distance_km": distance_bins(lonlat, N_BINS)[0].tolist(),
        "field": asdict(field),
        **({"succession": describe_weeks(field)} if n_days > 1 else {}),
        "rounds": rounds.round(4).to_dict("list"),
        "seconds": seconds,
        "stations": len(lonlat),
        "days": len(test_days),
        "training_days": len(days),
        "samples": n_samples,
        "updates": run.config.train.n_updates,
        "base_channels": run.config.denoiser.base_channels if is_read(run.config.method, CHANNELS) else None,
        "start": run.config.init or "random",
        "lonlat": lonlat.round(5).tolist(),
        "city": {name: np.nanmean(x, 1).reshape(len(x), -1).round(4).tolist() for name, x in shown.items()},
        "map": {name: (x - expected)[:, :, 2, EVENING].round(3).tolist() for name, x in shown.items()},
    }


def main() -> None:
    "Measure what is not in the file yet."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; runs that it holds are not repeated")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=6)
    args = parser.parse_args()
    table = json.loads(args.out.read_text()) if args.out.exists() else {}
    for run in map(load_run, args.runs):
        name = f"{run.config.name}{'' if run.config.method == 'stouter' else ' ' + run.config.method}/seed{run.seed}"
        if name not in table:
            table[name] = compare(run, args.samples, args.rounds)
            write_json(args.out, table)
            for method, row in table[name]["methods"].items():
                print(name, method, {key: value for key, value in row.items() if not isinstance(value, dict)})


if __name__ == "__main__":
    main()
