"The simulated city: readable, repeatable, of any size, and near enough to Milan."

import itertools

import numpy as np
import pandas as pd
import pytest
from conftest import SHARED, needs_data

from stouter.data.autocorrelation import autocorrelation
from stouter.data.cdr import ingest_cdr
from stouter.data.city_model import draw_city, draw_day, effective_weekday, innovation, make_rng, service_levels
from stouter.data.pois import count_pois, read_pois
from stouter.data.simulated_city import row_records, simulate_city
from stouter.data.stations import read_grid
from stouter.patterns import describe_patterns, hour_of_week_cv, weekend_ratio


def read(city):
    grid = read_grid(city.grid)
    return *ingest_cdr(city.records, grid[["lon", "lat"]]), grid


def files(city):
    return [*city.records, city.grid, city.pois, city.truth]


def contents(city):
    return [path.read_bytes() for path in files(city)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    "Four weeks of 100 stations, and what the reader makes of them."
    city = simulate_city(tmp_path_factory.mktemp("demo"))
    return city, *read(city)


def test_same_seed_same_bytes(tmp_path):
    first, second, other = (
        simulate_city(tmp_path / name, 30, 2, seed=seed) for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert contents(first) == contents(second)
    assert [path.name for path, a, b in zip(files(first), contents(first), contents(other)) if a == b] == [
        "grid.geojson"
    ]


def test_a_longer_run_begins_with_the_same_bytes(tmp_path):
    short, long = (simulate_city(tmp_path / str(days), 30, days) for days in (2, 4))
    assert contents(short) == contents(long)[:2] + contents(long)[4:]


def test_rows_are_independent_of_what_is_drawn_with_them():
    model = draw_city(47, make_rng(0))
    levels = service_levels(model, make_rng(0))
    day, _ = draw_day(
        model, innovation(model.shape, make_rng(1))[:, :47], pd.Timestamp("2013-11-04", tz="Europe/Rome"), make_rng(2)
    )
    rows = list(model.rows())
    forwards = {row: row_records(model, levels, day, row, cells, make_rng(0, 3, 0, row)) for row, cells in rows}
    backwards = {
        row: row_records(model, levels, day, row, cells, make_rng(0, 3, 0, row)) for row, cells in reversed(rows)
    }
    assert all(forwards[row].equals(backwards[row]) for row in forwards)
    assert not forwards[0].select(["internet"]).equals(forwards[1].select(["internet"]))
    together = np.concatenate([forwards[row]["station"].unique().to_numpy() for row in range(len(rows))])
    assert together.tolist() == list(range(1, 48))


def test_streams_of_different_names_never_coincide():
    names = [(seed, *rest) for seed in range(3) for n in range(4) for rest in itertools.product(range(3), repeat=n)]
    assert len({make_rng(*name).random() for name in names}) == len(names)


def test_every_line_is_read(demo):
    city, traffic, report, grid = demo
    assert report.to_dict()["lines_quarantined"] == 0 and report.to_dict()["lines"] == sum(
        p.read_bytes().count(b"\n") for p in city.records
    )
    assert (report.stations, report.hours, len(report.files)) == (100, 28 * 24, 28)
    assert (count_pois(read_pois(city.pois), grid).to_numpy().sum(axis=1) > 0).mean() > 0.3


def test_a_city_of_one_station(tmp_path):
    city = simulate_city(tmp_path, 1, 3)
    traffic, report, grid = read(city)
    assert traffic.values("internet").shape == (1, 72) and report.to_dict()["lines_quarantined"] == 0
    assert count_pois(read_pois(city.pois), grid).to_numpy().sum() >= 1
    assert np.nanmean(traffic.values("internet")) > 0


@pytest.mark.parametrize("n_stations", [2, 3, 5, 12, 101])
def test_odd_sizes(tmp_path, n_stations):
    traffic, report, _ = read(simulate_city(tmp_path, n_stations, 1))
    assert (
        traffic.stations.index.tolist() == list(range(1, n_stations + 1)) and report.to_dict()["lines_quarantined"] == 0
    )


@pytest.mark.parametrize(
    "day, hours, offset", [("2014-03-30", 23, "+02:00"), ("2014-10-26", 25, "+01:00"), ("2014-06-02", 24, "+02:00")]
)
def test_the_hours_of_a_clock_change(tmp_path, day, hours, offset):
    traffic, report, _ = read(simulate_city(tmp_path, 9, 1, first_day=day))
    assert (report.hours, report.files[0].hours) == (hours, hours)
    assert report.files[0].first.startswith(f"{day}T00:00:00") and report.files[0].last == f"{day}T23:00:00{offset}"


def test_a_holiday_is_like_a_sunday(tmp_path):
    "All Saints 2013, a Friday: the profile of office cells is nearer to Sunday's than to any other Friday's."
    city = simulate_city(tmp_path, 100, 11, seed=1)
    traffic, _, _ = read(city)
    office = pd.read_csv(city.truth, index_col="station").office.nlargest(8).index
    days = traffic.select(stations=office).values("internet").reshape(8, 11, 24)
    holiday, sunday, friday = np.nanmean(days[:, [0, 2, 7]], axis=0)
    assert np.abs(holiday - sunday).sum() < 0.5 * np.abs(holiday - friday).sum()
    assert 0.6 * friday.sum() > holiday.sum()


@pytest.mark.parametrize(
    "day, weekday",
    [
        ("2013-11-01", 0),
        ("2013-12-25", 0),
        ("2013-12-26", 0),
        ("2014-01-01", 0),
        ("2014-01-06", 0),
        ("2024-04-01", 0),
        ("2025-04-21", 0),
        ("2013-12-27", 6),
        ("2013-12-29", 0),
        ("2013-11-04", 1),
        ("2013-11-09", 6),
        ("2014-01-07", 2),
    ],
)
def test_the_calendar(day, weekday):
    assert effective_weekday(pd.Timestamp(day)) == weekday


@needs_data
def test_its_patterns_are_within_milans(demo):
    "Medians of 100 stations within the 10 to 90 % range of 28 real squares over the same four weeks."
    _, traffic, _, _ = demo
    squares = read_grid(SHARED / "grids/milano-grid.geojson")[["lon", "lat"]]
    milan, _ = ingest_cdr(sorted(SHARED.glob("milan_28cells_30days/*.gz"))[:28], squares)
    for measure in (
        weekend_ratio,
        hour_of_week_cv,
        lambda v, h: autocorrelation(v, 24)[:, 24],
        lambda v, h: autocorrelation(v, 168)[:, 168],
    ):
        real, simulated = (measure(t.values("internet"), t.hours) for t in (milan, traffic))
        low, high = np.quantile(real, [0.1, 0.9])
        assert low < np.median(simulated) < high
    real, simulated = (describe_patterns(t.values("internet"), t.hours) for t in (milan, traffic))
    ratio = simulated / real
    assert (
        ratio[
            [
                "explained by hour of day",
                "explained by hour of week",
                "residual spread (log)",
                "one hour of the week, variation",
            ]
        ]
        .between(0.75, 1.33)
        .all()
    )


@needs_data
def test_its_levels_are_those_of_milan():
    totals = pd.read_csv(SHARED / "milan_context/square_totals_2mo.csv").internet / (62 * 144)
    level = draw_city(10_000, make_rng(0)).level
    quantiles = [0.01, 0.1, 0.5, 0.9, 0.99]
    assert np.abs(np.log(np.quantile(level, quantiles) / np.quantile(totals, quantiles))).max() < 0.3
