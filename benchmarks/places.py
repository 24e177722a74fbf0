"""Places without a past: forest pool, features of places as condition, scale with bands, on blocks that were held out.

    OMP_NUM_THREADS=1 python benchmarks/places.py runs/places --json nbs/results/places.json

*Shandong*: whole patches in five folds, five days to learn and two to be evaluated, 32 samples; with the 33 different
patches, and with all 45, of which twelve are copies of others. *Nanjing*: five draws of blocks, seeds 0 to 4.
*Milan*: the totals of two months in 10,000 squares, blocks of 2.35 km in five folds. A row that the file has is not
computed again, so an interrupted call goes on; --parts chooses what is computed, and absent data are left out.
"""

import argparse
import platform
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stouter.baselines.reference import Bootstrap
from stouter.config import ExperimentConfig
from stouter.config_file import load_config
from stouter.data.dataset import StationScaler, TrafficDataset
from stouter.data.splits import StationSplit, split_stations
from stouter.data.stations import read_grid
from stouter.evaluation.calibration import interval_coverage
from stouter.evaluation.proper_scores import crps
from stouter.files import InputError, find_above, read_json, write_json
from stouter.graphs.scale_head import (
    ScaleRegressor,
    cross_val_predict,
    fit_forest,
    forest_predict,
    log_r2,
    predict,
    scale_factor,
)
from stouter.graphs.spatial import place_features
from stouter.pipeline.dataset import City, Datasets, Embeddings, load_city, make_datasets, pretrain_graphs
from stouter.pipeline.evaluate import sample_baseline
from stouter.pipeline.mean_days import add_profile, fit_donors, lend_profile
from stouter.pipeline.methods import build_method, make_training_args
from stouter.pipeline.provenance import isolated_seed
from stouter.pipeline.scales import block_fold, fit_scale_head
from stouter.training.batches import make_generator

N_SAMPLES, N_SPLITS = 32, 5
SIZE = {"train.n_updates": "500", "denoiser.base_channels": "16", "denoiser.n_fourier_features": "0"}
NETWORKS = {  # name -> settings besides SIZE
    "network, embedding": {},
    "network, features": {"train.station_jitter": "0.3", "train.station_drop_prob": "0.3"},
    "network, forest": {},
    "network, residuals": {},  # deviations from mean days, of a held-out station from those of its donors
}
REFERENCES = {  # name in the table -> reference method of the package
    "all stations": "bootstrap",
    "nearest stations": "nearest stations",
    "forest pool": "forest pool",
}


class Split(NamedTuple):
    "One division of a city's stations."

    label: dict  # data, patches, split: what identifies it in the table
    city: City
    embeddings: Embeddings
    data: Datasets  # with the stations held out
    own: TrafficDataset  # training days of the held-out stations
    config: ExperimentConfig


def hold_out(
    data: Datasets,  # of the protocol new_days
    split: StationSplit,  # rows of stations
) -> Datasets:  # of the protocol new_stations, with this split
    "Days of the test stations are taken out of what is known."
    known = data.known.sel_stations(split.train)
    test = data.test.sel_stations(split.test)
    return replace(data, train=known, known=known, history=known, test=test, split=split, test_rows=split.test)


def shandong_splits(folder: Path, n_patches: int) -> Iterator[Split]:
    "Five folds of whole patches of 4 x 4 cells."
    config = load_config("shandong", {"data.source.patch_ids": str(list(range(n_patches))), **SIZE})
    city = load_city(config.data, folder / f"shandong_{n_patches}")
    embeddings = pretrain_graphs(config.graph, city, 0, folder / f"shandong_{n_patches}")
    data, patch = make_datasets(config.data, city, embeddings, 0), city.traffic.stations.index.to_numpy() // 16
    order = np.random.default_rng(0).permutation(np.unique(patch))
    for k, part in enumerate(np.array_split(order, N_SPLITS)):
        is_test = np.isin(patch, part)
        split = StationSplit(np.flatnonzero(~is_test), np.flatnonzero(is_test), np.arange(0))
        label = {"data": "shandong", "patches": n_patches, "split": k}
        yield Split(label, city, embeddings, hold_out(data, split), data.known.sel_stations(split.test), config)


