"""A month of a large city by one process and by local clusters: equal bytes, overhead, scaling to 64 workers.

    OMP_NUM_THREADS=1 python benchmarks/cluster.py runs/run/tiny/seed0 --stations 1000 --days 31 --workers 1 2 \\
        --out nbs/results/cluster.json

RUN is a model of the package or the folder of a run; its sites are made up, with the counts of its own stations. The
tables of one process and of the clusters are compared byte by byte. `overhead` is the processor time of all processes
of a cluster, start and end included, beyond that of one process: unlike the seconds of wall clock it depends little on
what else the machine does (`load` is the number of processes that want a core just before).

The task graph is then played through for 1 to 64 workers: a worker begins when it has imported the package, the
scheduler gives out one block after another, each at the processor time that it was measured to cost, the worker that is
free first takes it for the time that it took here, and one process merges the parts. The folder is taken to be as
fast for 64 workers as for one.
"""

import argparse
import heapq
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from reporting import print_fields, run_benchmark

from stouter.files import write_json
from stouter.pipeline import generate
from stouter.pipeline.cluster import open_cluster
from stouter.pipeline.generate import GenerationRequest, make_request
from stouter.pipeline.initial_weights import find_pretrained
from stouter.pipeline.run import load_run

FIRST = pd.Timestamp("2014-01-01")


def large_request(run: str, n_stations: int, n_days: int, folder: Path) -> GenerationRequest:
    "A request for made-up sites in the city of a run."
    results = load_run(Path(run) if Path(run).is_dir() else find_pretrained(run))
    places, rng = results.model.places, np.random.default_rng(0)
    known = places.stations[["lon", "lat", *places.categories]]
    sites = known.iloc[rng.integers(len(known), size=n_stations)].set_axis([f"s{k}" for k in range(n_stations)])
    low, high = known[["lon", "lat"]].min(), known[["lon", "lat"]].max()
    sites[["lon", "lat"]] = low.to_numpy() + rng.random((n_stations, 2)) * (high - low).to_numpy()
    sites.rename_axis("id").to_csv(folder / "sites.csv")
    last = FIRST + pd.Timedelta(days=n_days - 1)
    return make_request(results.model_with(sites=folder / "sites.csv"), FIRST, last, 1, 0, None)


def cpu_seconds() -> float:
    "Of this process and of those that it has started and that have ended."
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def timed(function: Callable, *arguments) -> dict:
    "Seconds of a call, and the average load of the machine before it."
    load, wall, cpu = os.getloadavg()[0], time.perf_counter(), cpu_seconds()
    function(*arguments)
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": cpu_seconds() - cpu, "load": load}


def write_and_time_blocks(request: GenerationRequest, out: Path) -> list[float]:
    "One process; processor time of each block."
    make_part, seconds = generate.make_part, []

    def timed_part(shared: tuple, block: int) -> None:
        start = time.thread_time()
        make_part(shared, block)
        seconds.append(time.thread_time() - start)

    generate.make_part = timed_part
    generate.write_traffic(request, out)
    generate.make_part = make_part
    return seconds


def start_only(request: GenerationRequest, n_workers: int) -> None:
    "A cluster whose workers import the package, get the request, and do nothing."
    with open_cluster(None, n_workers) as cluster:
        cluster.map_parts(generate.block_items, generate.request_of_parts(request), list(range(n_workers)), None)


def write_on_cluster(request: GenerationRequest, out: Path, n_workers: int) -> None:
    "A cluster, its start and its end included."
    with open_cluster(None, n_workers) as cluster:
        generate.write_traffic(request, out, cluster=cluster)


def play(blocks: list[float], n_workers: int, start: float, dispatch: float, merge: float) -> float:
    "Seconds of a run whose blocks are given out one after another to the worker that is free first."
    free, given = [start] * n_workers, start
    for seconds in blocks:
        given += dispatch
        heapq.heapreplace(free, max(free[0], given) + seconds)
    return max(free) + merge


def measure(args: argparse.Namespace) -> dict:
    rows, blocks = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        request = large_request(args.run, args.stations, args.days, folder)
        one = timed(lambda: blocks.extend(write_and_time_blocks(request, folder / "0.parquet")))
        print(f"one process: {one}", flush=True)
        for n in args.workers:
            row = timed(write_on_cluster, request, folder / f"{n}.parquet", n) | {"workers": n}
            row["start_cpu_seconds"] = timed(start_only, request, n)["cpu_seconds"]
            row["same_bytes"] = (folder / f"{n}.parquet").read_bytes() == (folder / "0.parquet").read_bytes()
            row["overhead"] = row["cpu_seconds"] / one["cpu_seconds"] - 1
            rows.append(row)
            print(row, flush=True)
    last, merge = rows[-1], one["cpu_seconds"] - sum(blocks)
    start = last["start_cpu_seconds"] / last["workers"]
    costs = last["cpu_seconds"] - last["start_cpu_seconds"] - one["cpu_seconds"]
    dispatch = max(costs, 0) / len(blocks)
    simulated = []
    for stations in (10_000, 1_000_000):  # for a month, from the measured times of blocks
        larger = np.resize(blocks, -(-stations * 31 // generate.BLOCK_SIZE)).tolist()
        merging = merge * len(larger) / len(blocks)
        alone = sum(larger) + merging
        for n in (1, 2, 4, 8, 16, 32, 64):
            seconds = play(larger, n, start, dispatch, merging)
            overhead = (n * start + len(larger) * dispatch) / alone
            row = {"stations": stations, "workers": n, "seconds": seconds, "speedup": alone / seconds}
            simulated.append({**row, "overhead": overhead})
    result = {
        "run": args.run,
        "stations": args.stations,
        "days": args.days,
        "n_blocks": len(blocks),
        "block_seconds": float(np.mean(blocks)),
        "start_seconds": start,
        "dispatch_seconds": dispatch,
        "merge_seconds": merge,
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "one_process": one,
        "clusters": rows,
        "simulated": simulated,
    }
    if args.out:
        write_json(args.out, result)
    return result


def show(result: dict) -> None:
    "Fields, then both tables."
    print_fields({name: value for name, value in result.items() if not isinstance(value, list)})
    for name in ("clusters", "simulated"):
        print(pd.DataFrame(result[name]).to_string(index=False, float_format="{:.4g}".format))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a model of the package, or the folder of a finished run")
    parser.add_argument("--stations", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=31)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, help="JSON file that is kept")
    run_benchmark(parser, __file__, measure, show)
