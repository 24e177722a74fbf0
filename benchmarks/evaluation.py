"""Cost of evaluating a whole city: seconds of `score` and of each of its parts, and peak memory.

    OMP_NUM_THREADS=1 python benchmarks/evaluation.py [--json | --write]

The samples are a memory map of single precision in a temporary folder, written batch by batch: 10,000 stations x 31
days x 16 samples by default, half a gigabyte. `seconds` is one call of `score`; `parts` is the same work one part at a
time (each reads the map again, and metrics of sorted samples sort them again, which `score` does once). `peak_gib` is
the peak resident memory of the process.
"""

import argparse
import platform
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from reporting import run_benchmark

from stouter.evaluation.marginals import pool_values
from stouter.evaluation.metrics import METRIC_TERMS, score
from stouter.evaluation.streaming import streaming_means


def make_data(folder, n_days, length, n_samples, missing, chunk=10_000):
    "Real days (B, L) and a memory map of samples (S, B, L): a daily wave, a level of each day, and noise."
    rng = np.random.default_rng(0)
    wave = (0.35 + 0.25 * np.sin((np.arange(length) - 8) / 24 * 2 * np.pi)).astype(np.float32)

    def draw_days(n: int) -> np.ndarray:
        level = 1 + 0.2 * rng.standard_normal((n, 1), np.float32)
        return wave * level + 0.05 * rng.standard_normal((n, length), np.float32)

    real = draw_days(n_days)
    real[rng.random(real.shape, np.float32) < missing] = np.nan
    generated = np.lib.format.open_memmap(folder / "generated.npy", "w+", np.float32, (n_samples, n_days, length))
    for sample in generated:
        for first in range(0, n_days, chunk):
            sample[first : first + chunk] = draw_days(min(chunk, n_days - first))
    generated.flush()
    return real, np.load(folder / "generated.npy", mmap_mode="r")


def timed(function, *arguments):
    "Seconds of a call, and what it returned."
    start_time = time.perf_counter()
    out = function(*arguments)
    return time.perf_counter() - start_time, out


def measure(args):
    with tempfile.TemporaryDirectory() as folder:
        n_days = args.stations * args.days
        real, generated = make_data(Path(folder), n_days, args.length, args.samples, args.missing)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        seconds, metrics = timed(score, real, generated)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        parts = {}
        for name, terms in METRIC_TERMS.items():
            parts[name], _ = timed(streaming_means, real, generated, {name: terms})
        no_terms = {"none": lambda batch: batch.observed[:1]}
        parts["reading alone"], _ = timed(streaming_means, real, generated, no_terms)
        parts["pool and sort"], _ = timed(pool_values, real, generated)
    return {
        "stations": args.stations,
        "days": args.days,
        "length": args.length,
        "samples": args.samples,
        "missing": args.missing,
        "machine": platform.machine(),
        "numpy": np.__version__,
        "seconds": seconds,
        "peak_gib": peak,
        "peak_gib_before": before,
        "parts": parts,
        "metrics": metrics,
    }


def show(result):
    size = f"{result['stations']} stations x {result['days']} days x {result['samples']} samples"
    print(f"{size}: {result['seconds']:.1f} s, peak {result['peak_gib']:.2f} GiB")
    for name, value in result["parts"].items():
        print(f"{name:18} {value:.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stations", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=31)
    parser.add_argument("--length", type=int, choices=(24, 168), default=24)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--missing", type=float, default=0.01, help="fraction of real hours that are missing")
    run_benchmark(parser, __file__, measure, show)
