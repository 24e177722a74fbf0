"""Speed of opening a city's traffic and of reading random station-days from it, at full size.

10,000 cells x 1,488 hours x 7 services are a file of 417 MB. Batches of 256 station-days are read warm (the system has
cached their pages) and cold (the pages of the file are dropped before every batch, where the system allows it), and
warm by indexing with xarray.

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
from reporting import run_benchmark
from windows import day_offsets, gather_windows, map_volume

from stouter.data.coverage import TABLE_1
from stouter.data.traffic import Traffic, open_traffic, save_traffic


def seconds(function, repeats, before=None):
    "Median time of several calls; `before` is called before each and not timed."
    times = []
    for _ in range(repeats):
        if before:
            before()
        start_time = time.perf_counter()
        function()
        times.append(time.perf_counter() - start_time)
    return float(np.median(times))


def write_city(path, cells, hours):
    "Write gamma noise with `save_traffic`; seconds."
    values = np.random.default_rng(0).standard_gamma(2, size=(cells, len(hours), 7), dtype="float32")
    row, column = np.divmod(np.arange(cells), 100)
    stations = pd.DataFrame(
        {"lon": 9 + column * 0.003, "lat": 45.3 + row * 0.002, "Food": 1.0}, index=np.arange(1, cells + 1)
    )
    traffic = Traffic.from_array(values, stations, hours, list(TABLE_1.index), "Europe/Rome", "CDR activity")
    start_time = time.perf_counter()
    save_traffic(traffic, path)
    return time.perf_counter() - start_time


def drop_pages(path):
    "Ask the system to drop the file's pages from its cache."
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def measure(args):
    folder = Path(tempfile.mkdtemp(prefix="bench-traffic-"))
    try:
        path, rng = folder / "city.nc", np.random.default_rng(1)
        hours = pd.date_range("2013-11-01", periods=62 * 24, freq="h", tz="Europe/Rome")
        result = {
            "cells": args.cells,
            "hours": len(hours),
            "services": 7,
            "write_seconds": write_city(path, args.cells, hours),
            "bytes": path.stat().st_size,
        }
        drop_pages(path)
        result["open_ms"] = 1e3 * seconds(lambda: open_traffic(path).dataset.close(), args.repeats)
        result["map_ms"] = 1e3 * seconds(lambda: map_volume(path), args.repeats)
        values, starts = map_volume(path), day_offsets(hours)

        def read_batch():
            cells = rng.integers(args.cells, size=args.batch)
            return gather_windows(values, cells, rng.choice(starts, args.batch))

        def drop_mapped_pages():
            values._mmap.madvise(mmap.MADV_DONTNEED)
            drop_pages(path)

        result["cold_batch_ms"] = 1e3 * seconds(read_batch, args.repeats, drop_mapped_pages)
        np.asarray(values).sum()  # reads every page once
        result["warm_batch_ms"] = 1e3 * seconds(read_batch, args.repeats)
        with xr.open_dataset(path, engine="h5netcdf") as opened:

            def read_with_xarray():
                cells = rng.integers(args.cells, size=args.batch)
                return [opened.volume[i, h : h + 24].values for i, h in zip(cells, rng.choice(starts, args.batch))]

            result["xarray_batch_ms"] = 1e3 * seconds(read_with_xarray, 3)
    finally:
        shutil.rmtree(folder)
    return {name: round(value, 3) for name, value in result.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=256, help="station-days of a batch")
    parser.add_argument("--repeats", type=int, default=50)
    run_benchmark(parser, __file__, measure)
