"""How few steps are enough? Quality against seconds for samplers and steps, beside the whole chain, on finished runs.

    OMP_NUM_THREADS=1 python benchmarks/frontier.py RUN_DIR ... --out nbs/results/frontier.json

Every setting makes the same station-days (the test days of some stations, spread evenly over the stations' mean traffic) with other noise, and
is measured in one process. A setting that stands in the file is not measured again. `noise` is the standard error of a number that comes
from the noise of the samples alone, from the difference of two halves of the samples, station by station.
"""
import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from stouter.diffusion.reverse import SAMPLERS
from stouter.evaluation.metrics import crps, jsd_pooled
from stouter.experiment.folder import write_json
from stouter.experiment.stages import Experiment, open_run
from stouter.training.batches import stream

SETTINGS = [(sampler, n, "float32") for sampler, n in (
    ("ddpm", 1000), *(("dpm", n) for n in (3, 4, 5, 6, 8, 10, 12, 16, 20, 30)), *(("ddim", n) for n in (6, 8, 10, 20, 50, 100)), *(("ddpm", n) for n in (20, 50, 100, 250)))]
SETTINGS.insert(SETTINGS.index(("dpm", 6, "float32")) + 1, ("dpm", 6, "bfloat16"))     # the same noise in half the bits


def midnight(x: np.ndarray) -> np.ndarray:
    "Jumps from the last hour of a day to the first of the next: (..., N, P, 24) -> (..., N, P - 1)."
    return x[..., 1:, 0] - x[..., :-1, -1]


def quality(real: np.ndarray, drawn: np.ndarray, shape: tuple[int, int]) -> dict[str, float]:
    "CRPS, pooled JSD, and the size of the jumps at midnight; real (B, L), drawn (S, B, L), shape (N, P)."
    jumps = midnight(drawn.reshape(len(drawn), *shape, -1))
    return {"crps": crps(real, drawn), "jsd_pooled": jsd_pooled(real, drawn), "midnight_mean_jump": float(np.abs(jumps).mean()), "midnight_deviation": float(jumps.std())}


def noise_of(real: np.ndarray, drawn: np.ndarray, shape: tuple[int, int]) -> dict[str, float]:
    "Standard error of CRPS and of the mean jump."
    halves, day = np.split(drawn, 2), real.shape[1]
    apart = {"crps": np.empty(shape[0]), "midnight_mean_jump": np.empty(shape[0])}
    for n, (r, *both) in enumerate(zip(real.reshape(*shape, day), *(h.reshape(len(h), *shape, day).swapaxes(0, 1) for h in halves))):
        apart["crps"][n] = crps(r, both[0]) - crps(r, both[1])
        apart["midnight_mean_jump"][n] = np.abs(midnight(both[0])).mean() - np.abs(midnight(both[1])).mean()
    return {name: float(d.std() / 2 / len(d) ** 0.5) for name, d in apart.items()}


def measure(experiment: Experiment, sampler: str, n_steps: int, precision: str, n_stations: int, n_samples: int, batch_size: int) -> dict:
    test, generator = experiment.samples[1], experiment.generator
    order = np.argsort(np.nanmean(experiment.periods[0].volume, (1, 2)), kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(n_stations, len(order))).round().astype(int)]
    n_days = experiment.periods[1].volume.shape[1]
    rows = torch.from_numpy((chosen[:, None] * n_days + np.arange(n_days)).ravel())
    generator.sampler, generator.n_sampling_steps, generator.precision = SAMPLERS[sampler], n_steps, getattr(torch, precision)
    started = time.process_time()
    drawn = generator.sample(test.condition[rows], n_samples, stream(experiment.seed, 50, n_steps, list(SAMPLERS).index(sampler)), batch_size).numpy()
    spent, real, shape = time.process_time() - started, test.x[rows].numpy(), (len(chosen), n_days)
    return {"sampler": sampler, "steps": n_steps, "precision": precision, "seconds_per_128": spent / drawn[..., 0].size * 128, **quality(real, drawn, shape),
            "noise": noise_of(real, drawn, shape), "stations": len(chosen), "days": n_days, "samples": n_samples, "batch_size": batch_size,
            "machine": platform.machine(), "torch": torch.__version__, "threads": torch.get_num_threads()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; settings that it holds are kept")
    parser.add_argument("--stations", type=int, default=57)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=256)
    a = parser.parse_args()
    table = json.loads(a.out.read_text()) if a.out.exists() else {}
    for folder in a.runs:
        experiment = open_run(folder)
        rows = table.setdefault(f"{experiment.config.name}/seed{experiment.seed}", [])
        for setting in SETTINGS:
            if any((row["sampler"], row["steps"], row["precision"]) == setting for row in rows):
                continue
            rows.append(measure(experiment, *setting, a.stations, a.samples, a.batch_size))
            write_json(a.out, table)
            print({k: v for k, v in rows[-1].items() if k in ("sampler", "steps", "precision", "seconds_per_128", "crps", "jsd_pooled", "midnight_mean_jump")}, flush=True)
