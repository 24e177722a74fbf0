"Covariates: calendars by hand, tables and damaged ones, missing values, and what reaches the network and the output."

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import stouter
from stouter.config_file import load_config
from stouter.data.covariates import make_covariates, public_holidays, read_covariates
from stouter.files import InputError, read_json
from stouter.pipeline.generate import generate_traffic, make_request, write_traffic
from stouter.pipeline.run import load_run, run

QUICK = {"train.n_updates": "3", "graph.n_epochs": "2", "evaluation.n_samples": "2"}
MILAN = {"data.covariates.country": "IT", "data.covariates.subdivision": "MI"}
EFFECTS = {"data.source.rain_effect": "-0.3", "data.source.match_effect": "1.0"}
ZONE = "Europe/Rome"


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    "Folder of a run with holidays, rain and matches, and its results."
    folder = tmp_path_factory.mktemp("covariates")
    city = {"data.source.cache_dir": str(folder / "city"), **EFFECTS}
    tables = {"data.covariates.tables": f"[{folder}/city/weather.csv, {folder}/city/events.csv]"}
    run(load_config("tiny", {**QUICK, **city, **MILAN, **tables}), 0, folder / "run")
    return load_run(folder / "run")


def dates(*days):
    return [pd.Timestamp(day) for day in days]


@pytest.mark.parametrize("part, n, saint", [("MI", 7, True), ("TN", 6, False), (None, 6, False)])
def test_italian_holidays_of_the_two_months(part, n, saint):
    names = public_holidays(*dates("2013-11-01", "2014-01-01"), "IT", part)
    assert len(names) == n and (pd.Timestamp("2013-12-07") in names.index) is saint
    assert set(dates("2013-11-01", "2013-12-08", "2013-12-25", "2013-12-26", "2014-01-01")) < set(names.index)
    hours = pd.date_range("2013-12-06", "2013-12-09", freq="h", tz=ZONE, inclusive="left")
    column = make_covariates("IT", part).values(hours, pd.DataFrame({"lon": [9.2], "lat": [45.5]}))[0, :, 0]
    assert column.reshape(3, 24).mean(1).tolist() == [0, float(saint), 1]


def test_a_column_that_is_constant_in_training_counts_as_missing(tmp_path):
    words = {**QUICK, **MILAN, "data.source.n_days": "8", "data.source.first_day": "2013-11-05"}
    run(load_config("tiny", {**words, "data.n_test_periods": "2"}), 0, tmp_path / "run")
    results = load_run(tmp_path / "run")
    assert results.data.covariates.scaler.constant == ("holiday",)
    assert not results.data.train.condition.covariates.any()
    request = make_request(results.model, "2013-12-25", "2013-12-25", 1, 0, None)
    assert not request.covariates.any()


def test_a_run_without_covariates_has_no_part_of_them(tiny_run):
    results = load_run(tiny_run[0])
    assert not any("covariate" in name for name in results.method.network.state_dict())
    assert results.data.train.condition.covariates is None and results.model.covariates is None
    assert not (tiny_run[0] / "covariates").exists()
    with pytest.raises(InputError, match="this run knows no covariates"):
        results.model_with(allow_missing=True)


@pytest.mark.parametrize("method", ["stouter", "diffwave"])
def test_the_untrained_network_does_not_see_covariates(method, told):
    from stouter.pipeline.methods import build_method
    from stouter.pipeline.provenance import isolated_seed

    config, condition = load_config("tiny", {"method": method}), told.data.test.condition[:4]
    embedded = []
    for dim in (0, condition.covariates.shape[-1]):
        with isolated_seed(0, 20):
            network = build_method(config, 8, condition.hour_emb.shape[-1], dim).network
        last = network.conv_out if method == "stouter" else network.output_projection
        torch.nn.init.ones_(last.weight)
        embedded.append(network(torch.ones(4, 1, 24), torch.arange(4), condition))
    assert torch.equal(*embedded) and embedded[0].std() > 0


def test_methods_without_covariates_refuse_them():
    for method in ("vae", "tcn_gan"):
        with pytest.raises(InputError, match=f"data.covariates: not read by the method {method}"):
            load_config("tiny", {"method": method, **MILAN})


def test_distillation_weeks_and_blocks(tmp_path):
    more = {"distillation.n_updates": "2", "distillation.n_teacher_samples": "64", "distillation.batch_size": "16"}
    more |= {"data.protocol": "new_stations", "data.block_size_km": "0.3", "data.test_station_fraction": "0.3"}
    metrics = run(load_config("tiny", {**QUICK, **MILAN, **more, "train.cond_drop_prob": "0.2"}), 0, tmp_path)
    assert np.isfinite(metrics["STOUTER"]["crps"])


def generate(model, first, last=None):
    return generate_traffic(make_request(model, first, last or first, 1, 0, None)).values("internet")


