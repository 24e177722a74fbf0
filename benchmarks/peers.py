"""Our networks beside generators of other packages: quality against CPU seconds of training and of sampling.

    OMP_NUM_THREADS=1 python benchmarks/peers.py --json nbs/results/peers.json

Same training days, test days and scales, 16 samples of every station and test day, the same scores, one thread. Each
method trains for the same CPU seconds; those of ours include the pretraining of its graphs. Points without training
stand beside them: what one would try first. Finished rows are not computed again; a peer whose package is missing is
left out with a message.

The peers need packages that the project does not install, in an environment of their own:

    python -m venv build/peers && build/peers/bin/pip install -c constraints.txt -e .
    build/peers/bin/pip install denoising-diffusion-pytorch sdv "gluonts[torch]"  # takes pandas 2, as we may
    build/peers/bin/pip install --no-deps gretel-synthetics && build/peers/bin/pip install category_encoders  # DGAN

gretel-synthetics asks for older versions of sdv and pandas than the others; its DGAN runs without them.
"""

import argparse
import os
import platform
import time
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from peer_models import DGAN, PAR, DeepAR, Unet1D

from stouter.config_file import load_config
from stouter.files import read_json, write_json
from stouter.pipeline.dataset import City, Datasets, load_city, make_datasets, pretrain_graphs
from stouter.pipeline.evaluate import BASELINES, Evaluator, make_evaluator
from stouter.pipeline.methods import train_method
from stouter.training.batches import make_generator

CITIES = ("milan_28", "demo")
N_SAMPLES = 16
COMMON = {"train.weekday_randomization": 1.0, "evaluation.n_samples": N_SAMPLES}
OURS = {"STOUTER": {}, "STOUTER, deviations": {"preset": "residuals"}}  # name -> fields
PEERS = {
    "Unet1D": partial(Unet1D, False),
    "Unet1D, conditional": partial(Unet1D, True),
    "DeepAR": DeepAR,
    "DGAN": DGAN,
    "PAR": PAR,
}
REFERENCES = ("bootstrap", "Gaussian", "smoothed bootstrap", "hierarchical Gaussian")
METRICS = ("crps", "energy_score", "jsd_pooled", "coverage_80", "c2st_auc", "nn_distance_ratio")


@cache
def load(name: str, seed: int) -> tuple[City, Datasets, Evaluator]:
    "Traffic, data sets and evaluator of a city, the same for every method."
    config = load_config(name, COMMON)
    with TemporaryDirectory() as folder:
        city = load_city(config.data, Path(folder))
        embeddings = pretrain_graphs(config.graph, city, seed, Path(folder))
    data = make_datasets(config.data, city, embeddings, seed)
    return city, data, make_evaluator(config, city, data, seed)


def run_ours(name: str, method: str, seconds: float, seed: int, folder: Path) -> tuple[np.ndarray, dict]:
    "Samples and costs of our network: the number of updates that fills the seconds, by the time of the first ones."
    fields, (city, _, _) = COMMON | OURS[method], load(name, seed)
    config = load_config(name, fields)
    start_time = time.process_time()
    embeddings = pretrain_graphs(config.graph, city, seed, folder)
    data, spent = make_datasets(config.data, city, embeddings, seed), [time.process_time() - start_time]
    for n_updates in (3, 23, None):
        if n_updates is None:
            rate = (spent[2] - spent[1]) / 20
            n_updates = max(20, int((seconds - spent[0] - spent[1]) / rate))
        config = load_config(name, fields | {"train.n_updates": n_updates})
        place = folder / str(n_updates)
        place.mkdir()
        start_time = time.process_time()
        trained = train_method(config, data, seed, place)
        spent.append(time.process_time() - start_time)
    start_time = time.process_time()
    x = trained.sample(data.test.condition, N_SAMPLES, make_generator(seed, 30)).numpy()
    costs = {"training_seconds": spent[0] + spent[3], "sampling_seconds": time.process_time() - start_time}
    n_parameters = sum(p.numel() for p in trained.network.parameters())
    return x, costs | {"graph_seconds": spent[0], "updates": n_updates, "parameters": n_parameters}


