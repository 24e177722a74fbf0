"""How fast a simulated city is written, and in how much memory.

Every case runs in a process of its own, so that the peak belongs to it. A small city is written whole; of a large one the map and the first hours of one day,
which is what memory depends on: `--hours 24` writes the whole day (100,000 stations: some 2 GB, a million: some 20 GB).

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

import numpy as np
import pandas as pd
from kept import finish


def count_lines(path: Path) -> int:
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def write_city(n_stations: int, n_days: int) -> dict:
    from stouter.data.simulated_city import simulate_city

    with tempfile.TemporaryDirectory() as folder:
        begin, cpu = time.perf_counter(), time.process_time()
        city = simulate_city(Path(folder), n_stations, n_days)
        return {
            "seconds": time.perf_counter() - begin,
            "cpu_seconds": time.process_time() - cpu,
            "rows": sum(map(count_lines, city.records)),
        }


def write_hours(n_stations: int, n_hours: int) -> dict:
    "The steps of `simulate_city`, with a day cut short after `n_hours`."
    from stouter.data.city_model import draw_city, draw_day, innovation, make_rng, service_levels, write_geojson
    from stouter.data.simulated_city import write_day

    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        model = draw_city(n_stations, make_rng(0, 0))
        levels = service_levels(model, make_rng(0, 0))
        write_geojson(model, 0, Path(folder) / "grid.geojson", Path(folder) / "pois.geojson")
        mapped = time.perf_counter() - begin
        midnight = pd.Timestamp("2013-11-04", tz="Europe/Rome")
        day, _ = draw_day(model, innovation(model.shape, make_rng(0, 1))[:, :n_stations], midnight, make_rng(0, 2, 0))
        drawn = time.perf_counter() - begin - mapped
        slots = slice(6 * 8, 6 * (8 + n_hours))  # from eight in the morning
        day = replace(
            day,
            epoch=day.epoch[slots],
            clock=day.clock[slots],
            activity=day.activity[:, slots],
            residual=day.residual[8 : 8 + n_hours],
        )
        written, cpu = time.perf_counter(), time.process_time()
        write_day(model, levels, day, (0, 3, 0), Path(folder) / "day.txt")
        seconds, cpu = time.perf_counter() - written, time.process_time() - cpu
        return {
            "map_seconds": mapped,
            "draw_seconds": drawn,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "rows": count_lines(Path(folder) / "day.txt"),
        }


def smooth_growth() -> dict:
    "Seconds for one hour's maps of ten times as many cells, as a ratio."
    from stouter.data.city_model import innovation, make_rng

    def best(side: int) -> float:
        rounds = []
        for _ in range(5):
            begin = time.perf_counter()
            innovation((side, side), make_rng(0))
            rounds.append(time.perf_counter() - begin)
        return min(rounds)

    return {"cells": [100_000, 1_000_000], "ratio": best(1000) / best(316)}


CASES = {"city": write_city, "hours": write_hours}


def fresh_process(kind: str, *numbers: int) -> dict:
    "Run one case in a fresh process."
    done = subprocess.run(
        [sys.executable, __file__, "--case", kind, *map(str, numbers)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def measure(chosen: argparse.Namespace) -> dict:
    if chosen.case:
        kind, *numbers = chosen.case
        result = CASES[kind](*map(int, numbers))
        result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(result))
        sys.exit()
    cases = {
        "100 stations, 28 days": ("city", 100, 28),
        "100 stations, 84 days": ("city", 100, 84),
        "10,000 stations, 1 day": ("city", 10_000, 1),
        f"{chosen.large:,} stations, {chosen.hours} h": ("hours", chosen.large, chosen.hours),
    }
    table = {name: fresh_process(*case) for name, case in cases.items()}
    for row in table.values():
        row["rows_per_second"] = row["rows"] / row["seconds"]
        row["rows_per_cpu_second"] = row["rows"] / row["cpu_seconds"]
    return {"cases": table, "maps": smooth_growth()}


def show(result: dict) -> None:
    print(pd.DataFrame(result["cases"]).T.round(1).to_string())
    print("maps of ten times as many cells take", np.round(result["maps"]["ratio"], 1), "times as long")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", type=int, default=100_000, help="stations of the largest case")
    parser.add_argument("--hours", type=int, default=2, help="hours of its day that are written")
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    finish(parser, __file__, measure, show)
