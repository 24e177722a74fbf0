"""Compare shares of weekday randomization: train without one week of the training days, evaluate on that week.

    OMP_NUM_THREADS=1 python benchmarks/weekdays.py milan_28 --week 0 --updates 400 --folder runs/weekdays

The row `pools` has no network: the CRPS of the pool of training days that each share stands for. The test days are
never read. Scales and embeddings are those of all training days, the same for all shares. A share in the file is
not trained again. There is one seed: a difference below one per cent is within noise.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from stouter.config_file import load_config
from stouter.data.dataset import TrafficDataset
from stouter.evaluation.calibration import interval_coverage
from stouter.evaluation.metrics import crps, jsd_pooled
from stouter.evaluation.temporal import day_of_week_error
from stouter.files import write_json
from stouter.pipeline.dataset import load_city, make_datasets, pretrain_graphs
from stouter.pipeline.methods import build_method
from stouter.pipeline.provenance import isolated_seed
from stouter.training.batches import make_generator
from stouter.training.state import TrainingArguments

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


def measure(config, known: TrafficDataset, share: float, n_updates: int, week: int, n_samples: int) -> dict:
    "Train with one share and evaluate on the held-out week."
    train, test = split_week(known, week)
    with isolated_seed(0, 20):
        method = build_method(config, known.condition.station_table.shape[1], known.condition.hour_table.shape[1])
    arguments = TrainingArguments(**config.train.model_dump() | {"weekday_randomization": share})
    start_time = time.process_time()
    method.fit(train, replace(arguments, n_updates=n_updates), 0)
    seconds = time.process_time() - start_time
    method.network.eval()
    generated = method.sample(test.condition, n_samples, make_generator(0, 60)).numpy()
    real, week_hours = test.x.numpy(), test.condition.hour_of_week[: test.cube.shape[1]].numpy()
    shape = test.cube.shape
    return {
        "crps": crps(real, generated),
        "jsd_pooled": jsd_pooled(real, generated),
        "day_of_week_error": day_of_week_error(real.reshape(shape), generated.reshape(-1, *shape), week_hours),
        "coverage_80": interval_coverage(real, generated, 0.8),
        "cpu_seconds": round(seconds),
        "updates": n_updates,
        "training_days": train.cube.shape[1],
        "samples": n_samples,
    }


def main() -> None:
    "Train and evaluate the shares that are not in the file yet."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a configuration, such as milan_28")
    parser.add_argument("--week", type=int, default=0, help="week of the training days to hold out, 0 is the last")
    parser.add_argument("--shares", nargs="+", type=float, default=[0, 0.25, 0.5, 0.75, 1])
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
    key = f"{config.name}/week {args.week}/{args.updates} updates"
    for share in args.shares:
        table = json.loads(args.out.read_text()) if args.out.exists() else {}
        rows = table.setdefault(key, {})
        if str(share) not in rows:
            rows[str(share)] = measure(config, data.known, share, args.updates, args.week, args.samples)
            write_json(args.out, table)
            print(key, share, {name: round(rows[str(share)][name], 5) for name in PRINTED}, flush=True)


if __name__ == "__main__":
    main()
