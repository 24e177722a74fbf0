"""Compare settings of training: train on some training days of a finished run, evaluate on its other training days.

    OMP_NUM_THREADS=1 python benchmarks/recipes.py RUN_DIR "method=vae train.lr=0.004" \\
        "train.weekday_randomization=0.5" --days 3 8 13 --out nbs/results/recipes.json

A recipe is a list of fields that differ from the run's configuration. The test days are never read. Scales and
embeddings are those of the run, so they depend on the held-out days too; they are the same for all recipes. A recipe
that is in the file is not trained again. There is one seed: a difference below one per cent is within noise.
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
from stouter.pipeline.methods import build_method, make_training_args
from stouter.pipeline.provenance import isolated_seed
from stouter.pipeline.run import RunResults, load_run
from stouter.training.batches import make_generator

PRINTED = ("crps", "jsd_pooled", "coverage_80", "cpu_seconds")


def split_days(dataset: TrafficDataset, held_out: list[int]) -> tuple[TrafficDataset, TrafficDataset]:
    "Samples of the other days, and complete samples of the held-out days."
    n_days = dataset.cube.shape[1]
    is_held_out = torch.isin(torch.arange(n_days), torch.tensor(held_out)).repeat(dataset.n_stations)
    train = TrafficDataset(dataset.x[~is_held_out], dataset.condition[~is_held_out])
    return train, TrafficDataset(dataset.x[is_held_out], dataset.condition[is_held_out]).drop_incomplete()


def apply_recipe(config: ExperimentConfig, recipe: str) -> ExperimentConfig:
    "The configuration with the fields of a recipe such as 'train.lr=0.004 method=vae'."
    tree = config.model_dump(mode="json")
    for field in recipe.split():
        key, value = field.split("=", 1)
        tree = set_by_path(tree, key, yaml.safe_load(value))
    return ExperimentConfig(**tree)


def measure(run: RunResults, recipe: str, held_out: list[int], n_samples: int) -> dict:
    "Train one recipe and evaluate it."
    config = apply_recipe(run.config, recipe)
    train, test = split_days(run.data.known, held_out)
    with isolated_seed(run.seed, 20):
        method = build_method(config, run.embeddings.station_table.shape[1], run.embeddings.hour_table.shape[1])
    training_args = make_training_args(config.train, run.data.train)
    start_time = time.process_time()
    method.fit(train, training_args, run.seed)
    seconds = time.process_time() - start_time
    method.network.eval()
    real = test.x.numpy()
    generated = method.sample(test.condition, n_samples, make_generator(run.seed, 60)).numpy()
    return {
        "method": config.method,
        "updates": config.train.n_updates,
        "weekday_randomization": training_args.weekday_randomization,
        "lr": config.train.lr,
        "n_fourier_features": config.denoiser.n_fourier_features,
        "crps": crps(real, generated),
        "jsd_pooled": jsd_pooled(real, generated),
        "coverage_80": interval_coverage(real, generated, 0.8),
        "cpu_seconds": round(seconds),
        "parameters": sum(p.numel() for p in method.network.parameters()),
        "held_days": held_out,
        "periods": len(test),
        "samples": n_samples,
        "sampler": f"{config.diffusion.sampler}-{config.diffusion.n_sampling_steps}",
    }


def main() -> None:
    "Train and evaluate the recipes that are not in the file yet."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("recipes", nargs="+", help='such as "train.weekday_randomization=0.5 train.n_updates=1000"')
    parser.add_argument("--days", nargs="+", type=int, required=True, help="held-out training days, 0 is the first")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True, help="JSON file; recipes that it holds are not repeated")
    args = parser.parse_args()
    table = json.loads(args.out.read_text()) if args.out.exists() else {}
    run = load_run(args.run)
    torch.set_num_threads(1)
    rows = table.setdefault(f"{run.config.name}/seed{run.seed}/days {' '.join(map(str, args.days))}", {})
    for recipe in args.recipes:
        if recipe not in rows:
            rows[recipe] = measure(run, recipe, args.days, args.samples)
            write_json(args.out, table)
            print(recipe, {name: round(rows[recipe][name], 5) for name in PRINTED}, flush=True)


if __name__ == "__main__":
    main()
