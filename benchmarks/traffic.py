"""Opening a city's traffic and drawing random station-days from it, at full size.

10,000 cells x 1,488 hours x 7 services is a file of 417 MB. Batches of 256 station-days are drawn warm (pages that the
system has cached) and cold (the file's pages are dropped before every batch, where the system lets us), next to xarray's own indexing.

    python benchmarks/traffic.py
    python benchmarks/traffic.py --cells 1000 [--json | --write]
"""

import argparse
import mmap
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from kept import finish
from windows import day_offsets, gather_windows, map_volume

from stouter.data.coverage import TABLE_1
from stouter.data.traffic import Traffic, open_traffic, save_traffic


def seconds(work, times, before=lambda: None):
    "Median over several turns."
    turns = []
    for _ in range(times):
        before()
        start = time.perf_counter()
        work()
        turns.append(time.perf_counter() - start)
    return float(np.median(turns))


def write_city(path, cells, hours):
    "Gamma noise with labels, as `save_traffic` writes it."
    values = np.random.default_rng(0).standard_gamma(2, size=(cells, len(hours), 7), dtype="float32")
    row, column = np.divmod(np.arange(cells), 100)
    stations = pd.DataFrame(
        {"lon": 9 + column * 0.003, "lat": 45.3 + row * 0.002, "Food": 1.0}, index=np.arange(1, cells + 1)
    )
    start = time.perf_counter()
    save_traffic(Traffic.from_array(values, stations, hours, list(TABLE_1.index), "Europe/Rome", "CDR activity"), path)
    return time.perf_counter() - start


def drop_pages(path):
    "Ask the system to forget the file's pages."
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def measure(options):
    folder = Path(tempfile.mkdtemp(prefix="bench-traffic-"))
    try:
        path, rng = folder / "city.nc", np.random.default_rng(1)
        hours = pd.date_range("2013-11-01", periods=62 * 24, freq="h", tz="Europe/Rome")
        result = {
            "cells": options.cells,
            "hours": len(hours),
            "services": 7,
            "write_seconds": write_city(path, options.cells, hours),
            "bytes": path.stat().st_size,
        }
        drop_pages(path)
        result["open_ms"] = 1e3 * seconds(lambda: open_traffic(path).dataset.close(), options.turns)
        result["map_ms"] = 1e3 * seconds(lambda: map_volume(path), options.turns)
        values, starts = map_volume(path), day_offsets(hours)

        def draw():
            return gather_windows(
                values, rng.integers(options.cells, size=options.batch), rng.choice(starts, options.batch)
            )

        result["cold_batch_ms"] = 1e3 * seconds(
            draw, options.turns, lambda: (values._mmap.madvise(mmap.MADV_DONTNEED), drop_pages(path))
        )
        np.asarray(values).sum()  # every page once
        result["warm_batch_ms"] = 1e3 * seconds(draw, options.turns)
        with xr.open_dataset(path, engine="h5netcdf") as opened:

            def by_xarray():
                for i, h in zip(rng.integers(options.cells, size=options.batch), rng.choice(starts, options.batch)):
                    opened.volume[i, h : h + 24].values

            result["xarray_batch_ms"] = 1e3 * seconds(by_xarray, 3)
    finally:
        shutil.rmtree(folder)
    return {name: round(value, 3) for name, value in result.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=256, help="station-days of a batch")
    parser.add_argument("--turns", type=int, default=50)
    finish(parser, __file__, measure)
