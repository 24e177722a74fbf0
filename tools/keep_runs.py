"""Keep the scores of finished runs in one small table: python tools/keep_runs.py TABLE.csv RUN_DIR ... ; each row knows its protocol, sines and length of training."""
import json
import sys
from pathlib import Path

import pandas as pd
import yaml

METRICS = ["crps", "energy", "jsd_pooled", "crps_physical"]

rows = []
for folder in map(Path, sys.argv[2:]):
    config = yaml.safe_load((folder / "run.yaml").read_text())["config"]
    told = json.loads((folder / "metrics.json").read_text())
    label = {"dataset": told["dataset"], "protocol": told["protocol"], "place_waves": config["denoiser"]["place_waves"], "updates": config["train"]["n_updates"],
             "stations": told["stations"], "sampler": told["sampler"], "seed": told["seed"]}
    scores = [(method, metric, table.get(metric)) for method, table in told["methods"].items() for metric in METRICS]
    scales = [(method, "scale_log_r2", value) for method, value in told.get("scale_log_r2", {}).items()]
    rows += [{**label, "method": method, "metric": metric, "value": value} for method, metric, value in scores + scales]
table = pd.DataFrame(rows).dropna(subset="value")
table.assign(value=table.value.map("{:.5g}".format)).to_csv(sys.argv[1], index=False)
print(f"{len(table)} values -> {sys.argv[1]}")
