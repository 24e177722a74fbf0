"Small counts: what is generated for them is whole numbers, with hours of exactly zero."

import numpy as np
import pytest

from stouter.config_file import load_config
from stouter.data.traffic import Traffic, save_traffic
from stouter.pipeline.dataset import load_city
from stouter.pipeline.generate import generate_traffic, make_request
from stouter.pipeline.run import load_run, run

QUICK = {"data.n_test_periods": "7", "graph.n_epochs": "2", "evaluation.n_samples": "4"}


def run_on(traffic, folder, **fields):
    "A tiny run on a table of traffic."
    save_traffic(traffic, folder / "traffic.nc")
    table = {"data.source": f"{{kind: netcdf, traffic: {folder / 'traffic.nc'}}}"}
    run(load_config("tiny", {**QUICK, **table, **fields}), 0, folder / "run")
    return load_run(folder / "run")


def generate(results):
    "Eight samples of a day of every station, in units."
    day = results.data.train_periods.days[4]
    return generate_traffic(make_request(results.model, day, day, 8, 0, None)).dataset.volume


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    return load_city(
        load_config("tiny", QUICK | {"data.source.n_days": "17"}).data, tmp_path_factory.mktemp("city")
    ).traffic


@pytest.fixture(scope="module")
def counts(city):
    "Messages an hour: a few at most stations, hundreds at the last two."
    volume = city.dataset.volume.transpose("service", "station", "hour")
    mean = np.concatenate([np.linspace(0.5, 5, len(volume[0]) - 2), [300, 300]])
    rate = mean[:, None] * (volume[0] / volume[0].mean("hour")).fillna(0).values
    drawn = np.random.default_rng(0).poisson(rate).astype(np.float32)[None]
    return Traffic(city.dataset.assign(volume=(volume.dims, drawn)).transpose(*city.dataset.volume.dims, ...))


@pytest.fixture(scope="module", params=["false", "true"], ids=["traffic", "residuals"])
def sparse_run(request, counts, tmp_path_factory):
    return run_on(counts, tmp_path_factory.mktemp("sparse"), **{"data.residuals": request.param})


def test_counts_are_whole_numbers_with_zeros(sparse_run):
    scaler = sparse_run.data.scaler
    assert (scaler.smallest[:-2] == 1).all() and (scaler.smallest[-2:] == 0).all() and scaler.is_whole.all()
    volume = generate(sparse_run)
    sparse = volume.isel(station=slice(0, -2))
    assert 0.02 < (sparse == 0).mean() < 0.8
    assert (volume == volume.round()).all()  # messages are whole


def test_every_method_of_a_run_has_zeros_and_the_card_says_how_many(sparse_run):
    station, scaler = sparse_run.data.test.condition.station.numpy(), sparse_run.data.test_scaler
    real_share = (sparse_run.data.test_periods.values == 0).mean()
    for name, samples in sparse_run.samples.items():
        share = (scaler.inverse_transform(samples.numpy(), station) == 0).mean()
        error = sparse_run.metrics[name]["zero_share_error"]
        assert error == pytest.approx(share - real_share, abs=1e-6), name
        assert share > 0.02 or name == "historical average", name
    assert abs(sparse_run.metrics["bootstrap"]["zero_share_error"]) < 0.03


def test_places_without_days_have_the_zeros_of_the_others(counts, tmp_path):
    unseen = {"data.protocol": "new_stations", "data.block_size_km": "0.3", "data.test_station_fraction": "0.3"}
    results = run_on(counts, tmp_path, **unseen)
    test = results.data.split.test
    assert (results.data.scaler.smallest[test] == 1).all()
    names = results.city.traffic.stations.index[test]
    volume = generate(results).sel(station=names)
    assert (volume == 0).any() and (volume == volume.round()).all()


def test_real_numbers_above_zero_are_left_as_they_are(city, tmp_path):
    results = run_on(city, tmp_path)
    assert results.data.scaler.smallest is None
    assert not any("zero_share_error" in row for row in results.metrics.values())
