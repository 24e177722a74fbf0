"Networks that generate deviations from a profile: what they learn, what they generate, and what is refused."

import json

import numpy as np
import pandas as pd
import pytest
import torch

from stouter.baselines.tuned_reference import HierarchicalGaussian
from stouter.config_file import load_config
from stouter.files import InputError
from stouter.pipeline.generate import generate_traffic, make_request
from stouter.pipeline.run import load_run, run

QUICK = {"data.residuals": "true", "train.n_updates": "3", "graph.n_epochs": "2", "evaluation.n_samples": "4"}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("residuals") / "run"
    run(load_config("tiny", QUICK), 0, folder)
    return load_run(folder)


def test_the_profile_is_of_training_days_alone(results):
    profile = HierarchicalGaussian().fit(results.data.known).profile
    for samples in (results.data.train, results.data.known, results.data.test, results.data.history):
        assert torch.equal(samples.condition.profile.mean, profile.mean)
    learnt = results.data.train.drop_incomplete().for_network().x
    assert abs((36 * (learnt - 0.5).square().mean()).sqrt() - 1) < 0.02  # deviations of one standard deviation
    assert abs(learnt.mean() - 0.5) < 0.05


def test_an_untrained_network_already_has_the_mean_days(results, tmp_path):
    run(load_config("tiny", {**QUICK, "data.residuals": "false"}), 0, tmp_path)
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


def test_other_methods_and_protocols_are_refused():
    with pytest.raises(InputError, match="data.residuals: not read by the method vae, only by stouter, diffwave"):
        load_config("tiny", {**QUICK, "method": "vae"})
    with pytest.raises(InputError, match="set data.protocol to new_days"):
        load_config("tiny", {**QUICK, "data.protocol": "new_stations"})


def test_a_site_has_no_mean_day(results, tmp_path):
    counts = {name: [1] for name in results.model.places.categories}
    site = pd.DataFrame({"id": ["new"], "lon": [9.19], "lat": [45.46], "radius_m": [100.0], **counts})
    site.to_csv(tmp_path / "sites.csv", index=False)
    model = results.model_with(sites=tmp_path / "sites.csv")
    day = results.data.train_periods.days[0]
    with pytest.raises(InputError, match="new: the run tiny generates deviations from the mean days"):
        make_request(model, day, day, 1, 0, None)