def nanjing_splits(folder: Path) -> Iterator[Split]:
    "Five draws of blocks of 5 km."
    config = load_config("nanjing", SIZE)
    city = load_city(config.data, folder / "nanjing")
    embeddings = pretrain_graphs(config.graph, city, 0, folder / "nanjing")
    data = make_datasets(config.data, city, embeddings, 0)
    for k in range(N_SPLITS):
        split = split_stations(city.traffic.stations, 0.2, 5.0, seed=k)
        label = {"data": "nanjing", "patches": 0, "split": k}
        yield Split(label, city, embeddings, hold_out(data, split), data.known.sel_stations(split.test), config)


def block_size_km(split: Split) -> float:
    "Side of the blocks that are held out inside the training area: a patch of Shandong, or as the test blocks."
    return 24.0 if split.label["data"] == "shandong" else 5.0


def fit_head(split: Split) -> tuple[ScaleRegressor, np.ndarray]:
    "The scale head of a run with these stations, and the features of the test stations."
    train, test, places = split.data.split.train, split.data.split.test, split.data.place_table
    features = torch.cat([split.embeddings.station_table, places], dim=1).numpy()
    scaler = StationScaler(split.data.scaler.min_[train], split.data.scaler.range_[train])
    stations, seed = split.city.traffic.stations.iloc[train], split.label["split"]
    return fit_scale_head(features[train], scaler, stations, block_size_km(split), seed), features[test]


def scale_row(split: Split) -> dict:
    "R2 of the log range by the scale head, by it without the forest and the features of places, and by a forest alone."
    (train, test, _), span = split.data.split, split.data.scaler.range_
    head, features = fit_head(split)
    fallback = float(np.exp(np.log(span[train]).mean()))
    table, places = split.embeddings.station_table.numpy(), split.data.place_table.numpy()
    fold = block_fold(split.city.traffic.stations.iloc[train], block_size_km(split), split.label["split"])
    before = ScaleRegressor.fit(table[train], split.data.scaler.min_[train], span[train], fold)
    forest = fit_forest(places[train], np.log(span[train])).predict(places[test])
    predicted = {"head": predict(head, features).range_, "embedding only": predict(before, table[test]).range_}
    predicted["forest"] = np.exp(forest)
    r2 = {f"r2 {name}": round(log_r2(span[test], value, fallback), 4) for name, value in predicted.items()}
    error = {f"squares {name}": float((np.log(span[test] / v) ** 2).sum()) for name, v in predicted.items()}
    error["squares mean"] = float((np.log(span[test] / fallback) ** 2).sum())
    return {"regression": head.name, "residual_std": head.residual_std, "stations": len(test), **r2, **error}


def score_samples(split: Split, samples: np.ndarray, sampled_scale: list[StationScaler], median: StationScaler) -> dict:
    "CRPS and coverage of the 80 % band: scaled, and in physical units with a drawn and with the median scale."
    test, station = split.data.test, split.data.test.condition.station.numpy()
    row = np.searchsorted(split.data.split.test, station)  # of the scales, which belong to the test stations
    real = split.data.test_scaler.inverse_transform(test.x.numpy(), station)
    drawn = np.stack([scale.inverse_transform(x, row) for scale, x in zip(sampled_scale, samples)])
    return {
        "crps": round(crps(test.x.numpy(), samples), 5),
        "coverage_80": round(interval_coverage(test.x.numpy(), samples), 4),
        "coverage_80 physical": round(interval_coverage(real, drawn), 4),
        "coverage_80 physical, median scale": round(interval_coverage(real, median.inverse_transform(samples, row)), 4),
        "stations": len(split.data.split.test),
    }


