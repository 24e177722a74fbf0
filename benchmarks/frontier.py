"""Quality against seconds of samplers and numbers of steps, beside DDPM with 1,000 steps, on finished runs.

    OMP_NUM_THREADS=1 python benchmarks/frontier.py runs/run/milan_28_distilled/seed0 --reference-draws 24 \\
        --out nbs/results/frontier.json
    OMP_NUM_THREADS=1 python benchmarks/frontier.py runs/run/nanjing_distilled/seed0 --out nbs/results/frontier.json

Every setting generates the same station-days: the test days of some stations, spread evenly over the ranks of mean
traffic. It does so several times with other noise; each draw is evaluated and stored separately, so that the spread
over draws shows which differences are noise. Draws that are in the file are not repeated, and settings with more steps
than the run's T are left out. For a run with a distillation its distilled sampler is measured too, and samplers with
fewer steps are distilled from the same teacher samples; all other settings sample with the trained network.
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
from stouter.pipeline.methods import build_student, fit_student, teacher_samples
from stouter.pipeline.run import RunResults, load_run
from stouter.training.batches import make_generator
from stouter.training.generator import DiffusionGenerator

NAMED_SAMPLERS = {  # the position of a name is part of the key of its noise
    "ddpm": SAMPLERS["ddpm"],
    "ddim": SAMPLERS["ddim"],
    "dpmpp_2m, final noise 0": partial(sample_dpmpp_2m, spacing_power=3.0, final_noise_variance=0.0),
    "dpmpp_2m": SAMPLERS["dpmpp_2m"],
    "distilled": SAMPLERS["dpmpp_2m"],
}
REFERENCE_STEPS = 1000  # of DDPM
SETTINGS = [  # sampler, steps, precision of the network, draws
    *(("dpmpp_2m", n, "float32", 4) for n in (4, 5, 6, 7, 8, 10, 20)),
    ("dpmpp_2m", 6, "bfloat16", 4),  # the same noise as in float32
    *(("dpmpp_2m, final noise 0", n, "float32", 4) for n in (4, 6, 8)),
    ("dpmpp_2m, final noise 0", 20, "float32", 2),
    *(("ddim", n, "float32", draws) for n, draws in ((6, 4), (10, 2), (20, 2), (50, 1))),
    ("ddpm", 100, "float32", 1),
]
DISTILLED_STEPS, DISTILLED_DRAWS = (2, 4), 32  # further distilled samplers; draws of each


@cache
def distilled_generator(folder: Path, n_steps: int) -> DiffusionGenerator:
    "The run's own distilled sampler, or one with another number of steps, distilled from the same teacher samples."
    run = load_run(folder)
    if n_steps == run.config.diffusion.n_sampling_steps:
        return run.method
    samples, _ = teacher_samples(run.config.distillation, run.trained, run.data.train, run.seed, run.folder)
    student = build_student(run.trained, n_steps)
    fit_student(run.config.distillation, student, samples, run.seed)
    return student


def midnight_jumps(x: np.ndarray) -> np.ndarray:
    "Differences of the first hour of a day and the last of the day before: (..., N, P, 24) -> (..., N, P - 1)."
    return x[..., 1:, 0] - x[..., :-1, -1]


def quality(real: np.ndarray, generated: np.ndarray, shape: tuple[int, int]) -> dict[str, float]:
    "CRPS, pooled JSD and the jumps at midnight; real (B, L), generated (S, B, L), shape (N, P)."
    jumps = midnight_jumps(generated.reshape(len(generated), *shape, -1))
    return {
        "crps": crps(real, generated),
        "jsd_pooled": jsd_pooled(real, generated),
        "day_boundary_mean_jump": float(np.abs(jumps).mean()),
        "day_boundary_std": float(jumps.std()),
    }


def select_rows(run: RunResults, n_stations: int) -> torch.Tensor:
    "Rows of the test data set: all test days of stations spread evenly over the ranks of mean training traffic."
    order = np.argsort(np.nanmean(run.data.train_periods.values, (1, 2)), kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(n_stations, len(order))).round().astype(int)]
    n_days = run.data.test.cube.shape[1]
    return torch.from_numpy((chosen[:, None] * n_days + np.arange(n_days)).ravel())


def measure(
    run: RunResults,  # finished
    sampler: str,  # a key of `NAMED_SAMPLERS`
    n_steps: int,  # of the sampler
    precision: str,  # of the network: float32 or bfloat16
    draw: int,  # 0, 1, ...; keys the noise
    n_stations: int,  # at most
    n_samples: int,  # S
    batch_size: int,  # station-days denoised at once
) -> dict:
    "Quality and seconds of one draw of one setting."
    generator = distilled_generator(run.folder, n_steps) if sampler == "distilled" else run.trained
    generator.sampler, generator.n_sampling_steps = NAMED_SAMPLERS[sampler], n_steps
    generator.sampling_dtype = getattr(torch, precision)
    rows, n_days = select_rows(run, n_stations), run.data.test.cube.shape[1]
    condition = run.data.test.condition[rows]
    noise = make_generator(run.seed, 50 + draw, n_steps, list(NAMED_SAMPLERS).index(sampler))
    start_time = time.process_time()
    generated = generator.sample(condition, n_samples, noise, batch_size).numpy()
    seconds = time.process_time() - start_time
    shape = len(rows) // n_days, n_days
    return {
        "sampler": sampler,
        "steps": n_steps,
        "precision": precision,
        "draw": draw,
        "seconds_per_128": seconds / generated[..., 0].size * 128,
        **quality(run.data.test.x[rows].numpy(), generated, shape),
        "stations": shape[0],
        "days": n_days,
        "samples": n_samples,
        "batch_size": batch_size,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def list_draws(run: RunResults, reference_draws: int) -> list[tuple[str, int, str, int]]:
    "Sampler, steps, precision and draw of everything that is measured on a run."
    settings = [("ddpm", REFERENCE_STEPS, "float32", reference_draws), *SETTINGS]
    if run.config.distillation:
        steps = sorted({run.config.diffusion.n_sampling_steps, *DISTILLED_STEPS})
        settings += [("distilled", n, "float32", DISTILLED_DRAWS) for n in steps]
    possible = [setting for setting in settings if setting[1] <= run.config.diffusion.n_steps]
    return [(*setting, draw) for *setting, n_draws in possible for draw in range(n_draws)]


def main() -> None:
    "Measure what is not in the file yet."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; draws that it holds are not repeated")
    parser.add_argument("--stations", type=int, default=57)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--reference-draws", type=int, default=8, help=f"draws of DDPM with {REFERENCE_STEPS} steps")
    args = parser.parse_args()
    table = json.loads(args.out.read_text()) if args.out.exists() else {}
    for run in map(load_run, args.runs):
        rows = table.setdefault(f"{run.config.name}/seed{run.seed}", [])
        stored = {(row["sampler"], row["steps"], row["precision"], row["draw"]) for row in rows}
        for draw in list_draws(run, args.reference_draws):
            if draw not in stored:
                rows.append(measure(run, *draw, args.stations, args.samples, args.batch_size))
                write_json(args.out, table)
                print(*rows[-1].values(), flush=True)


if __name__ == "__main__":
    main()
