"""The trained models of the package, `stouter/pretrained/`: real runs of shipped configurations, made small.

    python tools/make_pretrained.py [demo milan_28 simulated_milan]        # or: make pretrained

A run in runs/run/NAME/seed0 is made or gone on with; a finished one is used as it is. Its weights are rounded to half
precision, and the scores of the card are those of the rounded weights: samples and metrics are made again with them.
Hourly traffic is left out; of each station the minimum and range of the training days are kept, which generation needs.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from tqdm import tqdm

from stouter.config_file import load_config
from stouter.evaluation.real_baselines import REAL_SAME_DAY
from stouter.files import atomic_write, file_digest, load_tensors, read_json, write_json
from stouter.pipeline.generate import generate_traffic, make_request
from stouter.pipeline.initial_weights import PRETRAINED
from stouter.pipeline.places import covered_area
from stouter.pipeline.run import load_run, run
from stouter.pipeline.run_folder import write_manifest
from stouter.pipeline.scales import SCALES_FILE, write_scales
from stouter.pipeline.sites import station_radius_m

SIMULATED = {
    "source": "the package's own simulated city (`stouter.simulate_city`); no measured traffic",
    "licence": "that of the package, Apache-2.0; no terms of any data apply",
    "attribution": "none needed",
    "not_for": [
        "statements about a real city, its people or its network",
        "scores that are compared with those of methods trained on measured traffic",
    ],
}
MEASURED = {
    "source": "Telecom Italia, Milan, internet activity of 28 squares of 235 m, aggregated by square and slot of ten "
    "minutes (doi:10.7910/DVN/EGZHFV); grid doi:10.7910/DVN/QJWLFU; squares are described by their position",
    "licence": "Open Database Licence (ODbL 1.0): name the source, share databases made from it under the same licence",
    "attribution": "Contains information from Telecom Italia's Open Big Data, made available under the ODbL.",
    "not_for": [
        "statements about single people: the data are sums over squares, and the model knows no people",
        "other years, holidays or events: the model knows hour and weekday only",
        "other parts of Milan or other cities without a check: it was trained on 28 of 10,000 squares",
        "capacity decisions without measured traffic beside it: its 80 % bands do not hold exactly 80 %",
    ],
}
DATA = {"demo": SIMULATED, "milan_28": MEASURED, "simulated_milan": SIMULATED}
OVERRIDES = {  # the counts of places that milan_28 reads have no licence, so the model of the package does without them
    "milan_28": {"data.source.counts": "null", "graph.station_features": "position"}
}
COPIED = ("selection.json", "stations.parquet", "history.parquet", "costs.json")
GRAPHS = ("graph_time.safetensors", "graph_space.safetensors")
SCORES = ("crps", "mae", "jsd_pooled", "coverage_80", "c2st_auc", "nn_distance_ratio", "crps_physical")


def round_weights(source: Path, folder: Path) -> None:
    "A copy of a finished run with weights in half precision, without samples and metrics."
    shutil.copytree(
        source, folder, ignore=shutil.ignore_patterns("city", "ingested", "checkpoint.pt", "figures", ".lock")
    )
    weights = {name: tensor.half() for name, tensor in load_tensors(source / "weights.safetensors").items()}
    with atomic_write(folder / "weights.safetensors") as part:
        save_file(weights, part)
    for name in ("samples.safetensors", "metrics.json", "metrics.parquet", "costs.json"):
        (folder / name).unlink(missing_ok=True)


def first_values(folder: Path) -> dict:
    "Six hours of two stations, which a test generates again."
    results = load_run(folder)
    traffic = results.city.traffic
    day, stations = str(traffic.hours[-1].date()), traffic.stations.index[:2].tolist()
    request = make_request(results.model, day, day, 1, 0, stations)
    values = generate_traffic(request).values(traffic.services[0])[0, :, :6]
    return {"day": day, "seed": 0, "stations": stations, "values": values.astype(float).round(4).tolist()}


def make_card(name: str, folder: Path, metrics: dict) -> dict:
    "What a user has to know of a model."
    results = load_run(folder)
    traffic, config = results.city.traffic, results.config
    provenance = read_json(folder / "provenance.json")
    return {
        "name": name,
        **DATA[name],
        "service": config.data.service,
        "unit": traffic.unit,
        "stations": len(traffic.stations),
        "days": f"{traffic.hours[0].date()} to {traffic.hours[-1].date()}",
        "test_days": f"the last {config.data.n_test_periods}, not trained on",
        "timezone": traffic.timezone,
        "configuration": " ".join(
            [f"{name}.yaml", *(f"-p {key} {value}" for key, value in OVERRIDES.get(name, {}).items())]
        ),
        "seed": results.seed,
        "updates": len(results.history),
        "parameters": sum(p.numel() for p in results.method.network.parameters()),
        "precision": "weights rounded to half precision; the scores are those of the rounded weights",
        "code": provenance["commit"],
        "packages": provenance["packages"],
        "sampler": f"{metrics['sampler']}, T = {metrics['T']}, {metrics['n_samples']} samples, one seed",
        "scores": {
            method: {key: row[key] for key in SCORES if key in row}
            for method, row in metrics["methods"].items()
            if method != REAL_SAME_DAY
        },
        "first_values": first_values(folder),
    }


def card_text(card: dict) -> str:
    "The card as Markdown."
    lines = [f"# Model card: {card['name']}", "", f"`stouter.load_pretrained({card['name']!r})`", "", "## Model", ""]
    for key in ("configuration", "seed", "updates", "parameters", "precision", "sampler", "code"):
        lines.append(f"- {key}: {card[key]}")
    lines += ["", "## Data", ""]
    for key in ("source", "licence", "attribution", "service", "unit", "stations", "days", "test_days", "timezone"):
        lines.append(f"- {key.replace('_', ' ')}: {card[key]}")
    lines.append("- kept of the traffic: minimum and range of each station in the training days; no hourly values")
    columns = list(next(iter(card["scores"].values())))
    lines += ["", "## Scores on the test days", "", "| method | " + " | ".join(columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for method, row in card["scores"].items():
        lines.append(f"| {method} | " + " | ".join(f"{row[key]:.3g}" if key in row else "" for key in columns) + " |")
    lines += ["", "One seed; differences of one or two per cent between methods mean nothing.", "", "## Not for", ""]
    return "\n".join([*lines, *(f"- {words}" for words in card["not_for"])]) + "\n"


def pack(name: str, source: Path, out: Path) -> dict:
    "Make the folder of a model from a finished run; its card."
    with tempfile.TemporaryDirectory() as temporary:
        small = Path(temporary) / name
        round_weights(source, small)
        results, config = load_run(source), load_config(name, OVERRIDES.get(name))
        run(config, results.seed, small, tqdm)  # refused if the shipped configuration is another one
        metrics = read_json(small / "metrics.json")
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        for file in (*COPIED, *GRAPHS, "weights.safetensors", "metrics.json"):
            shutil.copyfile(small / file, out / file)
        shutil.copyfile(source / "provenance.json", out / "provenance.json")  # of the training
    write_manifest(out / "run.yaml", {"seed": results.seed, "config": config.model_dump(mode="json")})
    radius_m = station_radius_m(covered_area(results.city))
    write_scales(out / SCALES_FILE, results.city, results.data.scaler, radius_m)
    card = make_card(name, out, metrics)
    digests = {path.name: file_digest(path, "sha256") for path in sorted(out.iterdir())}
    write_json(out / "card.json", {**card, "sha256": digests})
    (out / "MODEL_CARD.md").write_text(card_text(card), encoding="utf-8")
    return card


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(DATA))
    parser.add_argument("--runs", type=Path, default=Path("runs/run"), help="folder of the runs")
    parser.add_argument("--out", type=Path, default=PRETRAINED)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.names:
        source = options.runs / (f"{name}_pretrained" if name in OVERRIDES else name) / "seed0"
        if not (source / "metrics.json").exists():
            run(load_config(name, OVERRIDES.get(name)), 0, source, tqdm)
        card = pack(name, source, options.out / name)
        size = sum(path.stat().st_size for path in (options.out / name).iterdir())
        print(f"{name}: {size / 1e6:.2f} MB, CRPS {card['scores']['STOUTER']['crps']:.4f}")
        print(json.dumps(card["first_values"]))
