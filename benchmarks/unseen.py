"""Metrics of finished runs of new_stations and new_city, beside a run that was trained on the evaluated stations.

    for s in 0 1 2; do
        for w in 64 0; do
            stouter run shandong_transfer --seed $s --out runs/unseen/parts_$w/seed$s \\
                -p train.n_updates 800 -p denoiser.n_fourier_features $w
            stouter run nanjing --seed $s --out runs/unseen/blocks_$w/seed$s \\
                -p train.n_updates 800 -p denoiser.n_fourier_features $w -p data.protocol new_stations
        done
        stouter run shandong --seed $s --out runs/unseen/all_of_shandong/seed$s \\
            -p train.n_updates 800 -p data.source.patch_ids "[$(seq -s, 0 32)]"
    done
    stouter run nanjing --seed 0 --out runs/unseen/all_of_nanjing/seed0 -p train.n_updates 800
    OMP_NUM_THREADS=1 python benchmarks/unseen.py runs/unseen/{parts,blocks}_*/seed* \\
        --seen runs/unseen/all_*/seed* --json nbs/results/unseen.json

The run that was trained on all stations, with the same seed if there is one, is evaluated on the same days of the same
stations; its real traffic must be the same numbers.
"""

import argparse
import platform
from pathlib import Path

import numpy as np
import torch

from stouter.config import DataConfig
from stouter.evaluation.metrics import score
from stouter.files import read_json, write_json
from stouter.pipeline.evaluate import predict_scale
from stouter.pipeline.run import RunResults, load_run

METRICS = ("crps", "energy_score", "jsd_pooled", "coverage_80")


def traffic_file(data: DataConfig) -> str:
    "Name of the file that the traffic comes from; the kind of a source without a file."
    field = {"cdr": "records", "netcdf": "traffic"}.get(data.source.kind, data.source.kind)
    return Path(getattr(data.source, field, field)).name


def seen_rows(seen: RunResults, unseen: RunResults) -> dict[str, dict[str, float]]:
    "Metrics, on the stations of `unseen`, of the run that was trained on them; method -> metric -> value."
    evaluated = unseen.city.evaluated.traffic.stations.index[unseen.data.test_rows]
    station = seen.city.traffic.stations.index[seen.data.test.condition.station]
    keep = torch.from_numpy(np.isin(station, evaluated))
    real, samples = seen.data.test.x[keep], seen.samples
    torch.testing.assert_close(real, unseen.data.test.x, equal_nan=True)
    return {name: score(real.numpy(), samples[name][:, keep].numpy()) for name in ("STOUTER", "bootstrap")}


def run_rows(unseen: RunResults, seen: RunResults | None) -> list[dict]:
    "Rows of one run and of the run that was trained on its test stations."
    config, metadata = unseen.config, read_json(unseen.folder / "metrics.json")
    n_features = config.denoiser.n_fourier_features
    metrics = metadata["methods"]
    table = {(f"STOUTER, {n_features} sines" if name == "STOUTER" else name): row for name, row in metrics.items()}
    if seen is not None:
        table |= {f"{name}, saw the stations": row for name, row in seen_rows(seen, unseen).items()}
    label = {
        "data": config.name,
        "protocol": config.data.protocol,
        "stations": metadata["stations"],
        "seed": unseen.seed,
        "sines": n_features,
        "updates": config.train.n_updates,
        **{name: metadata[name] for name in ("T", "sampler", "n_samples")},
    }
    _, quality = predict_scale(config, unseen.city, unseen.embeddings, unseen.data, unseen.seed)
    label |= {f"scale_r2_{name}": round(value, 4) for name, value in quality.items()}
    return [{**label, "method": name, **{m: round(row[m], 5) for m in METRICS}} for name, row in table.items()]


def main() -> None:
    "Write the rows of all runs."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs of new_stations or new_city")
    help_seen = "folders of finished runs of new_days that were trained on all stations of the same files"
    parser.add_argument("--seen", nargs="*", type=Path, default=[], help=help_seen)
    parser.add_argument("--json", type=Path, required=True, help="file that the rows are written to")
    args = parser.parse_args()
    all_seen = [load_run(folder) for folder in args.seen]
    rows = []
    for folder in args.runs:
        run = load_run(folder)
        same_file = [seen for seen in all_seen if traffic_file(seen.config.data) == traffic_file(run.config.data)]
        nearest_seed = sorted(same_file, key=lambda seen: abs(seen.seed - run.seed))[:1]
        new = run_rows(run, *(nearest_seed or [None]))
        rows += new
        print(run.folder, *(f"{row['method']}: CRPS {row['crps']}" for row in new), sep="\n  ", flush=True)
    write_json(args.json, {"machine": f"{platform.machine()}, cpu", "torch": torch.__version__, "rows": rows})


if __name__ == "__main__":
    main()
