"""How few steps are enough? Quality against seconds for samplers and steps, beside the whole chain, on finished runs.

    OMP_NUM_THREADS=1 python benchmarks/frontier.py runs/run/milan_28_distilled/seed0 --yardstick 24 --out nbs/results/frontier.json
    OMP_NUM_THREADS=1 python benchmarks/frontier.py runs/run/nanjing_distilled/seed0 --yardstick 8 --out nbs/results/frontier.json

Every setting makes the same station-days (the test days of some stations, spread evenly over the stations' mean traffic), several times with other
noise; every draw is judged by itself and kept, so that the spread of the draws says how much of a difference is noise. A draw that stands in the file
is not made again. A run with a student (`-p distillation.n_updates 800`) is asked for it too, and its lessons teach students of fewer strides in the same
way; everything else is walked with the trained network.
"""

import argparse
import json
import platform
import time
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from stouter.diffusion.dpm_solver import sample_dpmpp_2m
from stouter.diffusion.reverse import SAMPLERS
from stouter.evaluation.metrics import crps, jsd_pooled
from stouter.files import write_json
from stouter.pipeline.run import Experiment, open_run
from stouter.training.batches import make_generator
from stouter.training.generator import DiffusionGenerator

WAYS = {
    "ddpm": SAMPLERS["ddpm"],
    "ddim": SAMPLERS["ddim"],
    "dpmpp_2m to the end": partial(sample_dpmpp_2m, spacing_power=3.0, final_noise_variance=0.0),
    "dpmpp_2m": SAMPLERS["dpmpp_2m"],
    "student": SAMPLERS["dpmpp_2m"],
}
YARDSTICK = 1000  # steps of DDPM
SETTINGS = [  # way, steps, numbers of the network, draws
    *(("dpmpp_2m", n, "float32", 4) for n in (4, 5, 6, 7, 8, 10, 20)),
    ("dpmpp_2m", 6, "bfloat16", 4),  # the same noise in half the bits
    *(("dpmpp_2m to the end", n, "float32", 4) for n in (4, 6, 8)),
    ("dpmpp_2m to the end", 20, "float32", 2),
    *(("ddim", n, "float32", draws) for n, draws in ((6, 4), (10, 2), (20, 2), (50, 1))),
    ("ddpm", 100, "float32", 1),
]
STRIDES, PUPIL_DRAWS = (2, 4), 32  # of further students; draws of every student


@cache
def pupil(experiment: Experiment, n_strides: int) -> DiffusionGenerator:
    "The run's own student, or one that its lessons make of its trained network for other strides."
    if n_strides == experiment.config.diffusion.n_sampling_steps:
        return experiment.generator
    student, fit = experiment.teach(n_strides, experiment.lessons[0])
    fit()
    return student


def midnight(x: np.ndarray) -> np.ndarray:
    "Jumps from the last hour of a day to the first of the next: (..., N, P, 24) -> (..., N, P - 1)."
    return x[..., 1:, 0] - x[..., :-1, -1]


def quality(real: np.ndarray, drawn: np.ndarray, shape: tuple[int, int]) -> dict[str, float]:
    "CRPS, pooled JSD, and the size of the jumps at midnight; real (B, L), drawn (S, B, L), shape (N, P)."
    jumps = midnight(drawn.reshape(len(drawn), *shape, -1))
    return {
        "crps": crps(real, drawn),
        "jsd_pooled": jsd_pooled(real, drawn),
        "day_boundary_mean_jump": float(np.abs(jumps).mean()),
        "day_boundary_std": float(jumps.std()),
    }


def measure(
    experiment: Experiment,
    way: str,
    n_steps: int,
    precision: str,
    draw: int,
    n_stations: int,
    n_samples: int,
    batch_size: int,
) -> dict:
    test, generator = experiment.samples[1], pupil(experiment, n_steps) if way == "student" else experiment.trained
    order = np.argsort(np.nanmean(experiment.periods[0].values, (1, 2)), kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(n_stations, len(order))).round().astype(int)]
    n_days = experiment.periods[1].values.shape[1]
    rows = torch.from_numpy((chosen[:, None] * n_days + np.arange(n_days)).ravel())
    generator.sampler, generator.n_sampling_steps, generator.sampling_dtype = (
        WAYS[way],
        n_steps,
        getattr(torch, precision),
    )
    started = time.process_time()
    drawn = generator.sample(
        test.condition[rows],
        n_samples,
        make_generator(experiment.seed, 50 + draw, n_steps, list(WAYS).index(way)),
        batch_size,
    ).numpy()
    spent = time.process_time() - started
    return {
        "sampler": way,
        "steps": n_steps,
        "precision": precision,
        "draw": draw,
        "seconds_per_128": spent / drawn[..., 0].size * 128,
        **quality(test.x[rows].numpy(), drawn, (len(chosen), n_days)),
        "stations": len(chosen),
        "days": n_days,
        "samples": n_samples,
        "batch_size": batch_size,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; draws that it holds are kept")
    parser.add_argument("--stations", type=int, default=57)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--yardstick", type=int, default=8, help=f"draws of DDPM with {YARDSTICK} steps")
    a = parser.parse_args()
    table = json.loads(a.out.read_text()) if a.out.exists() else {}
    for folder in a.runs:
        experiment = open_run(folder)
        rows = table.setdefault(f"{experiment.config.name}/seed{experiment.seed}", [])
        pupils = {experiment.config.diffusion.n_sampling_steps, *STRIDES} if experiment.config.distillation else ()
        for *setting, draws in [
            ("ddpm", YARDSTICK, "float32", a.yardstick),
            *SETTINGS,
            *(("student", n, "float32", PUPIL_DRAWS) for n in sorted(pupils)),
        ]:
            for draw in range(draws):
                if [*setting, draw] in [[row["sampler"], row["steps"], row["precision"], row["draw"]] for row in rows]:
                    continue
                rows.append(measure(experiment, *setting, draw, a.stations, a.samples, a.batch_size))
                write_json(a.out, table)
                print(*rows[-1].values(), flush=True)
