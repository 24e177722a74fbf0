"""Speed and memory of counting a million points of interest in ten thousand cells.

OMP_NUM_THREADS=1 python benchmarks/pois.py [--places 1000000] [--cells 10000] [--json | --write]
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from reporting import run_benchmark

from stouter.data.pois import POI_CATEGORIES, count_pois, read_pois


def make_city(
    n_cells: int,  # a square number
    n_places: int,  # spread over the cells and a rim around them
) -> tuple[pd.DataFrame, pd.DataFrame]:  # stations with `area` and `radius_km`; places
    "A grid like Milan's, rotated by two degrees so that no cell is parallel to the axes of the spatial index."
    side, n = 0.003, int(n_cells**0.5)
    rotation = np.array([[np.cos(0.035), -np.sin(0.035)], [np.sin(0.035), np.cos(0.035)]])
    corners = np.array([(x, y) for y in range(n) for x in range(n)]) * side
    outlines = (corners[:, None] + np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * side) @ rotation.T + [9, 45]
    areas = shapely.polygons(outlines)
    centre = shapely.centroid(areas)
    stations = pd.DataFrame(
        {"lon": shapely.get_x(centre), "lat": shapely.get_y(centre), "area": areas, "radius_km": 0.15},
        index=pd.RangeIndex(n * n, name="station"),
    )
    rng = np.random.default_rng(0)
    places = rng.uniform(-0.05 * n * side, 1.05 * n * side, (n_places, 2)) @ rotation.T + [9, 45]
    return stations, pd.DataFrame(
        {"lon": places[:, 0], "lat": places[:, 1], "category": rng.choice(POI_CATEGORIES, n_places)}
    )


def timed(function, *arguments) -> tuple:
    "What a call returned, seconds of wall clock, seconds of CPU."
    wall, cpu = time.perf_counter(), time.process_time()
    result = function(*arguments)
    return result, time.perf_counter() - wall, time.process_time() - cpu


def measure(args: argparse.Namespace) -> dict:
    "Every definition of coverage, reading a file, and a histogram, enough for a grid parallel to the axes."
    stations, pois = make_city(args.cells, args.places)
    rows = {}
    _, *rows["two-dimensional histogram"] = timed(np.histogram2d, pois.lat, pois.lon, int(args.cells**0.5))
    counts = {}
    for coverage in ("area", "radius", "nearest"):
        counts[coverage], *rows[f"count, {coverage}"] = timed(count_pois, pois, stations, coverage)
    with tempfile.TemporaryDirectory() as folder:
        pois.to_csv(Path(folder) / "pois.csv", index=False)
        again, *rows["read the CSV"] = timed(read_pois, Path(folder) / "pois.csv")
    np.testing.assert_allclose(again[["lon", "lat"]], pois[["lon", "lat"]])
    base = rows["two-dimensional histogram"][1]
    table = pd.DataFrame(
        [
            {"task": task, "wall_s": wall, "cpu_s": cpu, "times_the_histogram": cpu / base}
            for task, (wall, cpu) in rows.items()
        ]
    )
    return {
        "places": args.places,
        "cells": args.cells,
        "rows": table.to_dict("records"),
        "outside": {name: count.attrs["n_unassigned"] for name, count in counts.items()},
        "peak_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def show(result: dict) -> None:
    print(pd.DataFrame(result["rows"]).round(2).to_string(index=False))
    print(f"outside every station: {result['outside']}; peak memory {result['peak_MiB']:.0f} MiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", type=int, default=1_000_000)
    parser.add_argument("--cells", type=int, default=10_000, help="a square number")
    run_benchmark(parser, __file__, measure, show)
