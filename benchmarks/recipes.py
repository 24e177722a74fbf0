"""Which recipe? Trained on some training days of a finished run, judged on its other training days; the test days are never read.

    OMP_NUM_THREADS=1 python benchmarks/recipes.py RUN_DIR "method=vae train.lr=0.004" "train.weekday_randomization=0.5" --days 3 8 13 --out nbs/results/recipes.json

Each recipe is a list of fields that differ from the run's configuration. Scales and embeddings are the run's own, so they have seen the days that are
asked for; they are the same for all recipes. A recipe that stands in the file is not trained again. One seed: a difference below one per cent says nothing.
"""

import argparse
import json
import time
from pathlib import Path

import torch
import yaml

from stouter.config import ExperimentConfig
from stouter.config_file import set_by_path
from stouter.data.dataset import TrafficDataset
from stouter.evaluation.calibration import interval_coverage
from stouter.evaluation.metrics import crps, jsd_pooled
from stouter.files import write_json
from stouter.pipeline.methods import build_method
from stouter.pipeline.provenance import isolated_seed
from stouter.pipeline.run import Experiment, open_run
from stouter.training.batches import make_generator
from stouter.training.state import TrainingArguments


def split_days(samples: TrafficDataset, n_days: int, held: list[int]) -> tuple[TrafficDataset, TrafficDataset]:
    "Samples of the other days and of the held-out days; rows are station-major."
    out = torch.isin(torch.arange(len(samples)) % n_days, torch.tensor(held))
    return tuple(TrafficDataset(samples.x[m], samples.condition[m]) for m in (~out, out))


def measure(experiment: Experiment, changes: dict, held: list[int], n_samples: int) -> dict:
    tree = experiment.config.model_dump(mode="json")
    for key, value in changes.items():
        tree = set_by_path(tree, key, value)
    config = ExperimentConfig(**tree)
    train, asked = split_days(experiment.samples[0], experiment.periods[0].values.shape[1], held)
    asked = asked.drop_incomplete()
    with isolated_seed(experiment.seed, 20):
        generator = build_method(config, *(table.shape[1] for table in experiment.tables))
    started = time.process_time()
    generator.fit(train, TrainingArguments(**config.train.model_dump()), experiment.seed)
    spent = time.process_time() - started
    generator.network.eval()
    drawn, real = (
        generator.sample(asked.condition, n_samples, make_generator(experiment.seed, 60)).numpy(),
        asked.x.numpy(),
    )
    parameters = sum(p.numel() for p in generator.network.parameters())
    return {
        "method": config.method,
        "updates": config.train.n_updates,
        "weekday_randomization": config.train.weekday_randomization,
        "lr": config.train.lr,
        "n_fourier_features": config.denoiser.n_fourier_features,
        "crps": crps(real, drawn),
        "jsd_pooled": jsd_pooled(real, drawn),
        "coverage_80": interval_coverage(real, drawn, 0.8),
        "cpu_seconds": round(spent),
        "parameters": parameters,
        "held_days": held,
        "periods": len(asked),
        "samples": n_samples,
        "sampler": f"{config.diffusion.sampler}-{config.diffusion.n_sampling_steps}",
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument(
        "recipes", nargs="+", help='fields that differ, such as "train.weekday_randomization=0.5 train.n_updates=1000"'
    )
    parser.add_argument(
        "--days", nargs="+", type=int, required=True, help="training days that are asked for, 0 is the first"
    )
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True, help="JSON file; recipes that it holds are kept")
    a = parser.parse_args()
    table = json.loads(a.out.read_text()) if a.out.exists() else {}
    experiment = open_run(a.run)
    torch.set_num_threads(1)
    rows = table.setdefault(f"{experiment.config.name}/seed{experiment.seed}/days {' '.join(map(str, a.days))}", {})
    for recipe in a.recipes:
        if recipe not in rows:
            rows[recipe] = measure(
                experiment,
                {k: yaml.safe_load(v) for k, v in (field.split("=", 1) for field in recipe.split())},
                a.days,
                a.samples,
            )
            write_json(a.out, table)
            print(
                recipe,
                {
                    k: v if isinstance(v, int) else round(v, 5)
                    for k, v in rows[recipe].items()
                    if k in ("crps", "jsd_pooled", "coverage_80", "cpu_seconds")
                },
                flush=True,
            )