def reference_samples(split: Split, name: str) -> Tensor:
    "Samples of a reference method, or days of the station itself for `own history`."
    generator = make_generator(split.label["split"], 31)
    if name == "own history":
        return Bootstrap().fit(split.own).sample(split.data.test.condition, N_SAMPLES, generator)
    return sample_baseline(REFERENCES[name], split.data, N_SAMPLES, generator)


def profile_table(split: Split) -> Tensor:
    """Mean scaled day of every station as a forest predicts it from the features of the place.

    For a training station by a forest without its fold of whole blocks, so that the errors are those of new places.
    """
    train, test, _ = split.data.split
    features, days = split.data.place_table.numpy().astype(float), split.data.train.cube.numpy().astype(float)
    stations = split.city.traffic.stations.iloc[train]
    fold, profile = block_fold(stations, block_size_km(split), split.label["split"]), np.nanmean(days, axis=1)
    table = np.zeros((len(features), profile.shape[1]), np.float32)
    table[train] = cross_val_predict(forest_predict, features[train], profile, fold)
    table[test] = forest_predict(features[train], profile, features[test])
    return torch.from_numpy((table - table[train].mean(0)) / table[train].std())


def network_samples(split: Split, name: str) -> tuple[Tensor, Tensor]:
    """Samples of a network trained on the known stations, for the days as they are labelled and for a trained weekday.

    A city whose training days are all of one day type (Shandong's five) says nothing about the other type.
    """
    config, seed = load_config(split.config.name, {**SIZE, **NETWORKS[name]}), split.label["split"]
    table = {
        "network, features": lambda: split.embeddings.place_table,
        "network, forest": lambda: profile_table(split),
    }.get(name, lambda: split.embeddings.station_table)()
    data, parts = split.data, [split.data.train, split.data.test]
    if name == "network, residuals":
        train, test = add_profile(parts, data.known)
        parts = [train, lend_profile(test, fit_donors(data.known, data.place_table).donors(data.place_table.numpy()))]
    train, test = (replace(part, condition=replace(part.condition, station_table=table)) for part in parts)
    condition = test.condition
    with isolated_seed(seed, 20):
        method = build_method(config, table.shape[1], condition.hour_table.shape[1])
    settings = config.train.model_copy(update={"weekday_randomization": 1.0})
    method.fit(train, make_training_args(settings, train), seed)
    weekday = replace(condition, hour_of_week=condition.hour_of_week % 24 + 24 * 3)
    return tuple(method.sample(c, N_SAMPLES, make_generator(seed, 30)) for c in (condition, weekday))


def milan_row(k: int, shared: Path) -> dict:
    "Coverage of the 80 % band of the total of a square, and R2 of its logarithm; fold `k` of whole blocks is held out."
    squares = read_grid(shared / "grids/milano-grid.geojson")
    counts = pd.read_csv(shared / "milan_context/stcnet_crawled_feature.csv").set_axis(squares.index)
    total = pd.read_csv(shared / "milan_context/square_totals_2mo.csv").internet.to_numpy(float)
    features = place_features(squares, counts).numpy()
    is_test, generator = block_fold(squares, 2.35, 0) == k, np.random.default_rng(k)
    train = generator.permutation(np.flatnonzero(~is_test))[:2500]  # enough, and three times as fast as all 8000
    inner = block_fold(squares.iloc[train], 2.35, 1)
    head = ScaleRegressor.fit(features[train], 0 * total[train], total[train], inner)
    median = predict(head, features[is_test]).range_
    drawn = median * scale_factor(head, generator.normal(size=(N_SAMPLES, len(median))))
    fallback = float(np.exp(np.log(total[train]).mean()))
    return {
        "r2 head": round(log_r2(total[is_test], median, fallback), 4),
        "coverage_80 physical": round(interval_coverage(total[is_test, None], drawn[:, :, None]), 4),
        "regression": head.name,
        "residual_std": head.residual_std,
        "stations": int(is_test.sum()),
        "training_squares": len(train),
    }


