"""Pools of methods: does a mixture of networks and references beat the best of them?

    OMP_NUM_THREADS=1 python benchmarks/pools.py runs/pools --json nbs/results/pools.json

For each city, on the last week of the training days (held out) and on the test days: `-p preset residuals` with three
seeds, the two tuned references, and pools that take an equal share of their samples from each member: the three
networks, and networks and references of the same seed. Each has 30 samples. Samples that are there are not drawn
again; the networks are trained as in benchmarks/residuals.py.
"""

import argparse
import platform
from pathlib import Path

import numpy as np
import torch
from references import load_data, reference_samples
from residuals import CITIES, HELD_OUT, TEST, make_config

from stouter.baselines.tuned_reference import TUNED_BASELINES
from stouter.evaluation.calibration import interval_coverage
from stouter.evaluation.marginals import jsd_pooled
from stouter.evaluation.proper_scores import crps, energy_score
from stouter.files import write_json
from stouter.pipeline.methods import train_method
from stouter.training.batches import make_generator

NETWORK, SEEDS = "residuals, stations alike", (0, 1, 2)
N_DRAWN, N_SAMPLES = 32, 30  # the second is a multiple of two and three
BOOTSTRAP, GAUSSIAN = TUNED_BASELINES
POOLS = {  # of one seed
    "network, bootstrap": (NETWORK, BOOTSTRAP),
    "bootstrap, Gaussian": (BOOTSTRAP, GAUSSIAN),
    "network, bootstrap, Gaussian": (NETWORK, BOOTSTRAP, GAUSSIAN),
}


def draw(city: str, days: str, seed: int, folder: Path) -> dict[str, np.ndarray]:
    "Samples of the members and the real days; drawn if they are not there."
    place = folder / city / days.replace(" ", "_") / f"seed{seed}"
    path = place / "samples.npz"
    if not path.exists():
        config = make_config(city, NETWORK, days, folder / city)
        data = load_data(config, seed, place.parent / "city")[1]
        (place / "network").mkdir(parents=True, exist_ok=True)
        network = train_method(config, data, seed, place / "network")
        x = {NETWORK: network.sample(data.test.condition, N_DRAWN, make_generator(seed, 30)).numpy()}
        x |= {name: reference_samples(name, data, seed)[0][:N_DRAWN] for name in TUNED_BASELINES}
        part = path.with_suffix(".part.npz")
        np.savez(part, real=data.test.x.numpy(), **x)
        part.replace(path)
    return {name: x if name == "real" else x[:N_SAMPLES] for name, x in np.load(path).items()}


def pool(members: list[np.ndarray]) -> np.ndarray:
    "An equal share of N_SAMPLES from each."
    n = N_SAMPLES // len(members)
    return np.concatenate([x[k * n : (k + 1) * n] for k, x in enumerate(members)])


def score_city(city: str, days: str, folder: Path) -> list[dict]:
    "A row for each method, pool and seed."
    drawn = [draw(city, days, seed, folder) for seed in SEEDS]
    real, samples = drawn[0]["real"], {("three networks", None): pool([x[NETWORK] for x in drawn])}
    for seed, x in zip(SEEDS, drawn):
        samples |= {(name, seed): x[name] for name in (NETWORK, *TUNED_BASELINES)}
        samples |= {(name, seed): pool([x[member] for member in members]) for name, members in POOLS.items()}
    scores = {"crps": crps, "energy_score": energy_score, "coverage_80": interval_coverage, "jsd_pooled": jsd_pooled}
    return [
        {"city": city, "days": days, "method": name, "seed": seed, **{k: f(real, x) for k, f in scores.items()}}
        for (name, seed), x in samples.items()
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--cities", nargs="*", default=list(CITIES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for city in options.cities:
        for days in (HELD_OUT, TEST):
            rows += score_city(city, days, options.folder)
            machine = {"processor": platform.machine(), "torch": torch.__version__, "threads": 1}
            write_json(options.json, {"machine": machine, "samples": N_SAMPLES, "rows": rows})
            print(
                city,
                days,
                {row["method"]: round(row["crps"], 4) for row in rows if (row["city"], row["days"]) == (city, days)},
                flush=True,
            )


if __name__ == "__main__":
    main()