def test_generation_uses_calendar_tables_and_the_recorded_past(told, tmp_path):
    first = told.data.train_periods.days[0].tz_localize(None)  # 1 November, a holiday
    ordinary = pd.DataFrame({"day": [first], "holiday": [0]})
    with torch.no_grad():  # three updates teach little: a larger last layer shows what the network receives
        told.method.network.covariate_embedding.mlp[2].weight.add_(0.5)
    holiday = generate(told.model, first)
    assert np.array_equal(holiday, generate(told.model_with(covariates=[ordinary.assign(holiday=1)]), first))
    assert not np.array_equal(holiday, generate(told.model_with(covariates=[ordinary]), first))
    ordinary.to_csv(tmp_path / "future.csv", index=False)
    model = told.model_with(covariates=[tmp_path / "future.csv"])
    assert np.array_equal(generate(model, first), generate(told.model_with(covariates=[ordinary]), first))
    request = make_request(model, first, first, 1, 0, None)
    write_traffic(request, tmp_path / "day.parquet")
    table = pd.read_parquet(tmp_path / "day.parquet").sort_values(["station", "time"])
    assert np.array_equal(table["value"].to_numpy(np.float32), generate(model, first).ravel())
    assert make_request(told.model, first, first, 1, 0, None).metadata() != request.metadata()


def test_missing_values_are_refused_or_counted_as_missing(told):
    day = pd.Timestamp("2013-12-07")
    with pytest.raises(InputError, match="rain has no value in 24 of 24 hours, the first is 2013-12-07 00:00; give"):
        make_request(told.model, day, day, 1, 0, None)
    request = make_request(told.model_with(allow_missing=True), day, day, 1, 0, None)
    assert request.covariates.shape == (12, 1, 24, 6)
    assert request.covariates[0, 0, 0].tolist() == [1, 0, 0, 1, 0, 1]  # Saint Ambrose, rain unknown, no match
    half = pd.DataFrame({"time": pd.date_range(day, periods=12, freq="h"), "rain": 1})
    with pytest.raises(InputError, match="rain has no value in 12 of 24 hours, the first is 2013-12-07 12:00"):
        make_request(told.model_with(covariates=[half]), day, day, 1, 0, None)


def test_training_tables_with_gaps(told, tmp_path):
    city = {"data.source.cache_dir": str(told.folder.parent / "city"), **EFFECTS}
    weather = pd.read_csv(told.folder.parent / "city" / "weather.csv")
    weather[30:].to_csv(tmp_path / "weather.csv", index=False)
    words = {**QUICK, **city, "data.covariates.tables": f"[{tmp_path}/weather.csv]"}
    with pytest.raises(InputError, match="rain has no value in 30 of 168 hours.*data.covariates.allow_missing"):
        run(load_config("tiny", words), 0, tmp_path / "refused")
    run(load_config("tiny", words | {"data.covariates.allow_missing": "true"}), 0, tmp_path / "allowed")
    numbers = load_run(tmp_path / "allowed").data.train.condition.covariates[:7].reshape(-1, 2)
    assert not numbers[:30].any() and numbers[30:, 1].all()
    with_zeros = load_config("tiny", words | {"data.covariates.defaults": "{rain: 0}"})
    run(with_zeros, 0, tmp_path / "zeros")
    assert load_run(tmp_path / "zeros").data.train.condition.covariates[..., 1].all()


def test_the_scale_comes_from_training_days_alone(told):
    scaler, train = told.data.covariates.scaler, told.data.train_periods
    values = told.data.covariates.covariates.values(train.hours, told.city.traffic.stations)
    assert np.array_equal(scaler.min_, values.min((0, 1))) and np.array_equal(scaler.range_, np.ptp(values, (0, 1)))
    assert told.data.test.condition.covariate_table.shape[-1] == 6


def test_the_run_keeps_its_tables_and_says_what_it_knows(told):
    for file in ("weather.csv", "events.csv"):  # a finished run does not need them
        (told.folder.parent / "city" / file).rename(told.folder.parent / file)
    again = stouter.load_run(told.folder)
    assert again.results.city.covariates.columns == ("holiday", "rain", "match")
    assert "covariates: holiday (IT, MI), rain, match (events)" in repr(again)
    assert read_json(told.folder / "selection.json")["covariates"] == "holiday (IT, MI), rain, match (events)"
    day = pd.DataFrame({"day": ["2013-12-07"], "rain": [0.5]})
    traffic = again.generate("2013-12-07", "2013-12-07", covariates=day)
    assert traffic.values("internet").shape == (1, 12, 24, 1)[:3] and np.isfinite(traffic.values("internet")).all()
    for file in ("weather.csv", "events.csv"):
        (told.folder.parent / file).rename(told.folder.parent / "city" / file)