class Table:
    "Rows of results, written after each one."

    def __init__(self, path: Path):
        self.path, self.rows = path, read_json(path, {"rows": []})["rows"]

    def lacks(self, label: dict) -> bool:
        "Whether no row has this label."
        return not any(label.items() <= row.items() for row in self.rows)

    def add(self, label: dict, values: dict) -> None:
        "Add a row."
        self.rows.append(label | values)
        print(self.rows[-1], flush=True)
        write_json(self.path, {"machine": f"{platform.machine()}, cpu", "torch": torch.__version__, "rows": self.rows})


def add_shapes(table: Table, split: Split, names: list[str]) -> None:
    "Rows of reference methods or networks on one split."
    labels = {name: {**split.label, "part": "shape", "method": name} for name in names}
    labels = {name: label for name, label in labels.items() if table.lacks(label)}
    if not labels:
        return
    head, features = fit_head(split)
    generator = np.random.default_rng([split.label["split"], 1])
    median = predict(head, features)
    factor = scale_factor(head, generator.normal(size=(N_SAMPLES, len(median.range_))))
    scales = [StationScaler(median.min_ * f, median.range_ * f) for f in factor]
    for name, label in labels.items():
        if name not in NETWORKS:
            table.add(label, score_samples(split, reference_samples(split, name).numpy(), scales, median))
            continue
        settings = {"updates": int(SIZE["train.n_updates"]), "width": int(SIZE["denoiser.base_channels"])}
        as_labelled, weekday = network_samples(split, name)
        if split.label["data"] == "shandong":
            other = label | {"method": f"{name}, trained weekday"}
            table.add(other, settings | score_samples(split, weekday.numpy(), scales, median))
        table.add(label, settings | score_samples(split, as_labelled.numpy(), scales, median))


def add_city(table: Table, part: str, splits: Iterator[Split]) -> None:
    "Rows of one part on every split of a city."
    for split in splits:
        if part in ("networks", "residuals"):
            is_part = [name for name in NETWORKS if (name == "network, residuals") == (part == "residuals")]
            add_shapes(table, split, is_part)
        else:
            add_shapes(table, split, [*REFERENCES, "own history"])
            label = {**split.label, "part": "scale"}
            if table.lacks(label):
                table.add(label, scale_row(split))


def add_milan(table: Table) -> None:
    "Rows of the levels of Milan."
    shared = find_above("shared/data")
    if not (shared / "milan_context/square_totals_2mo.csv").exists():
        print(f"milan is left out: no {shared / 'milan_context/square_totals_2mo.csv'}")
        return
    for k in range(N_SPLITS):
        label = {"data": "milan", "patches": 0, "split": k, "part": "scale"}
        if table.lacks(label):
            table.add(label, milan_row(k, shared))


def main() -> None:
    "Write the rows of every part."
    parts = ("references", "milan", "networks", "residuals", "copies")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where cities and embeddings are kept")
    parser.add_argument("--json", type=Path, required=True, help="file that the rows are added to")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    args = parser.parse_args()
    torch.set_num_threads(1)
    table, cities = Table(args.json), {"shandong": 33, "nanjing": 0, "copies": 45}
    for part in args.parts:
        if part == "milan":
            add_milan(table)
            continue
        both = ("shandong", "nanjing")
        of_part = {"references": both, "networks": both[:1], "residuals": both, "copies": ("copies",)}
        for name in of_part[part]:
            n_patches = cities[name]
            splits = shandong_splits(args.folder, n_patches) if n_patches else nanjing_splits(args.folder)
            try:
                add_city(table, part, splits)
            except (InputError, FileNotFoundError) as error:
                print(f"{name} is left out: {error}")


if __name__ == "__main__":
    main()
