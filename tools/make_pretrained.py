"""The trained models of the package, `stouter/pretrained/`: real runs of shipped configurations, made small.

    python tools/make_pretrained.py [demo milan_28 simulated_milan]        # or: make pretrained
    python tools/make_pretrained.py --score                                # cards only, of the models that are there

A run in runs/run/NAME/seed0 is made or gone on with; a finished one is used as it is. Its weights are rounded to half
precision, and the scores of the card are those of the rounded weights: samples and metrics are made again with them.
Hourly traffic is left out; of each station the minimum and range of the training days are kept, which generation needs.
With `--score` nothing is trained: the data are read again, samples are generated with the weights of the package, and
only metrics and card are written. Scores have 90 % intervals over stations and test days (`score_intervals`).
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tqdm import tqdm

from stouter.config_file import load_config
from stouter.evaluation.calibration import coverage_terms
from stouter.evaluation.intervals import score_draws, score_intervals, station_day_sums
from stouter.evaluation.metrics import abs_error_terms
from stouter.evaluation.proper_scores import crps_terms
from stouter.evaluation.real_baselines import REAL_SAME_DAY
from stouter.files import atomic_write, file_digest, load_tensors, read_json, write_json
from stouter.pipeline.generate import generate_traffic, make_request
from stouter.pipeline.initial_weights import PRETRAINED
from stouter.pipeline.places import covered_area
from stouter.pipeline.run import RunResults, load_run, run
from stouter.pipeline.run_folder import write_manifest
from stouter.pipeline.scales import SCALES_FILE, read_scales, write_scales
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


MEAN_SCORES = {"crps": crps_terms, "mae": abs_error_terms, "coverage_80": coverage_terms}


def card_intervals(results: RunResults) -> dict[str, dict[str, list[float]]]:
    "Intervals of the mean scores of each method, and of the ratio of each CRPS to that of STOUTER."
    test, scaler = results.data.test, results.data.test_scaler
    real, station = test.cube.numpy(), test.condition.station.numpy()
    sums = {}
    for method, x in results.samples.items():
        generated = x.numpy().reshape(len(x), *real.shape)
        parts = {name: station_day_sums(real, generated, terms) for name, terms in MEAN_SCORES.items()}
        in_units = (scaler.inverse_transform(v, station) for v in (test.x.numpy(), x.numpy()))
        in_units = (v.reshape(*v.shape[:-2], *real.shape) for v in in_units)
        parts["crps_physical"] = station_day_sums(*in_units, crps_terms)
        sums |= {(method, name): part for name, part in parts.items()}
    draws = score_draws(sums)
    for method in results.samples:
        draws[method, "crps / STOUTER"] = draws[method, "crps"] / draws["STOUTER", "crps"]
    table = {method: {} for method in results.samples}
    for (method, name), ends in score_intervals(draws).items():
        table[method][name] = [float(f"{end:.4g}") for end in ends]
    return table


def make_card(name: str, folder: Path, metrics: dict, intervals: dict) -> dict:
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
        "intervals": intervals,
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
    columns = list(card["intervals"]["STOUTER"])
    lines += ["", "90 % intervals:", "", "| method | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for method, row in card["intervals"].items():
        lines.append(f"| {method} | " + " | ".join("{:.3g} to {:.3g}".format(*row[key]) for key in columns) + " |")
    lines += [
        "",
        "The intervals come from stations and test days drawn again, 2,000 times; the same draws for all methods, so "
        "that the ratio of two CRPS is known better than each of them: above 1 STOUTER is ahead. They hold for other "
        "stations and days like these, not for another seed of the training. JSD, the classifier (c2st_auc) and the "
        "distance to training days are no means over hours and have none. "
        "Explained in nbs/07_evaluation/15_intervals.ipynb.",
        "",
        "## Not for",
        "",
    ]
    return "\n".join([*lines, *(f"- {words}" for words in card["not_for"])]) + "\n"


def pack(name: str, source: Path, out: Path) -> dict:
    "Make the folder of a model from a finished run; its card."
    with tempfile.TemporaryDirectory() as temporary:
        small = Path(temporary) / name
        round_weights(source, small)
        results, config = load_run(source), load_config(name, OVERRIDES.get(name))
        run(config, results.seed, small, tqdm)  # refused if the shipped configuration is another one
        metrics, intervals = read_json(small / "metrics.json"), card_intervals(load_run(small))
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        for file in (*COPIED, *GRAPHS, "weights.safetensors", "metrics.json"):
            shutil.copyfile(small / file, out / file)
        shutil.copyfile(source / "provenance.json", out / "provenance.json")  # of the training
    write_manifest(out / "run.yaml", {"seed": results.seed, "config": config.model_dump(mode="json")})
    radius_m = station_radius_m(covered_area(results.city))
    write_scales(out / SCALES_FILE, results.city, results.data.scaler, radius_m)
    return write_card(out, make_card(name, out, metrics, intervals))


def write_card(out: Path, card: dict) -> dict:
    "Write `card.json`, with the hashes of the other files, and `MODEL_CARD.md`; the card."
    files = [path for path in sorted(out.iterdir()) if path.name not in ("card.json", "MODEL_CARD.md")]
    write_json(out / "card.json", {**card, "sha256": {path.name: file_digest(path, "sha256") for path in files}})
    (out / "MODEL_CARD.md").write_text(card_text(card), encoding="utf-8")
    return card


def score_again(name: str, out: Path) -> dict:
    "Metrics and card of a model of the package, with its weights as they are and the data read again; the card."
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name
        left_out = shutil.ignore_patterns(SCALES_FILE, "metrics.json", "costs.json", "*card.json", "MODEL_CARD.md")
        shutil.copytree(out, folder, ignore=left_out)
        config, before = load_config(name, OVERRIDES.get(name)), read_json(out / "metrics.json")
        write_manifest(folder / "run.yaml", {"seed": before["seed"], "config": config.model_dump(mode="json")})
        kept = {key: before[key] for key in ("weekday_randomization", "weekday_errors") if key in before}
        write_json(folder / "weekdays.json", kept)
        run(config, before["seed"], folder, tqdm)
        results = load_run(folder)
        scales = read_scales(config.data, out)[1]
        if not (np.array_equal(results.data.scaler.range_, scales.range_) and same_files(folder, out)):
            raise SystemExit(
                f"{name}: other data or weights than the model was trained on; make it with: make pretrained"
            )
        metrics, intervals = read_json(folder / "metrics.json"), card_intervals(results)
        shutil.copyfile(folder / "metrics.json", out / "metrics.json")
    return write_card(out, make_card(name, out, metrics, intervals))


def same_files(folder: Path, out: Path) -> bool:
    "Whether a run still has the weights and graphs of a model."
    return all((folder / file).read_bytes() == (out / file).read_bytes() for file in ("weights.safetensors", *GRAPHS))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(DATA))
    parser.add_argument("--runs", type=Path, default=Path("runs/run"), help="folder of the runs")
    parser.add_argument("--out", type=Path, default=PRETRAINED)
    parser.add_argument("--score", action="store_true", help="scores and cards only, of the models that are there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.names:
        source = options.runs / (f"{name}_pretrained" if name in OVERRIDES else name) / "seed0"
        if not (options.score or (source / "metrics.json").exists()):
            run(load_config(name, OVERRIDES.get(name)), 0, source, tqdm)
        card = score_again(name, options.out / name) if options.score else pack(name, source, options.out / name)
        size = sum(path.stat().st_size for path in (options.out / name).iterdir())
        print(f"{name}: {size / 1e6:.2f} MB, CRPS {card['scores']['STOUTER']['crps']:.4f}")
        print(json.dumps(card["first_values"]))
