"""References that are tuned on training days, and what was tried to make the network better than them.

    OMP_NUM_THREADS=1 python benchmarks/references.py runs/references --json nbs/results/references.json

For each city: every reference method (three seeds), networks with a reduced number of updates (one seed unless --seeds
says otherwise), and four changes that are chosen on a held-out week of the training days and scored on the test days:
the spread of the samples about their median for each hour, residuals around a partially pooled profile, known days in
the place of the station's identity, and a mixture of the samples with those of the smoothed bootstrap. A choice is made
with a network that was trained without the last week of the training days, on that week. Finished networks and rows
are not computed again.
"""

import argparse
import platform
import time
from pathlib import Path

import numpy as np
import torch

from stouter.baselines.quantile_boosting import SLOW_BASELINES
from stouter.baselines.reference import CALENDAR_BASELINES
from stouter.baselines.tuned_reference import TUNED_BASELINES, SmoothedBootstrap
from stouter.config import ExperimentConfig
from stouter.config_file import load_config
from stouter.evaluation.calibration import interval_coverage
from stouter.evaluation.metrics import score
from stouter.evaluation.proper_scores import crps
from stouter.evaluation.real_baselines import REAL_OTHER_DAY
from stouter.files import read_json, write_json
from stouter.pipeline.dataset import City, Datasets, cut_periods, load_city, make_datasets, pretrain_graphs
from stouter.pipeline.evaluate import BASELINES, Evaluator, make_evaluator
from stouter.pipeline.methods import Method, train_method
from stouter.training.batches import make_generator

N_SAMPLES = 32
UPDATES = {"demo": 750, "milan_28": 500, "nanjing": 600}  # a half, a half and 15 % of the configurations'
ONE_STEP = {"train.lr": "0.004"}
VARIANTS = {  # name -> fields, multiple of UPDATES
    "STOUTER": ({}, 1.0),
    "engression": ({"method": "engression", **ONE_STEP}, 1.5),
    "residual": ({"data.residuals": "true"}, 1.0),
    "known": ({"data.known_days": "true"}, 1.0),
    "VAE": ({"method": "vae", **ONE_STEP}, 1.5),
}
APART = "smoothed bootstrap, day types apart"  # the chosen one with weekends and working days in pools of their own
REFERENCES = (*CALENDAR_BASELINES, *TUNED_BASELINES, *SLOW_BASELINES, APART, REAL_OTHER_DAY)
CHANGES = ("known", "residual")  # of STOUTER; asked on the test days only if they pay on the held-out week
KEPT = ("crps", "energy_score", "coverage_80", "jsd_pooled", "c2st_auc", "nn_distance_ratio", "mae")
FACTORS = np.round(np.arange(0.6, 2.01, 0.1), 2)  # of the spread
SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)  # of samples of the network in a mixture


