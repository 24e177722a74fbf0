"""Compare shares of weekday randomization: train without one week of the training days, evaluate on that week.

    OMP_NUM_THREADS=1 python benchmarks/weekdays.py milan_28 --week 0 --updates 400
    OMP_NUM_THREADS=1 python benchmarks/weekdays.py milan_28 --test --samples 64 --shares 1 0.9 0.5

The row `pools` has no network: the leave-one-week-out error by which a run chooses its share. The row `weeks` has none
either: day-of-week errors of real weeks, and of weekday means that are pooled with the means of their day type. With
`--shares` and nothing behind it only these two rows are written. With `--test` all training days are trained on and
the test days are evaluated. Scales and embeddings are those of all training days, the same for all shares. A share in
the file is not trained again. There is one seed: a difference below one per cent is within noise.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from stouter.config import ExperimentConfig
from stouter.config_file import load_config
from stouter.data.dataset import TrafficDataset
from stouter.evaluation.calibration import interval_coverage
from stouter.evaluation.metrics import crps, jsd_pooled
from stouter.evaluation.temporal import day_of_week_error, day_of_week_means
from stouter.files import write_json
from stouter.pipeline.dataset import load_city, make_datasets, pretrain_graphs
from stouter.pipeline.methods import build_method, make_training_args
from stouter.pipeline.provenance import isolated_seed
from stouter.training.batches import make_generator
from stouter.training.weekdays import choose_weekday_randomization, pool_crps

POOLED = (0.0, 0.25, 0.5, 0.75, 1.0)  # weights of the mean of a day type in the mean of a weekday
PRINTED = ("crps", "jsd_pooled", "day_of_week_error", "coverage_80", "cpu_seconds")


def split_week(dataset: TrafficDataset, week: int) -> tuple[TrafficDataset, TrafficDataset]:
    "Samples of the other days, and of the seven days of one week, counted from the last."
    n_days = dataset.cube.shape[1]
    last = n_days - 7 * week
    day = torch.arange(n_days).repeat(dataset.n_stations)
    is_held_out = (day >= last - 7) & (day < last)
    return tuple(
        TrafficDataset(dataset.x[keep], dataset.condition[keep], dataset.n_stations)
        for keep in (~is_held_out, is_held_out)
    )


def measure(
    config: ExperimentConfig, train: TrafficDataset, test: TrafficDataset, share: float, n_updates: int, n_samples: int
) -> dict:
    "Train with one share and evaluate."
    with isolated_seed(0, 20):
        method = build_method(config, train.condition.station_table.shape[1], train.condition.hour_table.shape[1])
    settings = config.train.model_copy(update={"weekday_randomization": share, "n_updates": n_updates})
    start_time = time.process_time()
    method.fit(train, make_training_args(settings, train), 0)
    seconds = time.process_time() - start_time
    method.network.eval()
    generated = method.sample(test.condition, n_samples, make_generator(0, 60)).numpy()
    real, shape = test.x.numpy(), test.cube.shape
    days = real.reshape(shape), generated.reshape(-1, *shape), test.condition.hour_of_week[: shape[1]].numpy()
    return {
        "crps": crps(real, generated),
        "jsd_pooled": jsd_pooled(real, generated),
        "day_of_week_error": day_of_week_error(*days),
        "coverage_80": interval_coverage(real, generated, 0.8),
        "cpu_seconds": round(seconds),
        "updates": n_updates,
        "training_days": train.cube.shape[1],
        "samples": n_samples,
        "real": day_of_week_means(*days)[0].tolist(),
        "generated": day_of_week_means(*days)[1].tolist(),
    }


def all_days(known: TrafficDataset, test: TrafficDataset) -> list[float]:
    "Mean of all measured days by day of the week, Sunday to Saturday."
    days = torch.cat([known.cube, test.cube], 1).numpy()
    hours = torch.cat([part.condition.hour_of_week[: part.cube.shape[1]] for part in (known, test)]).numpy()
    return day_of_week_means(days, days[None], hours)[0].tolist()


def profile_error(real: np.ndarray, other: np.ndarray) -> float:
    "`day_of_week_error` of two profiles of the week, Sunday to Saturday."
    days = np.repeat(np.stack([real, other])[:, None, :, None], 24, axis=3)
    return day_of_week_error(days[0], days[1:], np.arange(168).reshape(7, 24))


def week_profile(mean: np.ndarray, weekday: np.ndarray, days: np.ndarray, share: float = 0.0) -> np.ndarray:
    "Weekday means of some days, from Sunday, each pooled with the mean of its day type, which has the weight `share`."
    own = np.array([mean[days][weekday[days] == day].mean() for day in range(7)])
    is_weekend = np.arange(7) % 6 == 0
    of_type = [mean[days][is_weekend[weekday[days]] == kind].mean() for kind in (False, True)]
    return (1 - share) * own + share * np.where(is_weekend, of_type[1], of_type[0])


def week_errors(known: TrafficDataset, test: TrafficDataset) -> dict:
    "Day-of-week errors without a network: of real weeks, of means of training days, and on weeks left out of these."
    cube = torch.cat([known.cube, test.cube], 1).numpy()
    hours = torch.cat([part.condition.hour_of_week[: part.cube.shape[1], 0] for part in (known, test)]).numpy()
    mean, weekday, n = np.nanmean(cube, (0, 2), dtype=float), hours // 24, known.cube.shape[1]
    test_week = week_profile(mean, weekday, np.arange(n, len(mean)))
    weeks = [np.arange(n - 7 * k - 7, n - 7 * k) for k in range(n // 7)]
    profiles = [week_profile(mean, weekday, week) for week in weeks]
    rest = [np.setdiff1d(np.arange(n), week) for week in weeks]
    return {
        "test week, against real weeks of training": [profile_error(test_week, week) for week in profiles],
        "test week, against all weekdays equal": profile_error(test_week, np.ones(7)),
        "test week, against its own means of day types": profile_error(
            test_week, week_profile(mean, weekday, np.arange(n, len(mean)), 1.0)
        ),
        "test week, by share of the day type": {
            str(share): profile_error(test_week, week_profile(mean, weekday, np.arange(n), share)) for share in POOLED
        },
        "training weeks against each other": [
            profile_error(week, other) for k, week in enumerate(profiles) for other in profiles[:k]
        ],
        "training weeks, against all weekdays equal": [profile_error(week, np.ones(7)) for week in profiles],
        "training weeks left out, by share of the day type": {
            str(share): [
                profile_error(week, week_profile(mean, weekday, days, share)) for week, days in zip(profiles, rest)
            ]
            for share in POOLED
        },
    }


def main() -> None:
    "Train and evaluate the shares that are not in the file yet."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a configuration, such as milan_28")
    parser.add_argument("--week", type=int, default=0, help="week of the training days to hold out, 0 is the last")
    parser.add_argument("--test", action="store_true", help="evaluate on the test days")
    parser.add_argument("--shares", nargs="*", type=float, default=[0.0, 0.25, 0.5, 0.75, 1.0])
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--folder", type=Path, default=Path("runs/weekdays"), help="of traffic and embeddings")
    parser.add_argument("--out", type=Path, default=Path("nbs/results/weekdays.json"))
    args = parser.parse_args()
    config, folder = load_config(args.config), args.folder / args.config
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    city = load_city(config.data, folder)
    data = make_datasets(config.data, city, pretrain_graphs(config.graph, city, 0, folder), 0)
    train, test = (data.known, data.test) if args.test else split_week(data.known, args.week)
    key = f"{config.name}/{'test days' if args.test else f'week {args.week}'}/{args.updates} updates"
    table = json.loads(args.out.read_text()) if args.out.exists() else {}
    crps_of_share = {str(share): value for share, value in pool_crps(data.known).items()}
    pools = {"training_days": data.known.cube.shape[1], "chosen": choose_weekday_randomization(data.known)}
    table[f"{config.name}/pools"] = {**pools, "crps": crps_of_share, "all_days": all_days(data.known, data.test)}
    table[f"{config.name}/weeks"] = week_errors(data.known, data.test)
    write_json(args.out, table)
    for share in args.shares:
        table = json.loads(args.out.read_text()) if args.out.exists() else {}
        rows = table.setdefault(key, {})
        if str(share) not in rows:
            rows[str(share)] = measure(config, train, test, share, args.updates, args.samples)
            write_json(args.out, table)
            print(key, share, {name: round(rows[str(share)][name], 5) for name in PRINTED}, flush=True)


if __name__ == "__main__":
    main()
