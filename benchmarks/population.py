"""Level of stations without measured traffic, with and without the population around them as a feature.

    OMP_NUM_THREADS=1 python benchmarks/population.py runs/population --json nbs/results/population.json

A simulated city of 256 squares, in which the level of a square follows its inhabitants by a given power. Blocks of
squares are held out; the scale head is fitted on the others and predicts the logarithm of the range of the held-out
ones. R2 over the held-out squares, one number for each of four choices of blocks. With the power 0 the population says
nothing, and the column should do no harm. No network is trained: the scale head needs graphs and ranges only.
"""

import argparse
import json
import platform
from pathlib import Path

import numpy as np

from stouter.config_file import load_config
from stouter.data.city_effects import CityEffects
from stouter.data.simulated_city import simulate_city
from stouter.files import read_json, write_json
from stouter.pipeline.dataset import load_city, make_datasets, pretrain_graphs
from stouter.pipeline.evaluate import predict_scale

N_STATIONS, N_DAYS, RADIUS_KM, POWERS, SEEDS = 256, 9, 0.2, (0.0, 1.0), range(4)


def settings(folder: Path, power: float, cells: Path | None) -> dict:
    "A run of the city; with the population if `cells` are given."
    people = {"data.population": str(cells), "data.population_radius_km": RADIUS_KM} if cells else {}
    return {
        "data.source.n_stations": N_STATIONS,
        "data.source.n_days": N_DAYS,
        "data.source.population_effect": power,
        "data.source.cache_dir": str(folder),
        "data.n_test_periods": 3,
        "data.protocol": "new_stations",
        "data.block_size_km": 1.0,
        "graph.radius_km": 0.5,
        **people,
    }


def held_out_r2(city_folder: Path, run_folder: Path, power: float, cells: Path | None) -> list[float]:
    "R2 of the logarithm of the range of held-out stations, for each seed."
    scores = []
    for seed in SEEDS:
        config = load_config("demo", settings(city_folder, power, cells))
        city = load_city(config.data, run_folder)
        folder = run_folder / str(seed)
        folder.mkdir(exist_ok=True)
        embeddings = pretrain_graphs(config.graph, city, seed, folder)
        data = make_datasets(config.data, city, embeddings, seed)
        scores.append(predict_scale(config, city, embeddings, data, seed)[1]["scale_head"])
    return scores


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the cities and runs")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = read_json(options.json, {}) if options.json else {}
    rows = result.setdefault("rows", {})
    for power in POWERS:
        city_folder = options.folder / f"city_{power:g}"
        cells = options.folder / "population.csv"
        if not cells.exists():  # the inhabitants are those of the seed, whatever they do to the traffic
            made = simulate_city(options.folder / "drawn", N_STATIONS, 1, effects=CityEffects(population=1.0))
            cells.write_bytes(made.population.read_bytes())
        for name, table in (("without", None), ("with", cells)):
            row = rows.setdefault(f"{power:g}", {})
            if name not in row:
                row[name] = held_out_r2(city_folder, options.folder / f"{name}_{power:g}", power, table)
            print(power, name, np.round(row[name], 3), flush=True)
            if options.json:
                about = {"n_stations": N_STATIONS, "n_days": N_DAYS, "radius_km": RADIUS_KM, "seeds": len(SEEDS)}
                write_json(options.json, {**result, **about, "machine": platform.processor() or platform.machine()})
    print(json.dumps(rows))
