"""Speed and memory of ingest, from raw records to traffic.

One generated day: ingest beside a scan of the same file by DuckDB alone, uncompressed and compressed. Then one, two,
four ... such days: time and peak memory, each in its own process, and the same for a second run that reads the cached
tables. Ratios are within one run.

    python benchmarks/ingest.py                       # five million lines a day, eight days: 3 GB of disk for a while
    python benchmarks/ingest.py --rows 200000 --days 4 [--json | --write]
"""

import argparse
import gzip
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from reporting import run_benchmark

from stouter.data.cdr import ingest_cdr
from stouter.data.cdr_format import zstd
from stouter.data.cdr_scan import SQL_TYPES
from stouter.data.labels import SERVICES

MIDNIGHT = 1383260400000  # 2013-11-01 00:00 in Milan, ms
GRID = pd.DataFrame({"lon": 9.19, "lat": 45.46}, index=np.arange(1, 10_001))


def write_day(path, day, rows):
    "Lines in the publisher's format: 10,000 squares x 144 slots, in order, several countries, many empty fields."
    with duckdb.connect() as connection:
        connection.execute(f"SELECT setseed({0.5 + day / 1000})")
        connection.execute(f"""COPY (SELECT i * 10000 // {rows} + 1,
            {MIDNIGHT + day * 86_400_000} + i * 1440000 // {rows} % 144 * 600000,
            i * 31 % 90 + 39, CASE WHEN random() < 0.5 THEN random() * 2 END,
            CASE WHEN random() < 0.3 THEN random() * 2 END, CASE WHEN random() < 0.3 THEN random() END,
            CASE WHEN random() < 0.3 THEN random() END, random() * 20 FROM range({rows}) t(i))
            TO '{path}' (FORMAT csv, DELIMITER '\t', HEADER false, QUOTE '')""")


def scan(path, compression, selection):
    "Scan a file with the same engine and columns; nothing is summed."
    columns = {name: SQL_TYPES[name] for name in ("station", "time", "country", *SERVICES)}
    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")
        return connection.execute(
            f"SELECT {selection} FROM read_csv('{path}', compression = '{compression}', delim = '\t', header = false, "
            f"auto_detect = false, columns = {columns})"
        ).fetchall()


def timed(function):
    "Seconds of wall clock and CPU of a call."
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


def compare_with_scan(path, compression, repeats):
    "Best of several rounds: a scan that parses every column, one that only counts lines, and ingest."
    every = ", ".join(f"count({name})" for name in ("station", "time", "country", *SERVICES))
    functions = {
        "scan": lambda: scan(path, compression, every),
        "count": lambda: scan(path, compression, "count(*)"),
        "ingest": lambda: ingest_cdr([path], GRID),
    }
    rounds = [{name: timed(function) for name, function in functions.items()} for _ in range(repeats)]
    best = {name: [min(seconds[name][k] for seconds in rounds) for k in (0, 1)] for name in functions}
    return {
        **{f"{name}_seconds": round(best[name][0], 3) for name in functions},
        **{f"{name}_cpu_seconds": round(best[name][1], 3) for name in functions},
        "speed_of_scan": round(best["scan"][0] / best["ingest"][0], 3),
        "speed_of_scan_cpu": round(best["scan"][1] / best["ingest"][1], 3),
        "speed_of_count": round(best["count"][0] / best["ingest"][0], 3),
    }


def ingest_costs(files, cache_dir):
    "Seconds and peak memory of one ingest, in this process."
    wall, cpu = timed(lambda: ingest_cdr(files, GRID, cache_dir=cache_dir))
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": round(wall, 3), "cpu_seconds": round(cpu, 3), "peak_gib": round(peak_gib, 3)}


def ingest_costs_in_process(files, cache_dir):
    "The same in a new process."
    command = [sys.executable, __file__, "--child", str(cache_dir), *map(str, files)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure(args):
    if args.child:
        cache_dir, *files = map(Path, args.child)
        print(json.dumps(ingest_costs(files, cache_dir)))
        sys.exit()
    folder = Path(tempfile.mkdtemp(prefix="bench-ingest-"))
    try:
        files = [folder / f"day{day}.txt" for day in range(args.days)]
        for day, file in enumerate(files):
            write_day(file, day, args.rows)
        result = {
            "rows": args.rows,
            "bytes": files[0].stat().st_size,
            "plain": compare_with_scan(files[0], "none", args.repeats),
        }
        for suffix, compression, open_compressed in (
            (".gz", "gzip", partial(gzip.open, compresslevel=4)),
            (".zst", "zstd", zstd.open),
        ):
            compressed = folder / f"compressed.txt{suffix}"
            with open(files[0], "rb") as plain, open_compressed(compressed, "wb") as out:
                shutil.copyfileobj(plain, out, 1 << 20)
            result[compression] = compare_with_scan(compressed, compression, args.repeats)
            compressed.unlink()
        counts = [n for n in (1, 2, 4, 8, 16, 32, 62) if n <= args.days]
        result["days"] = {n: ingest_costs_in_process(files[:n], folder / f"cache{n}") for n in counts}
        result["second_run"] = ingest_costs_in_process(files[: counts[-1]], folder / f"cache{counts[-1]}")
        last, first = result["days"][counts[-1]], result["days"][counts[0]]
        result["time_per_day_ratio"] = round(last["seconds"] / counts[-1] / first["seconds"], 3)
        result["cpu_per_day_ratio"] = round(last["cpu_seconds"] / counts[-1] / first["cpu_seconds"], 3)
        result["cached_bytes_per_day"] = sum(file.stat().st_size for file in (folder / "cache1").iterdir())
    finally:
        shutil.rmtree(folder)
    return result


def show(result):
    last = max(result["days"])
    print(f"{result['rows']:,} lines, {result['bytes'] / 1e6:.0f} MB a day")
    print("scan parses every column, count none; speed_of_scan is the time of scan over that of ingest")
    print(pd.DataFrame({kind: result[kind] for kind in ("plain", "gzip", "zstd")}).to_string())
    print(pd.DataFrame({**result["days"], f"{last}, second run": result["second_run"]}).T.to_string())
    ratios = f"{result['time_per_day_ratio']} (CPU {result['cpu_per_day_ratio']})"
    cached = f"{result['cached_bytes_per_day'] / 1e6:.1f} MB a day"
    print(f"time per day, {last} days over one: {ratios}; cached tables: {cached}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000, help="lines of a day")
    parser.add_argument("--days", type=int, default=8, help="largest number of days in one ingest")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of the comparison with a scan")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    run_benchmark(parser, __file__, measure, show)