def fold_config(city: str, variant: str, is_test: bool, folder: Path) -> ExperimentConfig:
    "Configuration of a network: all training days and the test days, or the training days with the last week held out."
    fields, multiple = VARIANTS[variant]
    fields = fields | {"train.n_updates": str(int(multiple * UPDATES[city]))}
    if not is_test:
        config = load_config(city)
        train, _, _ = cut_periods(load_city(config.data, folder / "city").traffic, config.data)
        fields |= {
            "data.last_day": str(train.days[-1].date()),
            "data.n_test_periods": str(min(7, len(train.days) // 2)),
        }
    return load_config(city, fields)


def load_data(config: ExperimentConfig, seed: int, place: Path) -> tuple[City, Datasets]:
    "Traffic, embeddings and data sets of a configuration; read where they were made."
    (place / f"seed{seed}").mkdir(parents=True, exist_ok=True)
    city = load_city(config.data, place)
    embeddings = pretrain_graphs(config.graph, city, seed, place / f"seed{seed}")
    return city, make_datasets(config.data, city, embeddings, seed)


def network_samples(city: str, variant: str, seed: int, is_test: bool, folder: Path) -> tuple[np.ndarray, Datasets]:
    "Samples (S, B, L) of a network for the test days or the held-out week; trained if it is not there."
    config = fold_config(city, variant, is_test, folder / city)
    _, data = load_data(config, seed, folder / city / ("city" if is_test else "cityfolds"))
    place = folder / city / variant / f"seed{seed}" / ("blocktest" if is_test else "block0")
    place.mkdir(parents=True, exist_ok=True)
    method: Method = train_method(config, data, seed, place)
    return method.sample(data.test.condition, N_SAMPLES, make_generator(seed, 30)).numpy(), data


def reference_samples(name: str, data: Datasets, seed: int) -> tuple[np.ndarray, dict]:
    "Samples of a reference method, and the settings that it chose."
    known = data.known.drop_incomplete()
    if name == APART:
        chosen = BASELINES["smoothed bootstrap"]().fit(known).settings
        method = SmoothedBootstrap(chosen | {"other_kind": 0.0}).fit(known)
        name = "smoothed bootstrap"
    else:
        method = BASELINES[name]().fit(known)
    generator = make_generator(seed, 31 + list(BASELINES).index(name))
    settings = {key: str(value) for key, value in (getattr(method, "settings", None) or {}).items()}
    return method.sample(data.test.condition, N_SAMPLES, generator).numpy(), settings


def spread_about_median(x: np.ndarray, factor: np.ndarray) -> np.ndarray:
    "Samples (S, B, L) with the distance from their median multiplied by a factor for each hour (L,)."
    median = np.median(x, axis=0)
    return np.maximum(median + factor * (x - median), 0)


def choose_spread(real: np.ndarray, x: np.ndarray) -> np.ndarray:
    "Factor of each hour with the least CRPS on a held-out week, smoothed over three hours."
    losses = [
        [crps(real[:, h : h + 1], spread_about_median(x, np.full(x.shape[2], f))[..., h : h + 1]) for f in FACTORS]
        for h in range(x.shape[2])
    ]
    best = FACTORS[np.argmin(losses, axis=1)]
    return (np.roll(best, 1) + best + np.roll(best, -1)) / 3


def mix(network: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    "A share of the samples of the network, the rest of another method."
    n = round(share * len(network))
    return np.concatenate([network[:n], other[n:]])


def score_row(evaluator: Evaluator, x: np.ndarray) -> dict[str, float]:
    "The metrics that are kept."
    row = evaluator.row(x.astype(np.float32))
    return {name: row[name] for name in KEPT if name in row}


def score_reference(city: str, name: str, seed: int, folder: Path) -> dict:
    "A row of a reference method or of real days; realism is measured for the first seed."
    config = load_config(city, {"evaluation.n_samples": str(N_SAMPLES)})
    place, data = load_data(config, seed, folder / city / "city")
    evaluator = make_evaluator(config, place, data, seed)
    if name == REAL_OTHER_DAY:
        row = evaluator.real_rows(data.history)[name]
        return {key: row[key] for key in KEPT if key in row}
    start = time.process_time()
    x, settings = reference_samples(name, data, seed)
    row = {"settings": settings, "cpu_seconds": round(time.process_time() - start, 1)}
    if seed > 0:
        scores = score(data.test.x.numpy(), x)
        return row | {key: scores[key] for key in KEPT if key in scores}
    return row | score_row(evaluator, x)


def score_network(city: str, variant: str, seed: int, folder: Path, limit: float) -> list[dict]:
    "Scores on the held-out week, and on the test days unless a change does not pay on that week (CRPS above `limit`)."
    config = load_config(city, {"evaluation.n_samples": str(N_SAMPLES)})
    held, fold = network_samples(city, variant, seed, False, folder)
    real = fold.test.x.numpy()
    row = {"method": variant, "updates": int(VARIANTS[variant][1] * UPDATES[city])}
    row |= {"held_out_crps": crps(real, held), "held_out_coverage_80": interval_coverage(real, held)}
    if variant in CHANGES and row["held_out_crps"] >= limit:
        return [row]
    place, _ = load_data(config, seed, folder / city / "city")
    x, data = network_samples(city, variant, seed, True, folder)
    evaluator = make_evaluator(config, place, data, seed)
    rows = [row | score_row(evaluator, x)]
    if variant == "STOUTER":
        rows += score_changes(evaluator, x, data, held, fold, seed)
    return rows


def score_changes(
    evaluator: Evaluator, x: np.ndarray, data: Datasets, held: np.ndarray, fold: Datasets, seed: int
) -> list[dict]:
    "Changes of the samples that need no training, chosen on the held-out week and scored on the test days."
    real, rows = fold.test.x.numpy(), []
    factor = choose_spread(real, held)
    row = score_row(evaluator, spread_about_median(x, factor))
    loss = crps(real, spread_about_median(held, factor))
    rows.append({"method": "STOUTER, spread", "factor": factor.round(3).tolist(), "held_out_crps": loss, **row})
    for name in TUNED_BASELINES:
        other, _ = reference_samples(name, fold, seed)
        losses = [crps(real, mix(held, other, share)) for share in SHARES]
        share = SHARES[int(np.argmin(losses))]
        row = score_row(evaluator, mix(x, reference_samples(name, data, seed)[0], share))
        rows.append({"method": f"STOUTER and {name}", "share": share, "held_out": losses, **row})
        rows[-1]["held_out_crps"] = min(losses)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--cities", nargs="*", default=list(UPDATES))
    parser.add_argument("--methods", nargs="*", default=[*REFERENCES, *VARIANTS])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="of references; of networks the first")
    options = parser.parse_args()
    torch.set_num_threads(1)
    machine = {"processor": platform.machine(), "torch": torch.__version__, "threads": 1}
    references = [name for name in options.methods if name in REFERENCES]
    jobs = [(city, name, seed) for city in options.cities for name in references for seed in options.seeds]
    networks = [name for name in options.methods if name in VARIANTS]
    jobs += [(city, variant, options.seeds[0]) for variant in networks for city in options.cities]
    for city, name, seed in jobs:
        stored = read_json(options.json, {}) or {"rows": []}
        done = {(row["city"], row["method"], row["seed"]): row for row in stored["rows"]}
        if (city, name, seed) in done:
            continue
        if name in REFERENCES:
            rows = [{"method": name, **score_reference(city, name, seed, options.folder)}]
        else:
            limit = done.get((city, "STOUTER", seed), {}).get("held_out_crps", float("inf"))
            rows = score_network(city, name, seed, options.folder, limit)
        stored = read_json(options.json, {}) or {"rows": []}
        stored |= {"machine": machine, "samples": N_SAMPLES, "updates": UPDATES}
        stored["rows"] += [{"city": city, "seed": seed, **row} for row in rows]
        write_json(options.json, stored)
        for row in rows:
            print(city, {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)


if __name__ == "__main__":
    main()