EVENT = "time,lon,lat,radius_km,match\n2013-11-01 20:00,9.15,45.47,1,1\n"
WEATHER = "time,rain\n2013-11-01 00:00,0\n2013-11-01 01:00,1\n"
STATION = "station,day,price\n1,2013-11-01,2\n2,2013-11-01,3\n"
DAMAGED = {
    "a word": (WEATHER.replace(",1\n", ",wet\n"), "line 3, column rain: expected a number, got 'wet'"),
    "infinite": (WEATHER.replace(",1\n", ",inf\n"), "line 3, column rain: expected a number, got"),
    "no time": (WEATHER.replace("time", "hour"), "expected one column time .of hours. or day"),
    "two times": (
        WEATHER.replace("time,rain", "time,day").replace(",0\n", ",2013-11-01\n"),
        "expected one column time",
    ),
    "a bad time": (WEATHER.replace("2013-11-01 01:00", "one o'clock"), "line 3, column time: .* is no time"),
    "half past": (WEATHER.replace("01:00", "01:30"), "line 3, column time: 01:30:00 is no full hour"),
    "twice": (WEATHER.replace("01:00", "00:00"), "line 3: 2013-11-01 00:00 stands twice"),
    "midnights": (WEATHER.replace("01 01:00", "02 00:00"), "all times are midnights; if they are days"),
    "short row": (WEATHER.replace(",1\n", "\n"), "line 3: expected 2 fields as in the header"),
    "no column": ("time\n2013-11-01 00:00\n2013-11-01 01:00\n", "expected columns of covariates"),
    "hour of a day": (STATION.replace("2013-11-01,3", "2013-11-01 05:00,3"), "column day: .* is no day alone"),
    "no id": (STATION.replace("2,2013", ",2013"), "line 3: no station id"),
    "station twice": (STATION.replace("2,2013", "1,2013"), "line 3: 2013-11-01 stands twice"),
    "no radius": (EVENT.replace("radius_km", "radius"), "expected lon, lat and radius_km for events"),
    "latitude": (EVENT.replace("45.47", "95"), "line 2, column lat: expected a number from -90 to 90, got"),
    "negative radius": (EVENT.replace(",1,1", ",-1,1"), "line 2, column radius_km: expected a number from 0 to"),
    "no value": (EVENT.replace(",1,1", ",1,"), "line 2, column match: expected a number, got nothing; fill it in"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_tables(name, tmp_path):
    text, message = DAMAGED[name]
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=f"table.csv.*{message}"):
        read_covariates(path, ZONE)
    assert len(str(pytest.raises(InputError, read_covariates, path, ZONE).value).splitlines()) == 1


@pytest.mark.parametrize("suffix", ["csv", "parquet", "xlsx"])
def test_stations_and_days_from_every_kind_of_file(suffix, tmp_path):
    table = pd.DataFrame({"station": ["7", "8"], "date": ["2013-11-01", "2013-11-02"], "price": [2.5, np.nan]})
    path = tmp_path / f"prices.{suffix}"
    writers = {"csv": table.to_csv, "parquet": table.to_parquet, "xlsx": table.to_excel}
    writers[suffix](path, index=False)
    stations = pd.DataFrame({"lon": [9.1, 9.2, 9.3], "lat": 45.5}, index=pd.Index([7, 8, 9], name="station"))
    hours = pd.date_range("2013-11-01", periods=48, freq="h", tz=ZONE)
    values = read_covariates(path, ZONE).values(hours, stations)[..., 0]
    assert values.shape == (3, 48) and (values[0, :24] == 2.5).all()
    assert np.isnan(values[0, 24:]).all() and np.isnan(values[1:]).all()


def test_an_hour_that_the_clock_repeats_has_two_rows(tmp_path):
    path = tmp_path / "weather.csv"
    local = pd.date_range("2013-10-27", periods=6, freq="h", tz=ZONE)
    pd.DataFrame({"time": local.tz_localize(None), "rain": range(6)}).to_csv(path, index=False)
    stations = pd.DataFrame({"lon": [9.1], "lat": [45.5]})
    assert read_covariates(path, ZONE).values(local, stations)[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_tables_of_other_cities_and_unknown_names(told, tmp_path):
    (tmp_path / "prices.csv").write_text(STATION.replace("1,2013", "a,2013").replace("2,2013", "b,2013"))
    (tmp_path / "weather.csv").write_text(WEATHER)
    for words, message in (
        ({"tables": f"[{tmp_path}/prices.csv]"}, "none of its stations, such as a, is in the city"),
        ({"tables": f"[{tmp_path}/weather.csv]", "columns": "[rain, wind]"}, "columns: wind is in none of the tables"),
        ({"country": "Italy"}, "data.covariates: unknown country 'Italy'"),
        ({"country": "IT", "subdivision": "Milan"}, "IT has no part 'Milan'"),
        ({"country": "IT", "defaults": "{rain: 0}"}, "a default of rain, which is no covariate"),
        ({"tables": f"[{tmp_path}/gone.csv]"}, "gone.csv: no such file"),
    ):
        config = load_config("tiny", {**QUICK, **{f"data.covariates.{name}": value for name, value in words.items()}})
        with pytest.raises((InputError, FileNotFoundError), match=message):
            run(config, 0, Path(tmp_path) / words.get("columns", message)[:8])
    snow = pd.DataFrame({"day": ["2013-12-07"], "snow": [1]})
    with pytest.raises(InputError, match="expected columns of one of holiday, rain, match, got day, snow"):
        told.model_with(covariates=[snow])
