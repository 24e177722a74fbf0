"Methods that see the other days of a station: all methods, all protocols, and what must not reach a generated day."

from dataclasses import replace

import numpy as np
import pytest
import torch

from stouter.config_file import load_config
from stouter.data.known_days import N_STATISTICS
from stouter.pipeline.generate import generate_traffic, make_request
from stouter.pipeline.run import load_run, run

QUICK = {"data.known_days": "true", "train.n_updates": "3", "graph.n_epochs": "2", "evaluation.n_samples": "2"}
BLOCKS = {"data.protocol": "new_stations", "data.block_size_km": "0.3", "data.test_station_fraction": "0.3"}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("known") / "run"
    run(load_config("tiny", QUICK), 0, folder)
    return load_run(folder)


@pytest.mark.parametrize("method", ["diffwave", "vae", "tcn_gan"])
def test_every_method_can_be_told_by_days(method, tmp_path):
    metrics = run(load_config("tiny", {**QUICK, "method": method}), 0, tmp_path)
    assert all(np.isfinite(row["crps"]) for row in metrics.values())


def test_a_sample_sees_all_days_but_its_own(results):
    data = results.data
    for samples in (data.train, data.known):
        n_days = data.train_periods.values.shape[1]
        assert samples.condition.known.sum(1).eq(n_days - 1).all()
        assert not samples.condition.known.view(-1, n_days, n_days).diagonal(dim1=1, dim2=2).any()
    assert data.test.condition.known.all()
    assert data.test.condition.hour_emb.shape[-1] == results.embeddings.hour_table.shape[1] + N_STATISTICS


def generate(model, day):
    return generate_traffic(make_request(model, day, day, 1, 0, None)).values("internet")


def test_the_generated_day_is_never_among_the_known_ones(results):
    model, first = results.model, results.data.train_periods.days[0]
    days = model.places.known_days

    def without_first_day():
        values = days.values.clone()
        values[:, 0] = torch.nan
        return replace(model, places=replace(model.places, known_days=replace(days, values=values)))

    assert np.array_equal(generate(model, first), generate(without_first_day(), first))
    other = results.data.train_periods.days[1]
    assert not np.array_equal(generate(model, other), generate(without_first_day(), other))


def test_nothing_is_known_of_held_out_stations(tmp_path):
    run(load_config("tiny", {**QUICK, **BLOCKS}), 0, tmp_path)
    results = load_run(tmp_path)
    assert results.data.test.condition.known.shape[1] == 0
    model, held_out = results.model, results.data.split.test
    values = model.places.known_days.values.clone()
    values[held_out] *= 1000
    changed = replace(model, places=replace(model.places, known_days=replace(model.places.known_days, values=values)))
    assert np.array_equal(generate(model, "2013-12-02"), generate(changed, "2013-12-02"))


def test_distillation_and_validation(tmp_path):
    more = {"data.n_validation_periods": "2", "train.validate_every": "2", "distillation.n_updates": "2"}
    more |= {"distillation.n_teacher_samples": "64", "distillation.batch_size": "16"}
    metrics = run(load_config("tiny", {**QUICK, **more}), 0, tmp_path)
    assert np.isfinite(metrics["STOUTER"]["crps"])
