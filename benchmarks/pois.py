"How long do a million places over ten thousand cells take? `python benchmarks/pois.py [--json]`"
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import shapely
import typer

from stouter.data.categories import POI_CATEGORIES
from stouter.data.pois import count_pois, read_pois


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
    stations = pd.DataFrame({"lon": shapely.get_x(centre), "lat": shapely.get_y(centre), "area": areas, "radius_km": 0.15}, index=pd.RangeIndex(n * n, name="station"))
    rng = np.random.default_rng(0)
    spots = rng.uniform(-0.05 * n * side, 1.05 * n * side, (n_places, 2)) @ turn.T + [9, 45]
    return stations, pd.DataFrame({"lon": spots[:, 0], "lat": spots[:, 1], "category": rng.choice(POI_CATEGORIES, n_places)})


def clocked(work) -> tuple[object, float, float]:
    "What the work returns, wall seconds, processor seconds."
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def main(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON alone.")] = False,
    places: int = 1_000_000,
    cells: int = 10_000,
) -> None:
    "Count by each definition, read from a file, and beside it the plain arithmetic that a perfect grid would allow."
    stations, pois = city(cells, places)
    rows = {}
    n = int(cells**0.5)
    _, *rows["two-dimensional histogram"] = clocked(lambda: np.histogram2d(pois.lat, pois.lon, n))
    counts = {}
    for coverage in ("area", "radius", "nearest"):
        counts[coverage], *rows[f"count, {coverage}"] = clocked(lambda coverage=coverage: count_pois(pois, stations, coverage))
    with tempfile.TemporaryDirectory() as folder:
        pois.to_csv(Path(folder) / "pois.csv", index=False)
        again, *rows["read the CSV"] = clocked(lambda: read_pois(Path(folder) / "pois.csv"))
    np.testing.assert_allclose(again[["lon", "lat"]], pois[["lon", "lat"]])
    base = rows["two-dimensional histogram"][1]
    table = pd.DataFrame([{"work": work, "wall_s": wall, "cpu_s": cpu, "times_the_histogram": cpu / base} for work, (wall, cpu) in rows.items()])
    result = {
        "places": places, "cells": cells, "rows": table.to_dict("records"), "outside": {name: count.attrs["outside"] for name, count in counts.items()},
        "peak_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    if as_json:
        typer.echo(json.dumps(result, indent=1))
        return
    typer.echo(table.round(2).to_string(index=False))
    typer.echo(f"outside every station: {result['outside']}; peak memory {result['peak_MiB']:.0f} MiB")


if __name__ == "__main__":
    typer.run(main)
