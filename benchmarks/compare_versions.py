"""Speed of two checkouts of the repository: training, sampling, ingest and generation.

    OMP_NUM_THREADS=1 python benchmarks/compare_versions.py OLD_CHECKOUT NEW_CHECKOUT --run RUN_DIR [--rounds 5]
        [--json | --write]

Each round measures the old checkout and then the new one, each in its own process with the checkout first on the path;
`ratio` is the seconds of the old checkout over those of the new one in the same round, so above 1 the new one is
faster. The clock is CPU time of all threads, which other load on the machine changes less than wall time; the spread
over rounds shows how much it still does. RUN_DIR is a finished run of `demo`, of either version; a copy of it is read.

- training: updates of the network of `demo` on random samples, in batches of 128;
- sampling: one batch of 128 station-days with the sampler of `demo`;
- ingest: the records of a simulated city of 100 stations and 28 days;
- generation: ten days of every station of the run, from the request to the parquet file.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path

import pandas as pd
from reporting import run_benchmark

UNITS = {
    "training": "updates/s",
    "sampling": "station-days/s",
    "ingest": "records/s",
    "generation": "station-days/s",
}
BATCH, N_UPDATES, N_DAYS = 128, 15, 10


def best_rate(function, n: int, repeats: int) -> float:
    "The best of several rates: n things in one call, per second of CPU time; a first call is not timed."
    seconds = []
    for _ in range(repeats + 1):
        start_time = time.process_time()
        function()
        seconds.append(time.process_time() - start_time)
    return n / min(seconds[1:])


def network_rates() -> dict[str, float]:
    "Updates and station-days per second of the method of `demo`, untrained."
    import torch

    from stouter.config_file import load_config
    from stouter.data.dataset import Condition, TrafficDataset
    from stouter.pipeline.methods import build_method
    from stouter.training.batches import make_generator
    from stouter.training.state import TrainingArguments

    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = load_config("demo")
    dim, n = config.graph.embedding_dim, 16 * BATCH
    week = torch.arange(168).reshape(7, 24).repeat(n // 7 + 1, 1)[:n]
    condition = Condition(torch.arange(n) % 100, week, torch.randn(100, dim), torch.randn(168, dim))
    data, method = TrafficDataset(torch.rand(n, 24), condition), build_method(config, dim, dim)
    settings = {"n_updates": N_UPDATES, "batch_size": BATCH, "weekday_randomization": 1.0}
    known = {field.name for field in fields(TrainingArguments)}  # the other fields of the section are of the run
    given = {name: value for name, value in config.train.model_dump().items() if name in known}
    training_args = TrainingArguments(**{**given, **settings})
    training = best_rate(lambda: method.fit(data, training_args, 0), N_UPDATES, 2)
    sampling = best_rate(lambda: method.sample(condition[:BATCH], 1, make_generator(0, 1)), BATCH, 20)
    return {"training": training, "sampling": sampling}


def ingest_rate(city: Path) -> float:
    "Records per second."
    from stouter.data.cdr import ingest_cdr
    from stouter.data.stations import read_station_geometry

    files, stations = sorted((city / "records").iterdir()), read_station_geometry(city / "grid.geojson")
    n_records = sum(file.read_bytes().count(b"\n") for file in files)
    return best_rate(lambda: ingest_cdr(files, stations), n_records, 2)


def generation_rate(run_folder: Path) -> float:
    "Station-days per second, written to a new file each time."
    first, last = pd.Timestamp("2016-01-04"), pd.Timestamp("2016-01-04") + pd.Timedelta(days=N_DAYS - 1)
    try:
        from stouter.pipeline.generate import make_request, write_traffic
        from stouter.pipeline.run import load_run

        run = load_run(run_folder)
        n_stations = len(run.city.traffic.stations)

        def generate(out):
            write_traffic(make_request(run.model, first, last, 1, 0, None), out)
    except ImportError:  # before the pipeline was rewritten
        from stouter.pipeline.generate import generate as generate_file
        from stouter.pipeline.run import open_run

        experiment = open_run(run_folder)
        n_stations = len(experiment.traffic.stations)

        def generate(out):
            generate_file(experiment, first, last, 1, out)

    def generate_new_file():
        with tempfile.TemporaryDirectory() as folder:
            generate(Path(folder) / "table.parquet")

    return best_rate(generate_new_file, n_stations * N_DAYS, 2)


def measure_checkout(checkout: Path, city: Path, run_folder: Path) -> dict[str, float]:
    "Rates of one checkout, measured in a new process."
    command = [sys.executable, "-W", "ignore", __file__, str(checkout), str(checkout), "--run", str(run_folder)]
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "--child", str(city)], capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def print_child_rates(args: argparse.Namespace) -> None:
    "What `measure_checkout` reads."
    import stouter

    if Path(stouter.__file__).parents[1].resolve() != args.new.resolve():
        raise RuntimeError(f"imported stouter from {stouter.__file__}, not from {args.new}")
    rates = {**network_rates(), "ingest": ingest_rate(args.child), "generation": generation_rate(args.run)}
    print(json.dumps(rates))


def measure(args: argparse.Namespace) -> dict:
    if args.child:
        print_child_rates(args)
        sys.exit()
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        city, run_folder = Path(folder) / "city", Path(folder) / "run"
        shutil.copytree(args.run, run_folder)
        write_city = "import sys; from stouter.data.simulated_city import simulate_city; simulate_city(sys.argv[1])"
        environment = {**os.environ, "PYTHONPATH": str(args.old.resolve())}
        subprocess.run([sys.executable, "-c", write_city, str(city)], check=True, env=environment)
        for number in range(args.rounds):
            rounds.append({name: measure_checkout(getattr(args, name), city, run_folder) for name in ("old", "new")})
            print(f"round {number + 1}", rounds[-1], file=sys.stderr, flush=True)
    table = {}
    for task, unit in UNITS.items():
        ratios = [one["new"][task] / one["old"][task] for one in rounds]
        rates = {name: statistics.median(one[name][task] for one in rounds) for name in ("old", "new")}
        spread = {"ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}
        table[task] = {"unit": unit, **rates, **spread}
    return {"rounds": args.rounds, "cores": os.cpu_count(), "tasks": table}


def show(result: dict) -> None:
    print(f"{result['rounds']} rounds, {result['cores']} cores; medians over rounds, rates per second of CPU time")
    print(f"{'':12} {'old':>10} {'new':>10} {'':14} {'ratio':>6}  (smallest to largest)")
    for task, row in result["tasks"].items():
        rates = f"{row['old']:10.4g} {row['new']:10.4g} {row['unit']:14}"
        print(f"{task:12} {rates} {row['ratio']:6.3f}  ({row['ratio_min']:.3f} to {row['ratio_max']:.3f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="folder of a checkout")
    parser.add_argument("new", type=Path, help="folder of another one")
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run of `demo`")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    run_benchmark(parser, __file__, measure, show)
