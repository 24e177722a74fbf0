"""Write the tables of finished studies to nbs/results/.

    python tools/keep_study.py [--add] RUNS STUDY ...

writes STUDY.csv, STUDY.budget.json and, where the methods differ, STUDY.curves.csv (losses, in 50 means). All data sets
that have runs below RUNS/STUDY are included, those of the study first. With --add the stored rows of runs that are not
there stay, so that a variant is added without making the others again.
"""

import argparse
import json
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


def with_stored(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    "The rows of a stored table, those of the same runs replaced."
    run = ["dataset", "variant", "seed"]
    stored = pd.read_csv(path, dtype={"value": str})
    is_replaced = pd.MultiIndex.from_frame(stored[run]).isin(pd.MultiIndex.from_frame(table[run]))
    return pd.concat([stored[~is_replaced], table], ignore_index=True)


def with_stored_settings(settings: pd.DataFrame, path: Path, trials: list, table: pd.DataFrame) -> pd.DataFrame:
    "Settings of the stored runs and of the new ones, the smallest and the largest; a run without a row is missing."
    kept = set(table[["dataset", "variant", "seed"]].itertuples(index=False, name=None))
    merged = pd.read_json(path, orient="index", dtype=False)
    for dataset, row in settings.iterrows():
        if dataset in merged.index:
            for column in row.index.drop(["seeds", "runs_missing"]):
                ends = {*merged.loc[dataset, column].split(" to "), *str(row[column]).split(" to ")}
                ends = sorted(ends, key=lambda end: (len(end), end))  # numbers by size
                row[column] = ends[0] if len(ends) == 1 else f"{ends[0]} to {ends[-1]}"
            row["runs_missing"] = sum(trial.dataset == dataset and trial[:3] not in kept for trial in trials)
        merged.loc[dataset] = row
    return merged


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("runs", type=Path)
parser.add_argument("studies", nargs="+")
parser.add_argument("--add", action="store_true", help="keep the stored rows of runs that are not below RUNS")
options = parser.parse_args()
for name in options.studies:
    study = load_study(name)
    trials = trials_of(name, options.runs / study.uses_runs_of)
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
    table = table.assign(value=table.value.map("{:.5g}".format))
    settings = settings_table(trials)
    files = {end: RESULTS / f"{name}.{end}" for end in ("csv", "curves.csv", "budget.json")}
    if options.add:
        table = with_stored(table, files["csv"])
        settings = with_stored_settings(settings, files["budget.json"], trials, table)
    table.to_csv(files["csv"], index=False)
    if len({trial.config.method for trial in trials}) > 1:
        curves = pd.concat(map(curve, finished_trials(trials)))
        curves = with_stored(curves, files["curves.csv"]) if options.add else curves
        curves.to_csv(files["curves.csv"], index=False)
    settings.to_json(files["budget.json"], orient="index", indent=1)
    print(f"{name}: {len(table)} values -> {RESULTS / name}.csv")
