"""Properties that hold for every input of a kind, tried on many (hypothesis), against plain pandas.

The examples are the same in every run. An example that failed once is kept with `@example`, or as a line of
`faults.csv`.
"""

from datetime import timedelta
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from stouter.data.cdr import ingest_cdr
from stouter.data.dataset import StationScaler, make_dataset, period_index, split_into_periods, split_last
from stouter.data.labels import SERVICES
from stouter.data.splits import split_stations
from stouter.data.stations import read_stations
from stouter.data.tabular import read_traffic
from stouter.data.traffic import Traffic, hour_of_week, open_traffic, save_traffic
from stouter.files import InputError
from stouter.pipeline.generate import make_calendar

settings.register_profile(
    "stouter",
    derandomize=True,
    deadline=None,
    max_examples=30,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("stouter")

ZONES = (
    "Europe/Rome",
    "America/New_York",
    "Asia/Kolkata",  # half an hour beside the full hours of UTC
    "Australia/Lord_Howe",  # its clock changes by half an hour
    "America/Sao_Paulo",  # its clock changed at midnight
    "Asia/Shanghai",
    "UTC",
)
SAFE = st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp"), exclude_characters='",;')
IDS = st.one_of(
    st.integers(0, 10**18).map(str), st.from_regex(r"0[0-9]{1,5}", fullmatch=True), st.text(SAFE, min_size=1)
)


@st.composite
def traffics(draw, zone="Europe/Rome", min_hours=1):
    "A small `Traffic` with missing values, across days when clocks change."
    n_stations, n_hours, n_services = draw(st.integers(1, 4)), draw(st.integers(min_hours, 60)), draw(st.integers(1, 3))
    start = pd.Timestamp(draw(st.sampled_from(["2013-03-30", "2013-10-26", "2013-11-01"])), tz=zone)
    hours = pd.date_range(start + pd.Timedelta(hours=draw(st.integers(0, 30))), periods=n_hours, freq="h")
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    values = rng.gamma(1, 10, (n_stations, n_hours, n_services)).astype("float32")
    values[rng.random(values.shape) < draw(st.sampled_from([0, 0.3]))] = np.nan
    ids = draw(st.lists(st.integers(-5, 10**12), min_size=n_stations, max_size=n_stations, unique=True))
    stations = pd.DataFrame({"lon": rng.uniform(9, 10, n_stations), "lat": rng.uniform(45, 46, n_stations)}, index=ids)
    return Traffic.from_array(values, stations, hours, SERVICES[:n_services], zone, "MB")


def sort_frame(frame):
    return frame.sort_values(["station", "time", "service"]).reset_index(drop=True)


@given(traffics(), st.randoms(use_true_random=False))
def test_a_frame_gives_the_same_traffic_in_any_order_of_rows_and_columns(traffic, random):
    frame = traffic.to_frame()
    columns = list(frame)
    random.shuffle(columns)
    rows = list(range(len(frame)))
    random.shuffle(rows)
    again = Traffic.from_frame(frame.iloc[rows][columns], traffic.stations, "Europe/Rome", "MB")
    pd.testing.assert_frame_equal(sort_frame(again.to_frame()), sort_frame(frame), check_dtype=False)
    np.testing.assert_array_equal(again.hours, traffic.hours)


@given(traffics())
def test_a_saved_file_holds_the_same_traffic(tmp_path_factory, traffic):
    path = tmp_path_factory.mktemp("saved") / "traffic.nc"
    save_traffic(traffic, path)
    with open_traffic(path).dataset as dataset:
        pd.testing.assert_frame_equal(Traffic(dataset).to_frame(), traffic.to_frame())


@settings(max_examples=20)
@given(traffics(), st.sampled_from([",", ";"]), st.booleans(), st.booleans())
def test_a_csv_file_gives_the_same_traffic(tmp_path_factory, traffic, separator, with_offset, is_wide):
    "With or without offsets; commas, or semicolons with decimal commas; a column for each service or for all."
    frame = traffic.to_frame()
    value = "value"
    if is_wide:
        frame = frame.pivot(index=["station", "time"], columns="service", values="value").reset_index()
        frame.columns.name, value = None, list(traffic.services)
    time = frame["time"] if with_offset else frame["time"].dt.tz_localize(None)
    frame = frame.assign(time=[moment.isoformat() for moment in time])
    path = tmp_path_factory.mktemp("csv") / "traffic.csv"
    frame.to_csv(path, index=False, sep=separator, decimal="." if separator == "," else ",")
    try:
        again = read_traffic(path, "Europe/Rome", traffic.stations, value=value)
    except InputError as error:  # the series begins or ends between the two hours of one name
        assert "occurs twice" in str(error) and not with_offset
        assert (traffic.hours.tz_localize(None) == pd.Timestamp("2013-10-27 02:00")).sum() == 1
        return
    pd.testing.assert_frame_equal(sort_frame(again.to_frame()), sort_frame(traffic.to_frame()), check_dtype=False)


@given(st.sampled_from(ZONES), st.dates(pd.Timestamp("2013-01-01").date(), pd.Timestamp("2019-12-31").date()))
@example("Australia/Lord_Howe", pd.Timestamp("2013-04-07").date())
@example("America/Sao_Paulo", pd.Timestamp("2013-10-20").date())
@example("Europe/Rome", pd.Timestamp("2013-10-27").date())
def test_hours_across_changes_of_the_clock(zone, day):
    "Each UTC hour keeps its value; a change by half an hour is refused or kept, never shifted."
    start = pd.Timestamp(day).tz_localize(zone, ambiguous=True, nonexistent="shift_forward").tz_convert("UTC")
    hours = pd.date_range(start, periods=50, freq="h").tz_convert(zone)
    stations = pd.DataFrame({"lon": [9.1], "lat": [45.4]}, index=[1])
    values = np.arange(50.0)[None, :, None]
    traffic = Traffic.from_array(values, stations, hours, ["net"], zone, "MB")
    assert (traffic.hours == hours).all()
    frame = traffic.to_frame()
    assert (frame["time"].dt.tz_convert("UTC").to_numpy() == hours.tz_convert("UTC").to_numpy()).all()
    try:
        again = read_traffic(frame, zone, stations)
    except InputError as error:
        assert "full hour" in str(error) and frame["time"].dt.minute.any()
        return
    assert again.values("net").ravel().tolist() == values.ravel().tolist()
    assert (again.hours == hours).all()


@given(st.lists(IDS, min_size=1, max_size=5, unique=True))
@example(["007", "7"])
@example(["4E2", "400"])
@example(["NA", "nan"])
@example(["9007199254740993", "9007199254740992"])
@example(["99999999999999999999", "99999999999999999998"])
@example(["True", "False"])
@example(["塔一", "ñandú"])
def test_ids_stay_as_the_file_says(tmp_path_factory, ids):
    "Stations keep the text of their ids, in the station file and in the traffic file."
    folder = tmp_path_factory.mktemp("ids")
    lines = ["id,lon,lat", *(f"{name},9.{number},45.4" for number, name in enumerate(ids))]
    (folder / "stations.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert read_stations(folder / "stations.csv").index.astype(str).tolist() == ids
    rows = ["station,time,value", *(f"{name},2013-11-01 00:00,{number}" for number, name in enumerate(ids))]
    (folder / "traffic.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    traffic = read_traffic(folder / "traffic.csv", "Europe/Rome", folder / "stations.csv")
    found = dict(zip(traffic.stations.index.astype(str), traffic.values("value").ravel().tolist()))
    assert found == {name: float(number) for number, name in enumerate(ids)}


SLOT_MS, FIRST_MS = 600_000, 1_383_260_400_000  # midnight of 2013-11-01 in Rome
RECORDS = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 30]),
        st.integers(0, 6 * 48 - 1),
        st.sampled_from([0, 39, 33]),
        st.lists(st.one_of(st.none(), st.integers(0, 1000).map(lambda k: k / 8)), min_size=5, max_size=5),
    ),
    min_size=1,
    max_size=120,
    unique_by=lambda row: row[:3],
)