def run_peer(name: str, method: str, seconds: float, seed: int, folder: Path) -> tuple[np.ndarray, dict]:
    "Samples and costs of a peer."
    _, data, _ = load(name, seed)
    peer = PEERS[method]()
    costs = peer.fit(data, seconds, seed, folder)
    start_time = time.process_time()
    x, facts = peer.sample(data, N_SAMPLES, seed)
    return x, costs | {"sampling_seconds": time.process_time() - start_time} | facts  # PAR measures its own sampler


def run_reference(name: str, method: str, seconds: float, seed: int, folder: Path) -> tuple[np.ndarray, dict]:
    "Samples and costs of a method without training; it has no use for seconds."
    _, data, _ = load(name, seed)
    start_time = time.process_time()
    fitted = BASELINES[method]().fit(data.known.drop_incomplete())
    fit_seconds, start_time = time.process_time() - start_time, time.process_time()
    generator = make_generator(seed, 31 + list(BASELINES).index(method))
    x = fitted.sample(data.test.condition, N_SAMPLES, generator).numpy()
    return x, {"training_seconds": fit_seconds, "sampling_seconds": time.process_time() - start_time}


def installed(packages: tuple[str, ...]) -> dict[str, str] | None:
    "Versions of packages; None if one is missing."
    try:
        return {package: version(package) for package in packages}
    except PackageNotFoundError as error:
        print(f"left out, not installed: {error.name}", flush=True)


def plan(options: argparse.Namespace) -> list[tuple]:
    "Jobs: city, method, seconds of training (0 without training), seed; the first seed and the shortest come first."
    seeds = {
        seconds: options.seeds if seconds == min(options.seconds) else options.seeds[:1] for seconds in options.seconds
    }
    jobs = [(city, name, 0, seed) for seed in options.seeds for city in options.cities for name in REFERENCES]
    jobs += [
        (city, name, seconds, seed)
        for k in range(len(options.seeds))
        for city in options.cities
        for seconds in sorted(options.seconds)
        for seed in seeds[seconds][k : k + 1]
        for name in (*OURS, *PEERS)
    ]
    return [job for job in jobs if not options.methods or job[1] in options.methods]


def score_job(name: str, method: str, seconds: float, seed: int) -> dict:
    "One row: costs and scores."
    run = run_reference if method in BASELINES else run_ours if method in OURS else run_peer
    with TemporaryDirectory() as folder:
        x, costs = run(name, method, seconds, seed, Path(folder))
    _, _, evaluator = load(name, seed)
    scores = evaluator.row(x.astype(np.float32))
    row = {"city": name, "method": method, "budget": seconds, "seed": seed}
    return row | costs | {metric: scores[metric] for metric in METRICS if metric in scores}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--cities", nargs="+", default=list(CITIES))
    parser.add_argument("--methods", nargs="*", help="some of them; all if not given")
    parser.add_argument("--seconds", nargs="+", type=int, default=[60, 240], help="of training")
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the shortest training; others: the first"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    machine = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": 1,
        "python": platform.python_version(),
    }
    packages = installed(("torch", "numpy", "pandas")) or {}
    for job in plan(options):
        stored = read_json(options.json, {}) or {"rows": []}
        if job in [(row["city"], row["method"], row["budget"], row["seed"]) for row in stored["rows"]]:
            continue
        if job[1] in PEERS:
            found = installed(getattr(PEERS[job[1]], "func", PEERS[job[1]]).packages)
            if not found:
                continue
            packages |= found
        row = score_job(*job)
        stored = read_json(options.json, {}) or {"rows": []}
        packages = stored.get("packages", {}) | packages
        stored |= {"machine": machine, "packages": packages, "samples": N_SAMPLES, "rows": [*stored["rows"], row]}
        write_json(options.json, stored)
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)


if __name__ == "__main__":
    main()
