"""Realism of ten thousand stations, a month and sixteen samples: seconds of every part, and the peak of memory.
With --methods M also M methods one by one against one `RealismEvaluator` for all of them.

    python benchmarks/realism.py [--stations 10000] [--days 31] [--samples 16] [--methods 0] [--json | --write]
    python benchmarks/realism.py --stations 60 --days 7 --methods 6
"""

import argparse
import resource
import time

import numpy as np
from kept import finish

from stouter.evaluation.memorization import memorization_metrics
from stouter.evaluation.realism import RealismEvaluator, realism_metrics, split_into_days
from stouter.evaluation.spatial import spatial_metrics
from stouter.evaluation.temporal import temporal_metrics
from stouter.evaluation.two_sample_tests import two_sample_metrics


def days(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    "Traffic with a daily rhythm and noise; one city after the other, so that making it costs no memory."
    out = np.empty((*shape, 24), np.float32)
    for city in out.reshape(-1, *out.shape[-3:]):
        city[:] = rng.standard_normal(city.shape, dtype=np.float32)
        city *= np.float32(0.1)
        city += np.float32(0.5) + np.float32(0.3) * np.sin(np.arange(24, dtype=np.float32) * np.float32(np.pi / 12))
    return out


def compare(
    real: np.ndarray, methods: list, clock: np.ndarray, train: np.ndarray, positions: np.ndarray
) -> dict[str, float]:
    "Seconds of several methods, each with an evaluator of its own and all with one; the numbers must be the same."
    begin = time.perf_counter()
    alone = [realism_metrics(real, generated, clock, train, positions) for generated in methods]
    middle = time.perf_counter()
    evaluator = RealismEvaluator(real, clock, train, positions, len(methods[0]))
    together = [evaluator.evaluate(generated) for generated in methods]
    end = time.perf_counter()
    if alone != together:
        raise AssertionError("one evaluator for all methods changed a number")
    return {
        "one by one, s": middle - begin,
        "one evaluator for all, s": end - middle,
        "ratio": (middle - begin) / (end - middle),
    }


def measure(args: argparse.Namespace) -> dict:
    rng = np.random.default_rng(0)
    real, train = days(rng, (args.stations, args.days)), days(rng, (args.stations, args.days))
    generated = days(rng, (args.samples, args.stations, args.days))
    clock = np.arange(24 * args.days).reshape(args.days, 24) % 168
    positions = rng.uniform([9.0, 45.3], [9.3, 45.5], (args.stations, 2))
    parts = {
        "check": lambda: split_into_days(real, generated, clock, train),
        "rhythm": lambda: temporal_metrics(real, generated, clock),
        "space": lambda: spatial_metrics(real, generated, clock, positions, rng),
        "two samples": lambda: two_sample_metrics(real, generated, clock, rng),
        "memory": lambda: memorization_metrics(real, generated, clock, train, rng),
    }
    found = {"stations": args.stations, "days": args.days, "samples": args.samples, "seconds": {}}
    for name, part in parts.items():
        begin = time.perf_counter()
        part()
        found["seconds"][name] = round(time.perf_counter() - begin, 1)
    found["seconds"]["all"] = round(sum(found["seconds"].values()), 1)
    if args.methods:
        found["methods"] = compare(
            real, [days(rng, generated.shape[:-1]) for _ in range(args.methods)], clock, train, positions
        )
    found["peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    return found


def show(found: dict) -> None:
    print(
        f"{found['stations']} stations x {found['days']} days x {found['samples']} samples, peak {found['peak_gib']} GiB"
    )
    for name, seconds in found["seconds"].items():
        print(f"  {name:12} {seconds:7.1f} s")
    for name, value in found.get("methods", {}).items():
        print(f"  {name:28} {value:7.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in {"stations": 10_000, "days": 31, "samples": 16, "methods": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    finish(parser, __file__, measure, show)
