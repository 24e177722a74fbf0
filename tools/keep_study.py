"""Write the tables of finished studies to nbs/results/.

    python tools/keep_study.py RUNS STUDY ...

writes STUDY.csv, STUDY.budget.json and, where the methods differ, STUDY.curves.csv (losses, in 50 means). All data sets
that have runs below RUNS/STUDY are included, those of the study first.
"""

import json
import sys
from pathlib import Path

import pandas as pd

from stouter.pipeline.studies import expand_study, load_study
from stouter.pipeline.sweep import collect_metrics, finished_trials, settings_table

RESULTS = Path(__file__).parents[1] / "nbs/results"


def curve(trial) -> pd.DataFrame:
    "Losses of one training in 50 means; of a GAN the estimate of the Wasserstein distance instead of its loss."
    history = pd.read_parquet(trial.folder / "history.parquet")
    name = "wasserstein_estimate" if "wasserstein_estimate" in history else "loss"
    means = history.groupby(pd.cut(history["update"], 50, labels=False))[["update", name]].mean()
    return pd.DataFrame(
        {
            "dataset": trial.dataset,
            "variant": trial.variant,
            "seed": trial.seed,
            "what": name,
            "update": means["update"].round(),
            "value": means[name].map("{:.5g}".format),
        }
    )


def trials_of(name: str, root: Path) -> list:
    "All trials of a study on the data sets that have runs; the name of a simulated city begins with `simulated_`."
    own = load_study(name).datasets
    found = sorted(
        {path.parents[2].name for path in root.glob("*/*/seed*/metrics.json")}, key=lambda d: (d not in own, d)
    )
    return [
        trial
        for d in found
        for trial in expand_study(name, root, [d.removeprefix("simulated_")], simulated=d.startswith("simulated_"))
    ]


for name in sys.argv[2:]:
    study = load_study(name)
    trials = trials_of(name, Path(sys.argv[1]) / study.uses_runs_of)
    table = collect_metrics(trials)
    table = table[
        table.is_trained | (table.variant == study.baseline)
    ]  # references are the same in every run of a seed
    costs = [
        {
            "dataset": c.dataset,
            "variant": c.variant,
            "seed": c.seed,
            "method": c.variant,
            "is_trained": True,
            "metric": metric,
            "value": value,
        }
        for c in finished_trials(trials)
        for metric, value in json.loads((c.folder / "costs.json").read_text()).items()
    ]
    table = pd.concat([table, pd.DataFrame(costs)], ignore_index=True)
    table.assign(value=table.value.map("{:.5g}".format)).to_csv(RESULTS / f"{name}.csv", index=False)
    if len({trial.config.method for trial in trials}) > 1:
        pd.concat(map(curve, finished_trials(trials))).to_csv(RESULTS / f"{name}.curves.csv", index=False)
    settings_table(trials).to_json(RESULTS / f"{name}.budget.json", orient="index", indent=1)
    print(f"{name}: {len(table)} values -> {RESULTS / name}.csv")
