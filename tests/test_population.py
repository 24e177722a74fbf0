"""Population as a feature of a station: from a table to graph, scale head and sites; without it nothing changes.

The simulated city says what the effect is: its inhabitants drive the levels by a known power.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT

import stouter
from stouter.config_file import load_config
from stouter.data.city_effects import CityEffects, centres, draw_population, level_factor
from stouter.data.city_model import draw_city, make_rng, service_levels
from stouter.data.pois import POI_CATEGORIES
from stouter.files import InputError, read_json
from stouter.graphs.scale_head import block_folds, linear_probe_r2
from stouter.graphs.spatial import place_features
from stouter.pipeline.dataset import describe_stations, load_city

FAST = {"train.n_updates": 4, "graph.n_epochs": 2, "evaluation.n_samples": 2, "data.population_radius_km": 0.2}


@pytest.fixture(scope="module")
def inhabited(tmp_path_factory):
    "A finished run of a tiny city whose levels follow its population."
    folder = tmp_path_factory.mktemp("population")
    people = {"data.source.population_effect": 1.0, "data.source.cache_dir": str(folder / "city")}
    tables = {"data.population": str(folder / "city/population.csv")}
    return folder, stouter.run("tiny", folder=folder / "run", overrides={**FAST, **people, **tables})


def test_a_run_knows_the_people_around_its_stations(inhabited):
    folder, run = inhabited
    cells = pd.read_csv(folder / "city/population.csv")
    kept = pd.read_parquet(folder / "run/stations.parquet")
    assert list(kept) == ["lon", "lat", *POI_CATEGORIES, "population"]
    assert kept.population.tolist() == cells.population.tolist()  # within 200 m of its middle a square has itself alone
    graph = run.results.embeddings.pretrained["space"]
    assert graph.weights["mask_token"].shape[-1] == len(POI_CATEGORIES) + 2  # with population and the total
    assert run.results.embeddings.place_table.shape[1] == 3 * (len(POI_CATEGORIES) + 2)
    inputs = read_json(folder / "run/provenance.json")
    assert "population" in str(inputs.get("inputs", "")) or run.config.data.source.kind == "simulated"


def test_sites_need_people_and_get_them(inhabited, tmp_path):
    folder, run = inhabited
    (folder / "city/population.csv").rename(tmp_path / "gone.csv")  # the run keeps its cells
    try:
        stations = run.results.city.stations
        site = stations[["lon", "lat"]].iloc[[0]].set_axis(["S1"]).rename_axis("id")
        site.to_csv(tmp_path / "sites.csv")
        site.assign(population=stations.population.max() * 100).to_csv(tmp_path / "crowded.csv")
        places = {}
        for name in ("sites", "crowded"):
            model = run.results.model_with(tmp_path / f"{name}.csv", folder / "city/pois.geojson")
            places[name] = model.places.stations.loc["S1", "population"]
            made = run.generate(
                "2013-11-11", "2013-11-11", sites=tmp_path / f"{name}.csv", pois=folder / "city/pois.geojson"
            )
            assert np.isfinite(made.values("internet")).all()
        assert places["sites"] == stations.population.iloc[0]
        assert places["crowded"] == 100 * stations.population.max()
        far = site.assign(lon=site.lon + 1)
        far.to_csv(tmp_path / "far.csv")
        with pytest.raises(
            InputError, match="population.parquet of this run or city: 1 of 1 places lie outside its cells"
        ):
            run.generate("2013-11-11", "2013-11-11", sites=tmp_path / "far.csv", pois=folder / "city/pois.geojson")
    finally:
        (tmp_path / "gone.csv").rename(folder / "city/population.csv")


def test_another_city_names_a_table_of_its_own(inhabited, tmp_path):
    folder, run = inhabited
    files = f"name: other\ngrid: {folder}/city/grid.geojson\npois: {folder}/city/pois.geojson\ntimezone: Europe/Rome\n"
    (tmp_path / "other.yaml").write_text(files)
    with pytest.raises(
        InputError, match="other.yaml: this run knows a station by the people around it; add population"
    ):
        run.generate("2013-11-11", "2013-11-11", city=tmp_path / "other.yaml")
    (tmp_path / "other.yaml").write_text(f"{files}population: {folder}/city/population.csv\n")
    made = run.generate("2013-11-11", "2013-11-11", city=tmp_path / "other.yaml")
    assert set(made.dataset["status"].values) == {"predicted"} and np.isfinite(made.values("internet")).all()


def test_changing_the_table_of_an_unfinished_run_reads_the_stations_again(inhabited, tmp_path):
    from stouter.pipeline.run_folder import lock_run

    folder, _ = inhabited
    other = tmp_path / "cells.csv"
    cells = pd.read_csv(folder / "city/population.csv")
    cells.assign(population=7).to_csv(other, index=False)
    configs = [
        load_config("tiny", {**FAST, "data.source.cache_dir": str(tmp_path / "city"), "data.population": str(path)})
        for path in (folder / "city/population.csv", other)
    ]
    for config, expected in zip(configs, (cells.population.tolist(), [7] * len(cells))):
        lock_run(tmp_path / "run", config, 0).close()
        assert load_city(config.data, tmp_path / "run").stations.population.tolist() == expected


def test_the_level_of_held_out_stations_is_predicted_better():
    "R2 of the logarithm of the level, a ridge on the features of places, on blocks that were held out."
    model = draw_city(400, make_rng(3))
    levels, people = service_levels(model, make_rng(3))[:, 4], draw_population(model, 3).population.to_numpy()
    counts = pd.DataFrame(model.poi_counts, columns=list(POI_CATEGORIES), index=centres(model).index)
    row, column = np.divmod(np.arange(400), model.shape[1])
    fold, gain = block_folds(row, column, 4, 5), {}
    for power in (0.0, 1.0):
        target = np.log(levels * level_factor(CityEffects(population=power), people))
        scores = []
        for table in (counts, counts.assign(population=people)):
            features = place_features(centres(model), table, 0.5).numpy()
            scores.append(linear_probe_r2(features, target, fold).mean())
        gain[power] = scores[1] - scores[0]
    assert gain[1.0] > 0.3  # 0.47 when this was written, from 0.25 to 0.72
    assert abs(gain[0.0]) < 0.05  # a column without an effect does no harm: -0.002


def test_without_population_the_features_are_those_of_before(tiny_run):
    stations = pd.read_parquet(tiny_run[0] / "stations.parquet")
    g = load_config("tiny").graph
    assert list(stations) == ["lon", "lat", *POI_CATEGORIES]
    with_people = describe_stations(g, stations.assign(population=np.arange(len(stations))))
    without, n = describe_stations(g, stations), len(POI_CATEGORIES)
    keep = [k for part in range(3) for k in (*range(part * (n + 2), part * (n + 2) + n), part * (n + 2) + n + 1)]
    assert torch.equal(with_people[:, keep], without)  # the other columns do not change
    assert not (ROOT / "nbs/experiments/params/demo.yaml").read_text().count("population")
