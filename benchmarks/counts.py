"""Whole numbers with many zeros and a few outliers: messages of a simulated city, with and without rounding.

    OMP_NUM_THREADS=1 python benchmarks/counts.py runs/counts --json nbs/results/counts.json

The messages received an hour at the 99 stations of the demonstration city are drawn from Poisson distributions whose
means follow the simulated service SMS-In; stations have 0.3 to 30 an hour on average, and ten of them one training hour
of twenty times their largest mean, which stretches their range. Networks on scaled traffic and on deviations from mean
days, and the tuned references, are scored as generated and rounded as a run rounds them. Finished rows are not computed
again.
"""

import argparse
import platform
from pathlib import Path

import numpy as np
import torch
from references import load_data, reference_samples

from stouter.baselines.tuned_reference import TUNED_BASELINES
from stouter.config_file import load_config
from stouter.data.traffic import Traffic, save_traffic
from stouter.files import read_json, write_json
from stouter.pipeline.dataset import load_city
from stouter.pipeline.evaluate import make_evaluator
from stouter.pipeline.methods import train_method
from stouter.training.batches import make_generator

N_SAMPLES, SERVICE = 16, "sms_in"
LEAST, MOST = 0.3, 30  # mean messages an hour of the quietest and the busiest station
N_OUTLIERS, OUTLIER = 10, 20
SMALL = {"denoiser.base_channels": "16", "train.n_updates": "600"}
VARIANTS = {"traffic": SMALL, "residuals": {"preset": "residuals"}}


def make_counts(folder: Path) -> Path:
    "The table of messages, made once."
    path = folder / "messages.nc"
    if path.exists():
        return path
    fields = {"data.service": SERVICE, "data.min_coverage": "0"}
    traffic = load_city(load_config("demo", fields).data, folder / "simulated").traffic
    volume, rng = np.nan_to_num(traffic.values(SERVICE)), np.random.default_rng(0)
    level = volume.mean(1, keepdims=True)
    rank = level[:, 0].argsort().argsort() / (len(level) - 1)
    mean = (LEAST * (MOST / LEAST) ** rank)[:, None] * volume / level
    messages = rng.poisson(mean).astype(np.float32)
    for station in rng.choice(len(messages), N_OUTLIERS, replace=False):
        messages[station, rng.integers(24, 20 * 24)] = np.rint(OUTLIER * mean[station].max())
    stations = traffic.stations.join(traffic.counts)
    labels = traffic.hours, (SERVICE,), traffic.timezone, "messages"
    save_traffic(Traffic.from_array(messages[..., None], stations, *labels), path)
    return path


def score_job(method: str, seed: int, folder: Path) -> list[dict]:
    "Two rows: samples as they are generated, and rounded."
    source = {"data.source": f"{{kind: netcdf, traffic: {make_counts(folder)}}}", "data.service": SERVICE}
    sizes = {"evaluation.n_samples": str(N_SAMPLES)}
    config = load_config("demo", source | sizes | VARIANTS.get(method, {}))
    place = folder / method.replace(" ", "_") / f"seed{seed}"
    place.mkdir(parents=True, exist_ok=True)
    city, data = load_data(config, seed, place / "city")
    if method in VARIANTS:
        network = train_method(config, data, seed, place)
        x = network.sample(data.test.condition, N_SAMPLES, make_generator(seed, 30)).numpy()
    else:
        x = reference_samples(method, data, seed)[0][:N_SAMPLES]
    station, evaluator = data.test.condition.station.numpy(), make_evaluator(config, city, data, seed)
    samples = {"as generated": x, "rounded": data.test_scaler.round_scaled(x, station)}
    row = {"method": method, "seed": seed}
    if data.known.condition.profile is not None:
        row["scale"] = data.known.condition.profile.scale
    return [{**row, "samples": name, **evaluator.row(days)} for name, days in samples.items()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in options.seeds:
        for method in (*VARIANTS, *TUNED_BASELINES):
            stored = read_json(options.json, {}) or {"rows": []}
            if (method, seed) in [(row["method"], row["seed"]) for row in stored["rows"]]:
                continue
            rows = score_job(method, seed, options.folder)
            machine = {"processor": platform.machine(), "torch": torch.__version__, "threads": 1}
            write_json(options.json, {"machine": machine, "samples": N_SAMPLES, "rows": [*stored["rows"], *rows]})
            for row in rows:
                shown = ("crps", "coverage_80", "jsd_pooled", "c2st_auc", "zero_share_error")
                print(method, seed, row["samples"], {name: round(row[name], 4) for name in shown}, flush=True)


if __name__ == "__main__":
    main()