def record_lines(rows):
    lines = []
    for station, slot, country, values in rows:
        texts = ["" if value is None else str(value) for value in values]
        lines.append("\t".join([str(station), str(FIRST_MS + SLOT_MS * slot), str(country), *texts]).rstrip("\t"))
    return lines


@given(RECORDS)
def test_sums_of_records_equal_a_groupby(tmp_path_factory, rows):
    rows = [row for row in rows if any(value is not None for value in row[3])]
    assume(rows)
    days = pd.Series([slot // 144 for _, slot, _, _ in rows]).value_counts()
    assume(days.min() >= 0.01 * days.max())
    path = tmp_path_factory.mktemp("records") / "day.txt"
    path.write_text("\n".join(record_lines(rows)) + "\n")
    stations = pd.DataFrame({"lon": [9.1, 9.2, 9.3], "lat": 45.4}, index=[1, 2, 30])
    traffic, report = ingest_cdr([path], stations)
    table = pd.DataFrame(
        [(s, pd.Timestamp(FIRST_MS + slot * SLOT_MS, unit="ms", tz="UTC"), *v) for s, slot, _, v in rows],
        columns=["station", "time", *SERVICES],
    ).astype(dict.fromkeys(SERVICES, float))
    sums = table.groupby(["station", table["time"].dt.floor("h")])[list(SERVICES)].sum(min_count=1)
    found = traffic.to_frame().dropna().assign(time=lambda rows: rows["time"].dt.tz_convert("UTC"))
    found = found.set_index(["station", "time", "service"])["value"].sort_index()
    expected = sums.rename_axis(columns="service").stack().dropna().sort_index()
    assert found.index.equals(expected.index) or set(found.index) == set(expected.index)
    np.testing.assert_allclose(found.to_numpy(float), expected.reindex(found.index).to_numpy(float), rtol=1e-6)
    assert report.to_dict()["lines"] == len(rows) and report.to_dict()["lines_quarantined"] == 0


@given(RECORDS, st.randoms(use_true_random=False))
def test_the_order_of_lines_and_files_does_not_matter(tmp_path_factory, rows, random):
    lines = [line for line, row in zip(record_lines(rows), rows) if any(value is not None for value in row[3])]
    assume(lines)
    days = pd.Series([int(line.split("\t")[1]) // (144 * SLOT_MS) for line in lines]).value_counts()
    assume(days.min() >= 0.01 * days.max())
    folder = tmp_path_factory.mktemp("order")
    stations = pd.DataFrame({"lon": [9.1, 9.2, 9.3], "lat": 45.4}, index=[1, 2, 30])
    (folder / "a.txt").write_text("\n".join(lines) + "\n")
    random.shuffle(lines)
    (folder / "b.txt").write_text("\n".join(lines) + "\n")
    one, other = (ingest_cdr([folder / name], stations)[0] for name in ("a.txt", "b.txt"))
    assert one.dataset.identical(other.dataset)


@given(st.integers(1, 5), st.integers(1, 4), st.sampled_from([24, 168]), st.integers(0, 2**32 - 1), st.booleans())
@example(1, 1, 24, 0, True)
def test_scaling_and_back(n_stations, n_periods, length, seed, has_constant):
    "Between 0 and 1 on the training values, and back to the volumes; a constant station is refused."
    rng = np.random.default_rng(seed)
    values = rng.gamma(1, rng.uniform(0.01, 1e6), (n_stations, n_periods, length)).astype("float32")
    values[rng.random(values.shape) < 0.2] = np.nan
    values[:, 0, 0] = rng.uniform(0, 10, n_stations)
    if has_constant:
        values[0] = 7
    if (np.nanmin(values, (1, 2)) == np.nanmax(values, (1, 2))).any():
        with pytest.raises(ValueError, match="constant in training and have no scale"):
            StationScaler.fit(values)
        return
    scaler = StationScaler.fit(values)
    row = np.repeat(np.arange(n_stations), n_periods)
    flat = values.reshape(-1, length)
    scaled = scaler.transform(flat, row)
    assert np.nanmin(scaled) >= 0 and np.nanmax(scaled) <= 1
    limit = 1e-6 * np.nanmax(values, (1, 2))[row, None]
    assert (np.abs(scaler.inverse_transform(scaled, row) - flat) <= limit)[np.isfinite(flat)].all()
    assert (np.isnan(scaled) == np.isnan(flat)).all()


@given(traffics(min_hours=60), st.sampled_from(ZONES[:2]))
def test_datasets_hold_every_period_of_every_station(traffic, zone):
    traffic = Traffic(traffic.dataset.assign_attrs(timezone=zone))
    service = traffic.services[0]
    try:
        periods = split_into_periods(traffic, service)
    except ValueError:
        days = pd.Series(1, traffic.hours).groupby(traffic.hours.tz_localize(None).normalize()).sum()
        assert (days != 24).all()
        return
    assert (hour_of_week(periods.hours) == periods.hour_of_week.ravel()).all()
    frame = traffic.to_frame(service).set_index(["station", "time"])["value"]
    for (row, station), (number, day) in product(enumerate(periods.station), enumerate(periods.days)):
        hours = pd.date_range(day, periods=24, freq="h")
        np.testing.assert_array_equal(periods.values[row, number], frame.loc[station].reindex(hours).to_numpy())
    part = periods.isel(slice(None, None, -1))
    np.testing.assert_array_equal(part.values, periods.values[:, ::-1])
    assert (part.days == periods.days[::-1]).all() and (part.hour_of_week == periods.hour_of_week[::-1]).all()
    if len(periods.days) > 1:
        train, test = split_last(periods, 1)
        np.testing.assert_array_equal(np.concatenate([train.values, test.values], axis=1), periods.values)
    known = np.isfinite(periods.values).any((1, 2))
    periods = periods.sel_stations(np.flatnonzero(known))
    assume(known.any())
    scaler = StationScaler.fit(periods.values)
    n = len(periods.station)
    samples = make_dataset(periods, scaler, torch.arange(n)[:, None].float(), torch.zeros(168, 2))
    expected = (periods.values - scaler.min_[:, None, None]) / scaler.range_[:, None, None]
    np.testing.assert_allclose(samples.cube.numpy(), expected, rtol=1e-6, atol=1e-7)
    assert samples.condition.station.tolist() == np.repeat(np.arange(n), len(periods.days)).tolist()
    complete = samples.drop_incomplete()
    assert len(complete) == int(np.isfinite(periods.values).all(2).sum())
    chosen = samples.sel_stations(np.array([n - 1]))
    np.testing.assert_array_equal(chosen.cube[0].numpy(), samples.cube[n - 1].numpy())


def check_calendar(zone, first, n_more, length):
    "Every hour of the local days stands once, and has a generated hour of the same hour of the week."
    last = first + timedelta(days=n_more)
    hours, position, week = make_calendar(first, last, zone, length)
    assert (np.diff(hours.as_unit("ns").asi8) == 3_600_000_000_000).all()
    local = hours.tz_localize(None)
    per_day = pd.Series(1, hours).groupby(local.normalize()).sum()
    assert per_day.index.equals(pd.date_range(first, last, unit=per_day.index.unit))
    assert per_day.isin([23, 24, 25]).all()
    assert (position >= 0).all(), "an hour without a generated one"
    assert (week.ravel()[position] == hour_of_week(hours)).all()


@given(
    st.sampled_from([zone for zone in ZONES if zone != "Australia/Lord_Howe"]),
    st.dates(pd.Timestamp("2011-01-01").date(), pd.Timestamp("2030-12-31").date()),
    st.integers(0, 20),
    st.sampled_from([24, 168]),
)
@example("Europe/Rome", pd.Timestamp("2013-10-27").date(), 0, 24)
@example("Europe/Rome", pd.Timestamp("2014-03-30").date(), 0, 168)
@example("America/Sao_Paulo", pd.Timestamp("2013-10-20").date(), 0, 24)
@example("Asia/Kolkata", pd.Timestamp("2013-10-06").date(), 3, 168)
def test_calendars_hold_every_hour_of_the_days_once(zone, first, n_more, length):
    check_calendar(zone, pd.Timestamp(first), n_more, length)


@pytest.mark.parametrize("day", ["2013-10-06", "2013-04-07"])
def test_calendar_where_the_clock_changes_by_half_an_hour(day):
    try:
        check_calendar("Australia/Lord_Howe", pd.Timestamp(day), 1, 24)
    except InputError:
        pass  # a refusal is right too


@given(
    st.integers(2, 60),
    st.floats(0.05, 0.95),
    st.floats(0.2, 20),
    st.floats(0, 3),
    st.integers(0, 1000),
)
def test_splits_are_disjoint_and_complete(n, fraction, block_km, buffer_km, seed):
    rng = np.random.default_rng(seed)
    stations = pd.DataFrame({"lon": rng.uniform(9, 9.3, n), "lat": rng.uniform(45, 45.3, n)})
    try:
        split = split_stations(stations, fraction, block_km, buffer_km, seed)
    except ValueError as error:
        assert "one block" in str(error) or "leaves none" in str(error)
        return
    assert sorted(np.concatenate(split).tolist()) == list(range(n))
    assert len(split.train) and len(split.test)


@given(st.dates(pd.Timestamp("2013-01-01").date(), pd.Timestamp("2016-12-31").date()), st.integers(1, 400))
def test_periods_lie_within_days(day, n_hours):
    "A day of 23 or 25 hours is no period of 24."
    hours = pd.date_range(pd.Timestamp(day, tz="Europe/Rome"), periods=n_hours, freq="h")
    try:
        index = period_index(hours)
    except ValueError:
        index = np.zeros((0, 24), int)
    local = hours.tz_localize(None)
    whole = pd.Series(np.arange(n_hours)).groupby(local.normalize()).agg(["first", "size"])
    expected = whole["first"][whole["size"] == 24].tolist()
    found = index[:, 0].tolist()
    assert found == [start for start in expected if local[start].hour == 0]
