"""How fast raw records become traffic, and in how much memory.

One invented day: ingest against the bare scan of the same engine, plain and packed. Then one, two, four ... such days:
time and peak memory of a fresh process each, and of a second run over the tables kept. Ratios are within one run.

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
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from kept import finish

from stouter.data.cdr import ingest_cdr
from stouter.data.cdr_format import SQL_TYPES, zstd
from stouter.data.traffic import SERVICES

MIDNIGHT = 1383260400000  # 2013-11-01 00:00 in Milan, ms
GRID = pd.DataFrame({"lon": 9.19, "lat": 45.46}, index=np.arange(1, 10_001))


def write_day(path, day, rows):
    "Lines in the publisher's format: 10,000 squares x 144 slots, in order, several countries, many empty fields."
    with duckdb.connect() as connection:
        connection.execute(f"SELECT setseed({0.5 + day / 1000})")
        connection.execute(f"""COPY (SELECT i * 10000 // {rows} + 1, {MIDNIGHT + day * 86_400_000} + i * 1440000 // {rows} % 144 * 600000,
            CASE WHEN i % 7 < 3 THEN 39 ELSE i * 31 % 90 + 1 END, CASE WHEN random() < 0.5 THEN random() * 2 END,
            CASE WHEN random() < 0.3 THEN random() * 2 END, CASE WHEN random() < 0.3 THEN random() END,
            CASE WHEN random() < 0.3 THEN random() END, random() * 20 FROM range({rows}) t(i))
            TO '{path}' (FORMAT csv, DELIMITER '\t', HEADER false, QUOTE '')""")


def scan(path, compression, what):
    "The bare scan: the same engine and columns, nothing summed."
    columns = {name: SQL_TYPES[name] for name in ("station", "time", "country", *SERVICES)}
    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")
        return connection.execute(
            f"SELECT {what} FROM read_csv('{path}', compression = '{compression}', delim = '\t', header = false, "
            f"auto_detect = false, columns = {columns})"
        ).fetchall()


def timed(work):
    "Seconds by the wall and of the processor."
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def against_the_scan(path, compression, repeats):
    "Best of several turns, taken alternately: a scan that parses and counts every column, a count of lines alone, the ingest."
    every = ", ".join(f"count({name})" for name in ("station", "time", "country", *SERVICES))
    works = {
        "scan": lambda: scan(path, compression, every),
        "count": lambda: scan(path, compression, "count(*)"),
        "ingest": lambda: ingest_cdr([path], GRID),
    }
    turns = [{name: timed(work) for name, work in works.items()} for _ in range(repeats)]
    best = {name: [min(turn[name][k] for turn in turns) for k in (0, 1)] for name in works}
    return {
        **{f"{name}_seconds": round(best[name][0], 3) for name in works},
        **{f"{name}_cpu_seconds": round(best[name][1], 3) for name in works},
        "speed_of_scan": round(best["scan"][0] / best["ingest"][0], 3),
        "speed_of_scan_cpu": round(best["scan"][1] / best["ingest"][1], 3),
        "speed_of_count": round(best["count"][0] / best["ingest"][0], 3),
    }


def one_ingest(files, keep):
    "In a process of its own (`--child`): what an ingest costs."
    wall, cpu = timed(lambda: ingest_cdr(files, GRID, cache_dir=keep))
    print(
        json.dumps(
            {
                "seconds": round(wall, 3),
                "cpu_seconds": round(cpu, 3),
                "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
            }
        )
    )


def fresh_process(files, keep):
    done = subprocess.run(
        [sys.executable, __file__, "--child", str(keep), *map(str, files)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def measure(options):
    if options.child:
        sys.exit(one_ingest([Path(file) for file in options.child[1:]], Path(options.child[0])))
    folder = Path(tempfile.mkdtemp(prefix="bench-ingest-"))
    try:
        files = [folder / f"day{day}.txt" for day in range(options.days)]
        for day, file in enumerate(files):
            write_day(file, day, options.rows)
        result = {
            "rows": options.rows,
            "bytes": files[0].stat().st_size,
            "plain": against_the_scan(files[0], "none", options.repeats),
        }
        for suffix, kind, pack in (
            (".gz", "gzip", lambda out: gzip.open(out, "wb", compresslevel=4)),
            (".zst", "zstd", lambda out: zstd.open(out, "wb")),
        ):
            packed = folder / f"packed.txt{suffix}"
            with open(files[0], "rb") as plain, pack(packed) as out:
                shutil.copyfileobj(plain, out, 1 << 20)
            result[kind] = against_the_scan(packed, kind, options.repeats)
            packed.unlink()
        counts = [n for n in (1, 2, 4, 8, 16, 32, 62) if n <= options.days]
        result["days"] = {n: fresh_process(files[:n], folder / f"kept{n}") for n in counts}
        result["second_run"] = fresh_process(files[: counts[-1]], folder / f"kept{counts[-1]}")
        last, first = result["days"][counts[-1]], result["days"][counts[0]]
        result["time_per_day_ratio"] = round(last["seconds"] / counts[-1] / first["seconds"], 3)
        result["cpu_per_day_ratio"] = round(last["cpu_seconds"] / counts[-1] / first["cpu_seconds"], 3)
        result["kept_bytes_of_a_day"] = sum(file.stat().st_size for file in (folder / "kept1").iterdir())
    finally:
        shutil.rmtree(folder)
    return result


def show(result):
    last = max(result["days"])
    print(
        f"{result['rows']:,} lines, {result['bytes'] / 1e6:.0f} MB a day; scan parses every column, count none; speed_of_scan is scan over ingest"
    )
    print(pd.DataFrame({kind: result[kind] for kind in ("plain", "gzip", "zstd")}).to_string())
    print(pd.DataFrame({**result["days"], f"{last} again": result["second_run"]}).T.to_string())
    print(
        f"time per day, {last} days against one: {result['time_per_day_ratio']} (CPU {result['cpu_per_day_ratio']}); kept tables: {result['kept_bytes_of_a_day'] / 1e6:.1f} MB a day"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000, help="lines of a day")
    parser.add_argument("--days", type=int, default=8, help="most days in one ingest")
    parser.add_argument("--repeats", type=int, default=3, help="turns of the one day")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    finish(parser, __file__, measure, show)
