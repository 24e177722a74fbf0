"""How long does a month of a city take? `generate` on a finished run, from the request to the parquet file.

    OMP_NUM_THREADS=1 python benchmarks/generation.py RUN_DIR [--stations 20] [--days 31] [--steps 20] [--threads 1] [--json | --write]

Prints station-days per second, by the wall clock and by CPU time of all threads; the share of CPU time spent outside the network's walk (noise,
scales, calendar, columns, parquet, joining); the peak of memory; and what Milan's month (307,055 station-days) would take at this rate.
RUN_DIR is only read; `--stations 507 --days 606` on Nanjing is a month of Milan for real.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from kept import finish

from stouter.pipeline.generate import BLOCK_SIZE, generate
from stouter.pipeline.run import open_run

MONTH = 307_055  # station-days of Milan in 31 days that Table 1 counts


def measure(run: Path, n_stations: int, n_days: int, n_steps: int | None, threads: int) -> dict:
    experiment, walks = open_run(run), []
    experiment.config = experiment.config.model_copy(update={"n_threads": threads})
    method = experiment.generator
    method.n_sampling_steps = n_steps = n_steps or method.n_sampling_steps
    real = method.sample

    def sample(*arguments):
        started = time.thread_time()
        out = real(*arguments)
        walks.append(time.thread_time() - started)
        return out

    method.sample = sample
    stations, first = experiment.traffic.stations.index[:n_stations], pd.Timestamp("2016-01-04")
    with tempfile.TemporaryDirectory() as place:
        out, wall, cpu = Path(place) / "table.parquet", time.perf_counter(), time.process_time()
        rows = generate(experiment, first, first + pd.Timedelta(days=n_days - 1), 1, out, stations=list(stations))
        wall, cpu, size = time.perf_counter() - wall, time.process_time() - cpu, out.stat().st_size
    days = len(stations) * n_days
    return {
        "run": f"{experiment.config.name}/seed{experiment.seed}",
        "sampler": f"{experiment.config.diffusion.sampler}-{n_steps}",
        "torch": torch.__version__,
        "threads": threads,
        "block": BLOCK_SIZE,
        "station_days": days,
        "rows": rows,
        "megabytes": size / 1e6,
        "seconds": wall,
        "cpu_seconds": cpu,
        "station_days_per_second": days / wall,
        "station_days_per_cpu_second": days / cpu,
        "share_outside_network": 1 - sum(walks) / cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "cpu_seconds_for_307055": MONTH / days * cpu,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--stations", type=int, default=20)
    parser.add_argument("--days", type=int, default=31)
    parser.add_argument("--steps", type=int, help="of the sampler; the run's if not given")
    parser.add_argument("--threads", type=int, default=1)
    finish(parser, __file__, lambda a: measure(a.run, a.stations, a.days, a.steps, a.threads))
