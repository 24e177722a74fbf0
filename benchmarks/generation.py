"""Speed and memory of generation: `write_traffic` on a finished run, from the request to the parquet file.

    OMP_NUM_THREADS=1 python benchmarks/generation.py RUN_DIR [--stations 20] [--days 31] [--steps 20] [--threads 1]
        [--out FILE] [--json | --write]

Prints station-days per second of wall clock and of CPU time of all threads; the fraction of CPU time spent outside the
sampler (noise, scales, calendar, columns, parquet, merging of parts); peak memory; and the CPU time of a month of Milan
(307,055 station-days) at this rate. RUN_DIR is only read; on Nanjing, `--stations 507 --days 606` are as many
station-days as a month of Milan.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from reporting import run_benchmark

from stouter.pipeline.generate import BLOCK_SIZE, make_request, write_traffic
from stouter.pipeline.run import load_run

MONTH = 307_055  # station-days of Milan in 31 days that Table 1 counts


def measure(args: argparse.Namespace) -> dict:
    run, sampling_seconds = load_run(args.run), []
    if args.steps:
        run.method.n_sampling_steps = args.steps
    sample = run.method.sample

    def timed_sample(*arguments):
        start_time = time.thread_time()
        x = sample(*arguments)
        sampling_seconds.append(time.thread_time() - start_time)
        return x

    run.method.sample = timed_sample
    stations, first = list(run.city.traffic.stations.index[: args.stations]), pd.Timestamp("2016-01-04")
    last = first + pd.Timedelta(days=args.days - 1)
    with tempfile.TemporaryDirectory() as folder:
        out = args.out or Path(folder) / "table.parquet"
        wall, cpu = time.perf_counter(), time.process_time()
        rows = write_traffic(make_request(run.model, first, last, 1, 0, stations), out, args.threads)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        size = out.stat().st_size
    station_days = len(stations) * args.days
    return {
        "run": f"{run.config.name}/seed{run.seed}",
        "sampler": f"{run.config.diffusion.sampler}-{getattr(run.method, 'n_sampling_steps', 1)}",
        "torch": torch.__version__,
        "threads": args.threads,
        "block": BLOCK_SIZE,
        "station_days": station_days,
        "rows": rows,
        "megabytes": size / 1e6,
        "seconds": wall,
        "cpu_seconds": cpu,
        "station_days_per_second": station_days / wall,
        "station_days_per_cpu_second": station_days / cpu,
        "fraction_outside_sampler": 1 - sum(sampling_seconds) / cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "cpu_seconds_for_307055": MONTH / station_days * cpu,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--stations", type=int, default=20)
    parser.add_argument("--days", type=int, default=31)
    parser.add_argument("--steps", type=int, help="of the sampler; the run's if not given")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="parquet file that is kept; a temporary one if not given")
    run_benchmark(parser, __file__, measure)
