"""Speed and memory of building the base station graph, and cost of an epoch of its pretraining.

Graphs: random stations at a constant density, each size in its own process, so that the peak memory is its own;
`per n log n` is the CPU time divided by n log n, relative to the smallest size. The same process then pretrains GCN for
one epoch, on subgraphs if the graph is large. Epochs: every encoder on a grid of Milan's size (10,000 squares, 577,776
edges), median of several; `edge list` is the same epoch with the networks of PyTorch Geometric. Ratios are within one
run.

    OMP_NUM_THREADS=1 python benchmarks/graphs.py
    OMP_NUM_THREADS=1 python benchmarks/graphs.py --sizes 10000 100000 [--json | --write]
"""

import argparse
import json
import math
import platform
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import torch
from reporting import run_benchmark

from stouter.graphs.encoders import ENCODERS
from stouter.graphs.graphmae import MAX_EDGES, GraphMAE, Subgraph, apply_mask, pretrain, run_epoch, sample_mask
from stouter.graphs.spatial import base_station_graph, describe_graph


def build(n_stations: int, degree: float) -> dict:
    "A graph of random stations in central Europe, with counts of eight categories."
    side = math.sqrt(n_stations * math.pi / degree)  # km, so that a circle of 1 km holds `degree` stations
    rng = np.random.default_rng(0)
    lat = 46 + (rng.uniform(size=n_stations) - 0.5) * side / 111.2
    lon = 9 + (rng.uniform(size=n_stations) - 0.5) * side / 111.2 / np.cos(np.radians(lat))
    stations, counts = pd.DataFrame({"lon": lon, "lat": lat}), pd.DataFrame(rng.poisson(2, (n_stations, 8)))
    wall, cpu = time.perf_counter(), time.process_time()
    graph = base_station_graph(stations, counts)
    costs = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    costs["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    cpu = time.process_time()
    pretrain(graph, ENCODERS["gcn"], n_epochs=1)  # one update for each subgraph, and the validation mask
    costs |= {
        "epoch_cpu_seconds": time.process_time() - cpu,
        "epoch_peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    subgraphs = -(-graph.num_edges // MAX_EDGES)
    return {"stations": n_stations, **describe_graph(graph), **costs, "subgraphs": subgraphs}


def build_sizes(sizes: list[int], degree: float) -> list[dict]:
    "One size after the other, each in its own process."
    rows = []
    for size in sizes:
        command = [sys.executable, "-W", "ignore", __file__, "--build", str(size), "--degree", str(degree)]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    costs = [row["cpu_seconds"] / (row["stations"] * math.log(row["stations"])) for row in rows]
    return [{**row, "per_n_log_n": cost / costs[0]} for row, cost in zip(rows, costs)]


def edge_list_encoders() -> dict:
    "The same four networks of PyTorch Geometric."
    import torch_geometric.nn as pyg

    return {"gin": pyg.GIN, "gcn": pyg.GCN, "gat": pyg.GAT, "sage": pyg.GraphSAGE}


def epoch_seconds(encoder: type, graph, repeats: int) -> float:
    "Median seconds of an epoch: mask, forward, backward, optimizer."
    torch.manual_seed(0)
    n_features = graph.num_features
    model = GraphMAE(encoder(n_features, 64, 2, 32), encoder(32, 64, 1, n_features), n_features, 32)
    optimizer = torch.optim.Adam(model.parameters())
    whole = Subgraph(torch.arange(graph.num_nodes), graph.edge_index, graph.num_nodes)
    seconds = []
    for _ in range(repeats + 1):  # the first one sorts the edges
        start_time = time.perf_counter()
        run_epoch(model, [apply_mask(graph, sample_mask(graph.num_nodes, 0.5), whole)], optimizer)
        seconds.append(time.perf_counter() - start_time)
    return statistics.median(seconds[1:])


def epochs(repeats: int) -> list[dict]:
    "Every encoder on a grid of Milan's size."
    column, row = np.meshgrid(np.arange(100), np.arange(100))
    stations = pd.DataFrame({"lon": column.ravel() * 0.00211, "lat": row.ravel() * 0.00211})
    graph = base_station_graph(stations, pd.DataFrame(np.random.default_rng(0).poisson(2, (10_000, 4))))
    assert graph.num_edges == 577_776
    rows = [
        {
            "encoder": name,
            "ms": 1000 * epoch_seconds(encoder, graph, repeats),
            "edge_list_ms": 1000 * epoch_seconds(edge_list_encoders()[name], graph, 2),
        }
        for name, encoder in ENCODERS.items()
    ]
    gin = next(row["ms"] for row in rows if row["encoder"] == "gin")
    return [{**row, "of_gin": row["ms"] / gin, "of_edge_list": row["ms"] / row["edge_list_ms"]} for row in rows]


def measure(args: argparse.Namespace) -> dict:
    if args.build:
        print(json.dumps(build(args.build, args.degree)))
        sys.exit()
    graphs = build_sizes(args.sizes, args.degree)
    if args.dense:  # another density, which `per n log n` of the others does not apply to
        graphs += [{**row, "per_n_log_n": None} for row in build_sizes(args.sizes[-1:], args.dense)]
    return {
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "graphs": graphs,
        "epochs": epochs(args.repeats),
    }


def format_cell(value: float | None, is_integer: bool) -> str:
    "A number as text; nothing for None."
    if value is None:
        return ""
    return f"{value:,}" if is_integer else f"{value:.2f}"


def show(result: dict) -> None:
    names = {
        "stations": "stations",
        "directed_edges": "directed edges",
        "mean_degree": "mean degree",
        "isolated": "isolated",
        "seconds": "s",
        "cpu_seconds": "CPU s",
        "peak_gib": "peak GiB",
        "per_n_log_n": "per n log n",
        "subgraphs": "subgraphs",
        "epoch_cpu_seconds": "pretraining, one epoch and embedding, CPU s",
        "epoch_peak_gib": "its peak GiB",
    }
    integers = {"stations", "directed_edges", "isolated", "subgraphs"}
    table = pd.DataFrame(
        [{title: format_cell(row[key], key in integers) for key, title in names.items()} for row in result["graphs"]]
    )
    print(f"{result['threads']} thread(s), {result['machine']}, torch {result['torch']}\n")
    print(table.to_markdown(index=False, disable_numparse=True, colalign=["right"] * len(names)))
    names = {
        "encoder": "encoder",
        "ms": "ms per epoch",
        "edge_list_ms": "edge list, ms",
        "of_gin": "of GIN",
        "of_edge_list": "of edge list",
    }
    table = pd.DataFrame(result["epochs"])[list(names)].rename(columns=names)
    print("\n" + table.to_markdown(index=False, floatfmt=",.2f"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--degree", type=float, default=10.0, help="mean number of neighbours")
    parser.add_argument(
        "--dense",
        type=float,
        default=57.8,
        help="mean number of neighbours of one more graph of the largest size, as dense as Milan's; 0: none",
    )
    parser.add_argument("--repeats", type=int, default=7, help="epochs measured")
    parser.add_argument("--build", type=int, help=argparse.SUPPRESS)
    run_benchmark(parser, __file__, measure, show)
