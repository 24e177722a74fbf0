"Methods that see the other days of a station: all methods, all protocols, and what must not reach a generated day."

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from stouter.config_file import load_config
from stouter.data.known_days import N_STATISTICS
from stouter.data.traffic import Traffic, save_traffic
from stouter.files import InputError
from stouter.pipeline.generate import describe_request, generate_traffic, make_request, write_traffic
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


def test_nothing_is_known_of_held_out_stations(held_out):
    results = held_out[0]
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


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    "A run that sees days, with held-out stations; the folder of a copy of its traffic."
    folder = tmp_path_factory.mktemp("held_out")
    run(load_config("tiny", {**QUICK, **BLOCKS}), 0, folder / "run")
    return load_run(folder / "run"), folder


def measured(results, stations, first, last):
    "Rows of the traffic of stations on some days."
    traffic = results.city.records.select(stations=list(stations), services=["internet"])
    rows = traffic.to_frame()[["station", "time", "value"]]
    return rows[
        (rows.time >= pd.Timestamp(first, tz="Europe/Rome")) & (rows.time < pd.Timestamp(last, tz="Europe/Rome"))
    ]


def volumes(results, known, days=("2013-12-02", "2013-12-03"), stations=None, **options):
    request = make_request(results.model_with(**options), *days, 2, 0, stations, known)
    return generate_traffic(request)


def test_held_out_stations_are_known_by_a_table_and_by_nothing_else(held_out, tmp_path):
    results, test = held_out[0], held_out[0].data.split.test
    ids = results.city.traffic.stations.index[test]
    known = measured(results, ids, "2013-11-05", "2013-11-08")
    first = volumes(results, known)
    assert first.stations.index.tolist() == ids.tolist()
    assert set(first.dataset["status"].values) == {"known_days (3)"}
    louder, days = results.city.records.to_xarray(), results.city.records.hours.strftime("%d").astype(int)
    row = louder.station.isin(ids.to_numpy()).values
    louder["volume"][{"station": row, "hour": (days < 5) | (days > 7)}] *= 1000
    save_traffic(Traffic(louder), tmp_path / "louder.nc")
    source = {"kind": "netcdf", "traffic": str(tmp_path / "louder.nc")}
    run(load_config("tiny", {**QUICK, **BLOCKS, "data.source": source}), 0, tmp_path / "run")
    other = load_run(tmp_path / "run")
    assert other.data.scaler.range_[test[0]] > 500 * results.data.scaler.range_[test[0]]
    again = volumes(other, measured(other, ids, "2013-11-05", "2013-11-08"))
    np.testing.assert_array_equal(again.values("internet"), first.values("internet"))
    tenfold = volumes(results, known.assign(value=10 * known.value)).values("internet")
    np.testing.assert_allclose(tenfold, 10 * first.values("internet"), rtol=1e-3)  # the level is that of the days


def test_company_changes_nothing(held_out):
    results = held_out[0]
    ids = [str(name) for name in results.city.traffic.stations.index[results.data.split.test][:2]]
    trained = str(results.city.traffic.stations.index[results.data.split.train[0]])
    short = measured(results, [int(ids[0])], "2013-11-06", "2013-11-08")
    long = measured(results, [int(ids[1])], "2013-11-01", "2013-11-11")
    alone = volumes(results, short)
    both = volumes(results, pd.concat([long, short]), stations=[*ids[::-1], trained])
    np.testing.assert_array_equal(both.values("internet")[:, 1], alone.values("internet")[:, 0])
    assert both.dataset["status"].values.tolist() == ["known_days (10)", "known_days (2)", "known"]
    without = volumes(results, None, stations=[trained])
    np.testing.assert_allclose(both.values("internet")[:, 2], without.values("internet")[:, 0], rtol=1e-5)


def test_a_day_to_be_generated_is_taken_out_of_the_table(held_out, capsys):
    results = held_out[0]
    ids = results.city.traffic.stations.index[results.data.split.test]
    week, asked = measured(results, ids, "2013-11-04", "2013-11-11"), ("2013-11-06", "2013-11-07")
    is_asked = week.time.dt.strftime("%Y-%m-%d").isin(asked)
    request = make_request(results.model, *asked, 2, 0, None, week)
    assert "2013-11-06, 2013-11-07 to be generated, so not among the known days" in "\n".join(describe_request(request))
    louder = week.assign(value=week.value.where(~is_asked, 1000 * week.value))
    expected = volumes(results, week[~is_asked], asked)
    for table in (week, louder):
        np.testing.assert_array_equal(volumes(results, table, asked).values("internet"), expected.values("internet"))
    assert set(expected.dataset["status"].values) == {"known_days (5)"}
    with pytest.raises(InputError, match="all its days .2013-11-06, 2013-11-07. are to be generated"):
        volumes(results, week[is_asked], asked)


def test_a_trained_station_with_newer_days_and_a_site(held_out, tmp_path):
    results = held_out[0]
    trained = int(results.city.traffic.stations.index[results.data.split.train[0]])
    newer = measured(results, [trained], "2013-11-08", "2013-11-11")
    doubled = volumes(results, newer.assign(value=2 * newer.value))
    np.testing.assert_allclose(doubled.values("internet"), 2 * volumes(results, newer).values("internet"), rtol=1e-3)
    counts = results.city.stations.loc[[trained]]
    sites = counts.rename(index={trained: "N"}).rename_axis("id").reset_index()
    sites.assign(lon=sites.lon + 0.001).to_csv(tmp_path / "sites.csv", index=False)
    newer.assign(station="N", time=newer.time.dt.strftime("%Y-%m-%d %H:%M")).to_csv(tmp_path / "days.csv", index=False)
    site = volumes(results, tmp_path / "days.csv", sites=tmp_path / "sites.csv")
    assert site.dataset["status"].values.tolist() == ["known_days (3)"]
    out = tmp_path / "site.parquet"
    model = results.model_with(sites=tmp_path / "sites.csv")
    write_traffic(make_request(model, "2013-12-02", "2013-12-03", 2, 0, None, tmp_path / "days.csv"), out)
    table = pd.read_parquet(out)
    assert set(table.status) == {"known_days (3)"} and table.distance_km.between(0.01, 0.5).all()
    np.testing.assert_array_equal(table.value, site.values("internet").ravel())


def test_a_run_that_sees_no_days_refuses_a_table(results, tmp_path):
    run(load_config("tiny", {**QUICK, "data.known_days": "false"}), 0, tmp_path)
    plain = load_run(tmp_path)
    rows = measured(results, [1], "2013-11-04", "2013-11-06")
    with pytest.raises(InputError, match="tiny, seed 0 sees no days of a station; train a run with -p data.known_days"):
        volumes(plain, rows)
    with pytest.raises(InputError, match="station 77 is not in the table of stations"):
        volumes(results, rows.assign(station=77))
