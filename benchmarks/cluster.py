"""A month of a large city by one process and by local clusters: equal bytes, overhead, scaling to 64 workers.

    OMP_NUM_THREADS=1 python benchmarks/cluster.py demo --stations 1000 3000 --out nbs/results/cluster.json

RUN is a model of the package or the folder of a run; its sites are made up, with the counts of its own stations. The
tables of one process and of the clusters are compared byte by byte. Each is written by a process of its own.
`cpu_seconds` is the processor time of that process and of all that it has started, the imports of the workers
included, from before the cluster is opened until the table is there; `overhead` is what a cluster takes beyond one
process. Unlike the seconds of wall clock it depends little on what else the machine does (`load` is the number of
processes that want a core just before).

The task graph is then played through for 1 to 64 workers, with the times of the largest city: each is on a machine of
its own and begins as late as the cluster of this machine did; the scheduler gives out one task (blocks that a worker
makes one after another) after another, at the processor time that it was measured to cost, the worker that is free
first takes it for the time that its blocks took here, and one process merges the parts. The folder is taken to be as
fast for 64 workers as for one.
"""

import argparse
import heapq
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch
from reporting import print_fields, run_benchmark

from stouter.files import write_json
from stouter.pipeline import generate
from stouter.pipeline.cluster import group_parts, open_cluster
from stouter.pipeline.generate import GenerationRequest, make_request
from stouter.pipeline.initial_weights import find_pretrained
from stouter.pipeline.run import load_run

FIRST, MODULE = pd.Timestamp("2014-01-01"), "stouter.pipeline.generate"  # what workers have imported, as by the command


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
    "Of this process and of all that it has started and that are alive: the workers, and the one that they fork from."
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return sum(t.user + t.system for t in times)


@contextmanager
def timed(row: dict) -> Iterator[None]:
    "Seconds of a block, and the average load of the machine before it, into `row`."
    row["load"], wall, cpu = os.getloadavg()[0], time.perf_counter(), cpu_seconds()
    yield
    row.update(seconds=time.perf_counter() - wall, cpu_seconds=cpu_seconds() - cpu)


def write_and_time_blocks(request: GenerationRequest, out: Path, row: dict) -> None:
    "One process; processor time of each block."
    make_part, row["blocks"] = generate.make_part, []

    def timed_part(shared: tuple, block: int) -> None:
        start = time.thread_time()
        make_part(shared, block)
        row["blocks"].append(time.thread_time() - start)

    generate.make_part = timed_part
    with timed(row):
        generate.write_traffic(request, out)


def start_only(request: GenerationRequest, out: None, row: dict) -> None:
    "A cluster whose workers import the package, get the request, and do nothing."
    with ExitStack() as stack, timed(row):
        cluster = stack.enter_context(open_cluster(None, row["workers"], MODULE))
        parts = list(range(row["workers"]))
        cluster.map_parts(generate.block_items, generate.request_of_parts(request), parts, None)


def write_on_cluster(request: GenerationRequest, out: Path, row: dict) -> None:
    "A cluster, its start included."
    with ExitStack() as stack, timed(row):
        generate.write_traffic(request, out, cluster=stack.enter_context(open_cluster(None, row["workers"], MODULE)))


def work(function: Callable, request: tuple, out: Path | None, row: dict, connection: Connection) -> None:
    "In a process of its own: make the request, call the function, send the row."
    function(large_request(*request), out, row)
    connection.send(row)


def in_new_process(function: Callable, request: tuple, out: Path | None, **row) -> dict:
    "What the function writes into `row`, in a process that has started no other one yet."
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=work, args=(function, request, out, row, there))
    process.start()
    there.close()
    row = here.recv()
    process.join()
    return row


def play(tasks: list[float], n_workers: int, start: float, dispatch: float, merge: float) -> float:
    "Seconds of a run whose tasks are given out one after another to the worker that is free first."
    free, given = [start] * n_workers, start
    for seconds in tasks:
        given += dispatch
        heapq.heapreplace(free, max(free[0], given) + seconds)
    return max(free) + merge


def measure_city(args: argparse.Namespace, n_stations: int) -> tuple[dict, list[float]]:
    "One process and the clusters on a city; seconds of each block."
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        request = args.run, n_stations, args.days, folder
        one = in_new_process(write_and_time_blocks, request, folder / "0.parquet")
        blocks = one.pop("blocks")
        print(f"{n_stations} stations, one process: {one}", flush=True)
        for n in args.workers:
            row = in_new_process(write_on_cluster, request, folder / f"{n}.parquet", workers=n)
            row["start_cpu_seconds"] = in_new_process(start_only, request, None, workers=n)["cpu_seconds"]
            row["same_bytes"] = (folder / f"{n}.parquet").read_bytes() == (folder / "0.parquet").read_bytes()
            row["overhead"] = row["cpu_seconds"] / one["cpu_seconds"] - 1
            row["speedup"] = one["seconds"] / row["seconds"]
            rows.append(row)
            print(row, flush=True)
    return {"stations": n_stations, "n_blocks": len(blocks), "one_process": one, "clusters": rows}, blocks


def simulate(city: dict, blocks: list[float], n_days: int) -> dict:
    "Seconds of cities of 10,000 and a million stations on 1 to 64 workers."
    one, last = city["one_process"], city["clusters"][-1]
    merge, start = one["cpu_seconds"] - sum(blocks), max(row["start_cpu_seconds"] for row in city["clusters"])
    costs = last["cpu_seconds"] - last["start_cpu_seconds"] - one["cpu_seconds"]
    dispatch = max(costs, 0) / len(group_parts(range(len(blocks)), last["workers"]))
    rows = []
    for stations in (10_000, 1_000_000):
        larger = np.resize(blocks, -(-stations * n_days // generate.BLOCK_SIZE))
        merging = merge * len(larger) / len(blocks)
        alone = larger.sum() + merging
        for n in (1, 2, 4, 8, 16, 32, 64):
            tasks = [larger[list(group)].sum() for group in group_parts(range(len(larger)), n)]
            seconds = play(tasks, n, start, dispatch, merging)
            overhead = (n * start + len(tasks) * dispatch) / alone
            row = {"stations": stations, "workers": n, "seconds": seconds, "speedup": alone / seconds}
            rows.append({**row, "overhead": overhead})
    costs = {"start_seconds": start, "dispatch_seconds": dispatch, "merge_seconds": merge}
    return {"block_seconds": float(np.mean(blocks)), **costs, "simulated": rows}


def measure(args: argparse.Namespace) -> dict:
    cities, blocks = [], []
    for n_stations in args.stations:
        city, blocks = measure_city(args, n_stations)
        cities.append(city)
    about = {"run": args.run, "days": args.days, "cores": os.cpu_count(), "torch": torch.__version__}
    result = {**about, "cities": cities, **simulate(cities[-1], blocks, args.days)}
    if args.out:
        write_json(args.out, result)
    return result


def show(result: dict) -> None:
    "Fields, then both tables."
    print_fields({name: value for name, value in result.items() if not isinstance(value, list)})
    tables = [pd.DataFrame(city["clusters"]).assign(stations=city["stations"]) for city in result["cities"]]
    for table in (pd.concat(tables), pd.DataFrame(result["simulated"])):
        print(table.to_string(index=False, float_format="{:.4g}".format))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a model of the package, or the folder of a finished run")
    parser.add_argument("--stations", type=int, nargs="+", default=[10_000])
    parser.add_argument("--days", type=int, default=31)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, help="JSON file that is kept")
    run_benchmark(parser, __file__, measure, show)
