"Networks that generate deviations from a profile: what they learn, what they generate, and what is refused."

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from stouter.baselines.tuned_reference import HierarchicalGaussian
from stouter.config_file import find_preset, load_config, read_yaml
from stouter.files import InputError
from stouter.pipeline.generate import generate_traffic, make_request
from stouter.pipeline.run import load_run, run

QUICK = {"data.residuals": "true", "train.n_updates": "3", "graph.n_epochs": "2", "evaluation.n_samples": "4"}
TWO_WEEKS = {"data.source.n_days": "17"}  # of training days, which joint samples need


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("residuals") / "run"
    run(load_config("tiny", QUICK | TWO_WEEKS), 0, folder)
    return load_run(folder)


def test_the_profile_is_of_training_days_alone(results):
    profile = HierarchicalGaussian().fit(results.data.known).profile
    for samples in (results.data.train, results.data.known, results.data.test, results.data.history):
        assert torch.equal(samples.condition.profile.mean, profile.mean)
    learnt = results.data.train.drop_incomplete().for_network().x
    assert abs((36 * (learnt - 0.5).square().mean()).sqrt() - 1) < 0.02  # deviations of one standard deviation
    assert abs(learnt.mean() - 0.5) < 0.05


def test_an_untrained_network_already_has_the_mean_days(results, tmp_path):
    run(load_config("tiny", {**QUICK, **TWO_WEEKS, "data.residuals": "false"}), 0, tmp_path)
    without = json.loads((tmp_path / "metrics.json").read_text())["methods"]["STOUTER"]
    assert results.metrics["STOUTER"]["crps"] < 0.7 * without["crps"]


def test_generated_traffic_is_that_of_the_residuals(results):
    model, day = results.model, results.data.train_periods.days[0]
    volumes = generate_traffic(make_request(model, day, day, 2, 0, None)).dataset.volume
    assert np.isfinite(volumes).all() and (volumes >= 0).all()
    for name in results.city.traffic.stations.index[[3, 1]]:  # a station alone has the traffic that it has among others
        one = generate_traffic(make_request(model, day, day, 2, 0, [name])).dataset.volume
        assert np.array_equal(one.sel(station=name), volumes.sel(station=name))


@pytest.mark.parametrize("field", ["data.known_days", "distillation"])
def test_what_has_no_mean_day_is_refused(field):
    value = {"data.known_days": "true", "distillation": "{n_updates: 2}"}[field]
    with pytest.raises(InputError, match="data.residuals: "):
        load_config("tiny", {**QUICK, field: value})


def test_the_preset_is_what_the_benchmark_measured(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import residuals as benchmark

    measured = benchmark.COMMON | benchmark.VARIANTS["residuals, stations alike"]
    measured = {key: yaml.safe_load(value) for key, value in measured.items() if key != "evaluation.n_samples"}
    assert read_yaml(find_preset("residuals")) == {**measured, "distillation": None}
    for name in ("milan_28_distilled", "nanjing", "new_city"):
        config = load_config(name, {"preset": "residuals"})
        assert config.data.residuals and config.distillation is None and config.folder_name == f"{name}_residuals"


def test_other_methods_are_refused():
    with pytest.raises(InputError, match="data.residuals: not read by the method vae, only by stouter, diffwave"):
        load_config("tiny", {**QUICK, "method": "vae"})


def write_site(results, folder):
    "A table with one site in the middle of the city."
    counts = {name: [1] for name in results.model.places.categories}
    site = pd.DataFrame({"id": ["new"], "lon": [9.19], "lat": [45.46], "radius_m": [100.0], **counts})
    site.to_csv(folder / "sites.csv", index=False)
    return folder / "sites.csv"


@pytest.mark.parametrize("joint", [False, True])
def test_a_site_deviates_from_the_mean_days_of_donors(results, tmp_path, joint):
    model, day = (
        results.model_with(sites=write_site(results, tmp_path), joint=joint),
        results.data.train_periods.days[0],
    )
    request = make_request(model, day, day + pd.Timedelta(1, "D"), 8, 0, None)
    profile = request.places.profile
    donors = profile.donors[-1].unique()
    assert len(donors) > 1 and torch.isin(donors, torch.from_numpy(results.data.split.train)).all()
    row = request.places.profile_rows(0, np.zeros(16, int), np.arange(16) // 2)
    assert (row[::2] == row[1::2]).all() and len(row.unique()) > 1  # one donor for both days of a sample
    volumes = generate_traffic(request).dataset.volume
    assert np.isfinite(volumes).all() and (volumes >= 0).all()
    stations = [*results.city.traffic.stations.index[:2]]
    beside = generate_traffic(make_request(model, day, day + pd.Timedelta(1, "D"), 8, 0, stations)).dataset.volume
    assert np.array_equal(beside.sel(station="new"), volumes.sel(station="new"))


HELD_OUT = {**QUICK, "data.protocol": "new_stations", "data.block_size_km": "0.4", "data.test_station_fraction": "0.3"}


def test_held_out_stations_have_donors_that_were_trained_on(tmp_path):
    run(load_config("tiny", HELD_OUT), 0, tmp_path)
    held = load_run(tmp_path)
    donors = held.data.test.condition.profile.donors[torch.from_numpy(held.data.split.test)]
    assert torch.isin(donors, torch.from_numpy(held.data.split.train)).all()
    assert np.isfinite(held.metrics["STOUTER"]["crps"])
    names = [str(name) for name in held.city.traffic.stations.index[held.data.split.test]]
    request = make_request(held.model, "2013-11-20", "2013-11-20", 2, 0, names)
    assert torch.equal(request.places.profile.donors, donors)  # as in the evaluation
    assert np.isfinite(generate_traffic(request).dataset.volume).all()


def test_another_city_has_donors_of_the_first(tmp_path):
    run(load_config("new_city", {**QUICK, "data.source.n_days": "14", "data.target_source.n_days": "14"}), 0, tmp_path)
    held = load_run(tmp_path)
    donors = held.data.test.condition.profile.donors
    assert len(donors) == len(held.city.target.traffic.stations) and donors.max() < len(held.city.traffic.stations)
    assert np.isfinite(held.metrics["STOUTER"]["crps"])
