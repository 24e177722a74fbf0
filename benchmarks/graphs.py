"""How fast the graph of base stations is built, in how much memory, and what an epoch of its pretraining costs.

Graphs: random stations at a constant density, each size in a process of its own, so that the peak belongs to it; `per n log n` is
the processor time divided by n log n, relative to the smallest size. The same process then pretrains GCN for one epoch, in pieces if the graph is large. Epochs: every encoder on a grid of Milan's size (10,000 squares, 577,776
edges), median of several; `edge list` is the same epoch with PyTorch Geometric's own networks. Ratios are within one run.

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
from kept import finish

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
    done = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    done["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    cpu = time.process_time()
    pretrain(graph, ENCODERS["gcn"], n_epochs=1)  # one step for each piece, and the held-out mask
    done |= {
        "epoch_cpu_seconds": time.process_time() - cpu,
        "epoch_peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    return {"stations": n_stations, **describe_graph(graph), **done, "pieces": -(-graph.num_edges // MAX_EDGES)}


def grow(sizes: list[int], degree: float) -> list[dict]:
    "The sizes one after the other, each in its own process."
    rows = []
    for size in sizes:
        words = [sys.executable, "-W", "ignore", __file__, "--build", str(size), "--degree", str(degree)]
        rows.append(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout))
    cost = [row["cpu_seconds"] / (row["stations"] * math.log(row["stations"])) for row in rows]
    return [{**row, "per_n_log_n": c / cost[0]} for row, c in zip(rows, cost)]


def theirs() -> dict:
    "The same four networks on PyTorch Geometric's own arithmetic."
    import torch_geometric.nn as pyg

    return {"gin": pyg.GIN, "gcn": pyg.GCN, "gat": pyg.GAT, "sage": pyg.GraphSAGE}


def epoch_of(kind: type, graph, repeats: int) -> float:
    "Median seconds of an epoch: mask, forward, backward, step."
    torch.manual_seed(0)
    model = GraphMAE(kind(graph.num_features, 64, 2, 32), kind(32, 64, 1, graph.num_features), graph.num_features, 32)
    optimizer, whole = (
        torch.optim.Adam(model.parameters()),
        Subgraph(torch.arange(graph.num_nodes), graph.edge_index, graph.num_nodes),
    )
    seconds = []
    for _ in range(repeats + 1):  # the first one sorts the edges
        start = time.perf_counter()
        run_epoch(model, [apply_mask(graph, sample_mask(graph.num_nodes, 0.5), whole)], optimizer)
        seconds.append(time.perf_counter() - start)
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
            "ms": 1000 * epoch_of(kind, graph, repeats),
            "edge_list_ms": 1000 * epoch_of(theirs()[name], graph, 2),
        }
        for name, kind in ENCODERS.items()
    ]
    gin = next(row["ms"] for row in rows if row["encoder"] == "gin")
    return [{**row, "of_gin": row["ms"] / gin, "of_edge_list": row["ms"] / row["edge_list_ms"]} for row in rows]


def measure(words: argparse.Namespace) -> dict:
    if words.build:
        print(json.dumps(build(words.build, words.degree)))
        sys.exit()
    graphs = grow(words.sizes, words.degree)
    if words.dense:
        graphs += [
            {**row, "per_n_log_n": None} for row in grow(words.sizes[-1:], words.dense)
        ]  # another density, another curve
    return {
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "graphs": graphs,
        "epochs": epochs(words.repeats),
    }


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
        "pieces": "pieces",
        "epoch_cpu_seconds": "pretraining, one epoch and embedding, CPU s",
        "epoch_peak_gib": "its peak GiB",
    }
    whole = {"stations", "directed_edges", "isolated", "pieces"}
    table = pd.DataFrame(
        [
            {names[k]: "" if row[k] is None else f"{row[k]:,}" if k in whole else f"{row[k]:.2f}" for k in names}
            for row in result["graphs"]
        ]
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
    print(
        "\n"
        + pd.DataFrame(result["epochs"])[list(names)].rename(columns=names).to_markdown(index=False, floatfmt=",.2f")
    )


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
    finish(parser, __file__, measure, show)
