"Patterns: the same numbers computed independently, gaps, and real squares."

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import SHARED, needs_data

from stouter.data.autocorrelation import autocorrelation
from stouter.patterns import (
    correlation_by_distance,
    describe_patterns,
    explained_variance,
    hour_of_week_cv,
    log_seasonal_residuals,
    plot_autocorrelation,
    plot_daily_means,
    plot_hour_of_week_range,
    plot_weeks,
    tail_index,
    weekend_ratio,
    weekly_profile,
)

HOURS = pd.date_range("2013-11-01", periods=28 * 24, freq="h", tz="Europe/Rome")


@pytest.fixture
def volumes():
    rng = np.random.default_rng(0)
    rhythm = 2 + np.sin(2 * np.pi * HOURS.hour.to_numpy() / 24) * np.where(HOURS.day_of_week < 5, 1, 0.4)
    return rng.lognormal(2, 1, (12, 1)) * rhythm * np.exp(0.2 * rng.standard_normal((12, len(HOURS))))


@pytest.fixture
def stations():
    return pd.DataFrame({"lon": 9 + 0.003 * np.arange(12), "lat": 45.4})


def test_autocorrelation_with_gaps_is_the_sum_over_pairs(volumes):
    volumes[np.random.default_rng(1).random(volumes.shape) < 0.3] = np.nan
    fast = autocorrelation(volumes, 168)
    for row in (0, 7):
        z = volumes[row] - np.nanmean(volumes[row])
        for lag in (1, 24, 168):
            assert fast[row, lag] == pytest.approx(np.nanmean(z[lag:] * z[:-lag]) / np.nanmean(z * z), abs=1e-9)


def test_profiles_and_ratios_agree_with_pandas(volumes):
    volumes[np.random.default_rng(1).random(volumes.shape) < 0.1] = np.nan
    frame = pd.DataFrame(volumes.T, index=HOURS)
    weekday = (HOURS.day_of_week + 1) % 7
    groups = frame.groupby([weekday, HOURS.hour])
    np.testing.assert_allclose(weekly_profile(volumes, HOURS), (groups.mean() / frame.mean()).T, rtol=1e-9)
    np.testing.assert_allclose(
        weekend_ratio(volumes, HOURS),
        frame[HOURS.day_of_week >= 5].mean() / frame[HOURS.day_of_week < 5].mean(),
        rtol=1e-9,
    )
    np.testing.assert_allclose(hour_of_week_cv(volumes, HOURS), (groups.std() / groups.mean()).mean(), rtol=1e-9)
    rest = frame - frame.groupby(HOURS.hour).transform("mean")
    np.testing.assert_allclose(
        explained_variance(volumes, HOURS.hour.to_numpy()), 1 - rest.var(ddof=0) / frame.var(ddof=0), rtol=1e-9
    )


def test_units_change_nothing_but_levels(volumes):
    a, b = describe_patterns(volumes, HOURS), describe_patterns(1000 * volumes, HOURS)
    pd.testing.assert_series_equal(a, b, rtol=1e-9)


def test_order_of_stations_does_not_matter(volumes, stations):
    order = np.random.default_rng(0).permutation(12)
    rest = log_seasonal_residuals(volumes, HOURS)
    a, b = (correlation_by_distance(r, s) for r, s in ((rest, stations), (rest[order], stations.iloc[order])))
    pd.testing.assert_frame_equal(a, b)
    pd.testing.assert_series_equal(describe_patterns(volumes, HOURS), describe_patterns(volumes[order], HOURS))


def test_correlation_by_distance_counts_each_pair_both_ways(volumes, stations):
    table = correlation_by_distance(volumes, stations, edges=(0, 100))
    exact = np.corrcoef(volumes)[np.triu_indices(12, 1)].mean()
    assert table.pairs.tolist() == [12 * 11] and table.correlation[0] == pytest.approx(exact, abs=1e-9)


def test_many_stations_are_sampled_evenly():
    rng = np.random.default_rng(0)
    many = pd.DataFrame({"lon": rng.uniform(9, 9.1, 2_000), "lat": rng.uniform(45, 45.1, 2_000)})
    common = rng.standard_normal(400)
    table = correlation_by_distance(common + rng.standard_normal((2_000, 400)), many, edges=(0, 2, 5, 20))
    assert table.pairs.sum() == 300 * 1999 and np.abs(table.correlation - 0.5).max() < 0.02


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda v: plot_autocorrelation({"a": v[0]}, 24), "stations x hours, got shape"),
        (lambda v: autocorrelation(v, 28 * 24), "lag from 1 to 671"),
        (lambda v: weekly_profile(v, HOURS[:-1]), "for 671 hours"),
        (lambda v: hour_of_week_cv(v[:, :300], HOURS[:300]), "two weeks"),
        (lambda v: correlation_by_distance(v, pd.DataFrame({"lon": [9.0], "lat": [45.0]})), "positions of 1"),
        (lambda v: tail_index(np.array([1.0, 0.0, 2.0])), "three positive levels"),
    ],
)
def test_the_error_names_what_was_expected(volumes, call, words):
    with pytest.raises(ValueError, match=words):
        call(volumes)


def test_a_missing_hour_and_a_constant_station_do_not_change_the_others(volumes, recwarn):
    broken = volumes.copy()
    broken[:, 100], broken[3] = np.nan, 5.0
    others = np.delete(np.arange(12), 3)
    r = autocorrelation(broken, 24)
    assert np.isnan(r[3]).all() and np.isfinite(r[others]).all()
    assert np.isfinite(weekend_ratio(broken, HOURS)).all() and np.isfinite(weekly_profile(broken, HOURS)).all()
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_plots_draw_on_the_axes_they_are_given(volumes):
    figure, axes = plt.subplots(1, 4)
    drawn = [
        plot_daily_means(volumes[:2], HOURS, ["a", "b"], axes[0]),
        plot_weeks(volumes, HOURS, 0, axes[1]),
        plot_hour_of_week_range(volumes, HOURS, 0, axes[2]),
        plot_autocorrelation({"a": volumes, "b": volumes[:3]}, 48, axes[3]),
    ]
    assert all(ax is given and ax.get_xlabel() and ax.get_ylabel() for ax, given in zip(drawn, axes))
    assert len(axes[3].lines) == 2 and len(figure.axes) == 4
    plt.close(figure)


@needs_data
def test_square_4159_has_all_three_patterns():
    slots = pd.read_csv(SHARED / "milan_context/ts_full_square_4159.csv")
    clock = pd.to_datetime(slots.time_ms, unit="ms", utc=True).dt.tz_convert("Europe/Rome").dt.floor("h")
    series = slots.groupby(clock).internet.sum()[:"2013-12-15"]
    values, hours = series.to_numpy()[None], pd.DatetimeIndex(series.index)
    r = autocorrelation(values, 168)[0]
    assert r[168] > r[96:145:24].max() > 0.3  # the peak at a week is above those at four to six days
    assert weekend_ratio(values, hours)[0] < 0.65
    assert 0.05 < hour_of_week_cv(values, hours)[0] < 0.4
