"""What is known of a place that was never seen? Finished runs of new_stations and new_city, beside a run in the same city that saw the judged stations.

    for s in 0 1 2; do for w in 64 0; do
        stouter run shandong_transfer --seed $s --out runs/unseen/parts_$w/seed$s -p train.n_updates 800 -p denoiser.n_fourier_features $w
        stouter run nanjing --seed $s --out runs/unseen/blocks_$w/seed$s -p train.n_updates 800 -p denoiser.n_fourier_features $w -p data.protocol new_stations
    done; stouter run shandong --seed $s --out runs/unseen/all_of_shandong/seed$s -p train.n_updates 800 -p data.source.patch_ids "[$(seq -s, 0 32)]"; done
    stouter run nanjing --seed 0 --out runs/unseen/all_of_nanjing/seed0 -p train.n_updates 800
    OMP_NUM_THREADS=1 python benchmarks/unseen.py runs/unseen/{parts,blocks}_*/seed* --saw runs/unseen/all_*/seed* --json nbs/results/unseen.json

The run that saw them, with the same seed if there is one, is asked for the same days of the same stations, and its real traffic must be the same numbers.
"""

import argparse
import json
import platform
from pathlib import Path

import numpy as np
import torch

from stouter.config import DataConfig
from stouter.evaluation.metrics import score
from stouter.files import write_json
from stouter.pipeline.run import Experiment, open_run

METRICS = ("crps", "energy_score", "jsd_pooled", "coverage_80")


def file_of(data: DataConfig) -> str:
    "Name of the file that the traffic comes from."
    return Path(
        getattr(data.source, {"cdr": "records", "netcdf": "traffic"}.get(data.source.kind, data.source.kind))
    ).name


def of_judged(saw: Experiment, unseen: Experiment) -> dict[str, dict[str, float]]:
    "Metrics of the run that saw the stations that the other one was judged by."
    judged = unseen.judged.traffic.stations.index[unseen.test_rows]
    keep = torch.from_numpy(np.isin(saw.traffic.stations.index[saw.samples[1].condition.station], judged))
    real = saw.samples[1].x[keep]
    torch.testing.assert_close(real, unseen.samples[1].x, equal_nan=True)
    return {name: score(real.numpy(), saw.drawn[name][:, keep].numpy()) for name in ("STOUTER", "bootstrap")}


def rows_of(unseen: Experiment, saw: Experiment | None) -> list[dict]:
    "Methods x metrics of one run and of the one beside it."
    data, label = unseen.config.data, json.loads((unseen.folder / "metrics.json").read_text())
    waves = unseen.config.denoiser.n_fourier_features
    table = {
        (f"STOUTER, {waves} sines" if name == "STOUTER" else name): values for name, values in label["methods"].items()
    }
    if saw is not None:
        table |= {f"{name}, saw the stations": values for name, values in of_judged(saw, unseen).items()}
    head = {
        "data": unseen.config.name,
        "protocol": data.protocol,
        "stations": label["stations"],
        "seed": unseen.seed,
        "sines": waves,
        "updates": unseen.config.train.n_updates,
    }
    head |= {name: label[name] for name in ("T", "sampler", "n_samples")}
    quality = {f"scale_r2_{name}": round(value, 4) for name, value in unseen.guess[1].items()}
    return [
        {**head, **quality, "method": name, **{m: round(values[m], 5) for m in METRICS}}
        for name, values in table.items()
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs of new_stations or new_city")
    parser.add_argument(
        "--saw",
        nargs="*",
        type=Path,
        default=[],
        help="folders of finished runs of new_days that saw all stations of the same files",
    )
    parser.add_argument("--json", type=Path, required=True, help="where the rows go")
    given = parser.parse_args()
    saw = [open_run(folder) for folder in given.saw]
    rows = []
    for run in map(open_run, given.runs):
        same = [other for other in saw if file_of(other.config.data) == file_of(run.config.data)]
        rows += (new := rows_of(run, min(same, key=lambda other: abs(other.seed - run.seed), default=None)))
        print(run.folder, *(f"{row['method']}: CRPS {row['crps']}" for row in new), sep="\n  ", flush=True)
    write_json(given.json, {"machine": f"{platform.machine()}, cpu", "torch": torch.__version__, "rows": rows})
