"""Speed and memory of writing a simulated city.

Every case runs in its own process, so that the peak memory is its own. A small city is written completely; of a
large one the map and some hours of one day, which is what memory depends on. `--hours 16` writes the day from eight
o'clock to its end (100,000 stations: some 1.5 GB, a million: some 15 GB).

    OMP_NUM_THREADS=1 python benchmarks/city.py [--large 100000] [--hours 2] [--json | --write]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
from reporting import run_benchmark


def count_lines(path: Path) -> int:
    "Number of lines, read in blocks."
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def write_city(n_stations: int, n_days: int) -> dict:
    "Write a complete city."
    from stouter.data.simulated_city import simulate_city

    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        city = simulate_city(Path(folder), n_stations, n_days)
        return {
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - cpu,
            "rows": sum(map(count_lines, city.records)),
        }


def write_hours(n_stations: int, n_hours: int) -> dict:
    "The steps of `simulate_city`, with `n_hours` of one day."
    from stouter.data.city_model import draw_city, draw_day, innovation, make_rng, service_levels, write_geojson
    from stouter.data.simulated_city import write_day

    with tempfile.TemporaryDirectory() as folder:
        start_time = time.perf_counter()
        model = draw_city(n_stations, make_rng(0, 0))
        levels = service_levels(model, make_rng(0, 0))
        write_geojson(model, 0, Path(folder) / "grid.geojson", Path(folder) / "pois.geojson")
        map_seconds = time.perf_counter() - start_time
        midnight = pd.Timestamp("2013-11-04", tz="Europe/Rome")
        day, _ = draw_day(model, innovation(model.shape, make_rng(0, 1))[:, :n_stations], midnight, make_rng(0, 2, 0))
        draw_seconds = time.perf_counter() - start_time - map_seconds
        slots = slice(6 * 8, 6 * (8 + n_hours))  # from eight in the morning
        day = replace(
            day,
            epoch=day.epoch[slots],
            clock=day.clock[slots],
            activity=day.activity[:, slots],
            residual=day.residual[8 : 8 + n_hours],
        )
        wall, cpu = time.perf_counter(), time.process_time()
        write_day(model, levels, day, (0, 3, 0), Path(folder) / "day.txt")
        seconds, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return {
            "map_seconds": map_seconds,
            "draw_seconds": draw_seconds,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "rows": count_lines(Path(folder) / "day.txt"),
        }


def map_ratio() -> dict:
    "Seconds of the maps of one hour: a million cells over a hundred thousand."
    from stouter.data.city_model import innovation, make_rng

    def best_seconds(side: int) -> float:
        seconds = []
        for _ in range(5):
            start_time = time.perf_counter()
            innovation((side, side), make_rng(0))
            seconds.append(time.perf_counter() - start_time)
        return min(seconds)

    return {"cells": [100_000, 1_000_000], "ratio": best_seconds(1000) / best_seconds(316)}


CASES = {"city": write_city, "hours": write_hours}


def run_case(name: str, *numbers: int) -> dict:
    "Run one case in its own process."
    command = [sys.executable, __file__, "--case", name, *map(str, numbers)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure(args: argparse.Namespace) -> dict:
    if args.case:
        name, *numbers = args.case
        result = CASES[name](*map(int, numbers))
        result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(result))
        sys.exit()
    cases = {
        "100 stations, 28 days": ("city", 100, 28),
        "100 stations, 84 days": ("city", 100, 84),
        "10,000 stations, 1 day": ("city", 10_000, 1),
        f"{args.large:,} stations, {args.hours} h": ("hours", args.large, args.hours),
    }
    table = {name: run_case(*case) for name, case in cases.items()}
    for row in table.values():
        row["rows_per_second"] = row["rows"] / row["seconds"]
        row["rows_per_cpu_second"] = row["rows"] / row["cpu_seconds"]
    return {"cases": table, "maps": map_ratio()}


def show(result: dict) -> None:
    print(pd.DataFrame(result["cases"]).T.round(1).to_string())
    print(f"maps of ten times as many cells take {result['maps']['ratio']:.1f} times as long")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", type=int, default=100_000, help="stations of the largest case")
    parser.add_argument(
        "--hours", type=int, default=2, help="hours of its day that are written, from eight o'clock; at most 16"
    )
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    run_benchmark(parser, __file__, measure, show)
