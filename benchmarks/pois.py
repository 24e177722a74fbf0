"""How long do a million places over ten thousand cells take?

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
from kept import finish

from stouter.data.pois import POI_CATEGORIES, count_pois, read_pois


def city(
    n_cells: int,  # a square number
    n_places: int,  # spread over the cells and a rim around them
) -> tuple[pd.DataFrame, pd.DataFrame]:  # stations with `area` and `radius_km`; places
    "A grid as Milan's, turned by two degrees so that no cell is a rectangle of the tree."
    side, n = 0.003, int(n_cells**0.5)
    turn = np.array([[np.cos(0.035), -np.sin(0.035)], [np.sin(0.035), np.cos(0.035)]])
    corners = np.array([(x, y) for y in range(n) for x in range(n)]) * side
    outlines = (corners[:, None] + np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * side) @ turn.T + [9, 45]
    areas = shapely.polygons(outlines)
    centre = shapely.centroid(areas)
    stations = pd.DataFrame(
        {"lon": shapely.get_x(centre), "lat": shapely.get_y(centre), "area": areas, "radius_km": 0.15},
        index=pd.RangeIndex(n * n, name="station"),
    )
    rng = np.random.default_rng(0)
    spots = rng.uniform(-0.05 * n * side, 1.05 * n * side, (n_places, 2)) @ turn.T + [9, 45]
    return stations, pd.DataFrame(
        {"lon": spots[:, 0], "lat": spots[:, 1], "category": rng.choice(POI_CATEGORIES, n_places)}
    )


def clocked(work) -> tuple[object, float, float]:
    "What the work returns, wall seconds, processor seconds."
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def measure(places: int, cells: int) -> dict:
    "Count by each definition, read from a file, and beside it the plain arithmetic that a perfect grid would allow."
    stations, pois = city(cells, places)
    rows = {}
    n = int(cells**0.5)
    _, *rows["two-dimensional histogram"] = clocked(lambda: np.histogram2d(pois.lat, pois.lon, n))
    counts = {}
    for coverage in ("area", "radius", "nearest"):
        counts[coverage], *rows[f"count, {coverage}"] = clocked(
            lambda coverage=coverage: count_pois(pois, stations, coverage)
        )
    with tempfile.TemporaryDirectory() as folder:
        pois.to_csv(Path(folder) / "pois.csv", index=False)
        again, *rows["read the CSV"] = clocked(lambda: read_pois(Path(folder) / "pois.csv"))
    np.testing.assert_allclose(again[["lon", "lat"]], pois[["lon", "lat"]])
    base = rows["two-dimensional histogram"][1]
    table = pd.DataFrame(
        [
            {"work": work, "wall_s": wall, "cpu_s": cpu, "times_the_histogram": cpu / base}
            for work, (wall, cpu) in rows.items()
        ]
    )
    return {
        "places": places,
        "cells": cells,
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
    finish(parser, __file__, lambda a: measure(a.places, a.cells), show)
