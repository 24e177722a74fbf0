"""Cost of realism metrics for ten thousand stations, a month and sixteen samples: seconds of every part, peak memory.

With --methods M also the time of M methods with one `RealismEvaluator` each, beside one `RealismEvaluator` for all.

    python benchmarks/realism.py [--stations 10000] [--days 31] [--samples 16] [--methods 0] [--json | --write]
    python benchmarks/realism.py --stations 60 --days 7 --methods 6
"""

import argparse
import resource
import time

import numpy as np
from reporting import run_benchmark

from stouter.evaluation.memorization import memorization_metrics
from stouter.evaluation.realism import RealismEvaluator, realism_metrics, split_into_days
from stouter.evaluation.spatial import spatial_metrics
from stouter.evaluation.temporal import temporal_metrics
from stouter.evaluation.two_sample_tests import two_sample_metrics


def make_days(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    "Traffic with a daily wave and noise, (*shape, 24); filled part by part, which needs no further memory."
    out = np.empty((*shape, 24), np.float32)
    for city in out.reshape(-1, *out.shape[-3:]):
        city[:] = rng.standard_normal(city.shape, dtype=np.float32)
        city *= np.float32(0.1)
        city += np.float32(0.5) + np.float32(0.3) * np.sin(np.arange(24, dtype=np.float32) * np.float32(np.pi / 12))
    return out


def compare(
    real: np.ndarray, methods: list, hour_of_week: np.ndarray, train: np.ndarray, positions: np.ndarray
) -> dict[str, float]:
    "Seconds of several methods with one evaluator each and with one for all; the metrics must be the same."
    start_time = time.perf_counter()
    separate = [realism_metrics(real, generated, hour_of_week, train, positions) for generated in methods]
    separate_seconds = time.perf_counter() - start_time
    start_time = time.perf_counter()
    evaluator = RealismEvaluator(real, hour_of_week, train, positions, len(methods[0]))
    shared = [evaluator.evaluate(generated) for generated in methods]
    shared_seconds = time.perf_counter() - start_time
    if separate != shared:
        raise AssertionError("one evaluator for all methods changed a metric")
    return {
        "one evaluator each, s": separate_seconds,
        "one evaluator for all, s": shared_seconds,
        "ratio": separate_seconds / shared_seconds,
    }


def measure(args: argparse.Namespace) -> dict:
    rng = np.random.default_rng(0)
    real, train = make_days(rng, (args.stations, args.days)), make_days(rng, (args.stations, args.days))
    generated = make_days(rng, (args.samples, args.stations, args.days))
    hour_of_week = np.arange(24 * args.days).reshape(args.days, 24) % 168
    positions = rng.uniform([9.0, 45.3], [9.3, 45.5], (args.stations, 2))
    parts = {
        "days": lambda: split_into_days(real, generated, hour_of_week, train),
        "temporal": lambda: temporal_metrics(real, generated, hour_of_week),
        "spatial": lambda: spatial_metrics(real, generated, hour_of_week, positions, rng),
        "two-sample": lambda: two_sample_metrics(real, generated, hour_of_week, rng),
        "memorization": lambda: memorization_metrics(real, generated, hour_of_week, train, rng),
    }
    result = {"stations": args.stations, "days": args.days, "samples": args.samples, "seconds": {}}
    for name, part in parts.items():
        start_time = time.perf_counter()
        part()
        result["seconds"][name] = round(time.perf_counter() - start_time, 1)
    result["seconds"]["all"] = round(sum(result["seconds"].values()), 1)
    if args.methods:
        methods = [make_days(rng, generated.shape[:-1]) for _ in range(args.methods)]
        result["methods"] = compare(real, methods, hour_of_week, train, positions)
    result["peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    return result


def show(result: dict) -> None:
    size = f"{result['stations']} stations x {result['days']} days x {result['samples']} samples"
    print(f"{size}, peak {result['peak_gib']} GiB")
    for name, seconds in result["seconds"].items():
        print(f"  {name:12} {seconds:7.1f} s")
    for name, value in result.get("methods", {}).items():
        print(f"  {name:28} {value:7.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in {"stations": 10_000, "days": 31, "samples": 16, "methods": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    run_benchmark(parser, __file__, measure, show)
