"Realism and forecasts for arrays of any generator: other libraries' numbers, other orders, gaps, constant series."

import numpy as np
import pandas as pd
import pytest
import torch
from esda.moran import Moran
from libpysal.weights import KNN, WSP
from scipy.stats import pearsonr

from stouter.data.stations import to_ecef
from stouter.evaluation.forecasting import WindowDataset, case_study, forecast_errors, seasonal_naive, train_forecaster
from stouter.evaluation.memorization import memorization_metrics
from stouter.evaluation.realism import REALISM_GOALS, RealismEvaluator, realism_metrics
from stouter.evaluation.spatial import correlogram, distance_bins, knn_weights, morans_i, spatial_metrics
from stouter.evaluation.temporal import temporal_metrics
from stouter.evaluation.two_sample_tests import two_sample_metrics

N, D = 40, 14
CLOCK = np.arange(D * 24).reshape(D, 24) % 168
# metrics with a random part: subsamples, samples, folds or halves
RANDOM = {"c2st_auc", "c2st_auc_real", "mmd_squared", "frechet_distance", "nn_distance_ratio", "membership_auc"}


@pytest.fixture(scope="module")
def city():
    "Two weeks of a city, two weeks before, four samples, positions."
    rng = np.random.default_rng(0)
    shape = 0.5 + 0.3 * np.sin(2 * np.pi * (np.arange(24) - 9) / 24)

    def draw(*size):
        return (shape + 0.1 * rng.normal(size=(*size, D, 24))).astype(np.float32)

    return {
        "real": draw(N),
        "generated": draw(4, N),
        "hour_of_week": CLOCK,
        "train": draw(N),
        "positions": rng.uniform(9, 9.2, (N, 2)),
    }


def test_every_metric_has_a_goal_and_is_computed(city):
    assert set(realism_metrics(**city)) == set(REALISM_GOALS)
    assert set(REALISM_GOALS.values()) == {"lower", 0.5, 1.0, None}


def test_same_seed_same_numbers(city):
    assert realism_metrics(**city, seed=3, n_days=200) == realism_metrics(**city, seed=3, n_days=200)
    assert (
        realism_metrics(**city, seed=3, n_days=200)["mmd_squared"]
        != realism_metrics(**city, seed=4, n_days=200)["mmd_squared"]
    )


def test_one_evaluator_for_all_methods_changes_no_number(city):
    real, clock, past = city["real"], city["hour_of_week"], city["train"]
    methods = [
        city["generated"],
        city["generated"][::-1] ** 2,
        np.broadcast_to(past.mean(1, keepdims=True), city["generated"].shape),
    ]
    evaluator = RealismEvaluator(real, clock, past, city["positions"], n_samples=4, seed=3, n_days=200)
    for generated in methods:
        spatial_rng, pairs_rng, memorization_rng = (np.random.default_rng([3, group]) for group in range(3))
        alone = {
            **temporal_metrics(real, generated, clock),
            **spatial_metrics(real, generated, clock, city["positions"], spatial_rng),
            **two_sample_metrics(real, generated, clock, pairs_rng, 200),
            **memorization_metrics(real, generated, clock, past, memorization_rng, 100),
        }
        assert evaluator.evaluate(generated) == alone
        assert realism_metrics(**{**city, "generated": generated}, seed=3, n_days=200) == alone


def test_another_number_of_samples_keeps_the_floor(city):
    real, clock, past = city["real"], city["hour_of_week"], city["train"]
    evaluator = RealismEvaluator(real, clock, past, city["positions"], n_samples=4, seed=3, n_days=200)
    other = RealismEvaluator(real, clock, past, city["positions"], n_samples=2, seed=3, n_days=200)
    two = evaluator.evaluate(city["generated"][:2])
    assert two["c2st_auc_real"] == evaluator.floor == evaluator.pairs_for(2).real_auc
    assert two | {"c2st_auc_real": other.floor} == other.evaluate(city["generated"][:2])


def test_order_of_stations_does_not_matter(city):
    order = np.random.default_rng(1).permutation(N)
    other = {
        name: x[:, order] if name == "generated" else x if name == "hour_of_week" else x[order]
        for name, x in city.items()
    }
    one, two = realism_metrics(**city), realism_metrics(**other)
    for name in set(REALISM_GOALS) - RANDOM:
        assert two[name] == pytest.approx(one[name], rel=1e-5, abs=1e-9), name
    for name in RANDOM:
        assert two[name] == pytest.approx(one[name], abs=0.08), name


def test_weeks_are_days(city):
    as_weeks = {name: x if name == "positions" else x.reshape(*x.shape[:-2], 2, 168) for name, x in city.items()}
    assert realism_metrics(**as_weeks, n_days=200) == realism_metrics(**city, n_days=200)


def test_only_measured_hours_count(city):
    "Generated values where the real hour is missing change nothing."
    rng = np.random.default_rng(2)
    real = np.where(rng.random((N, D, 24)) < 0.02, np.nan, city["real"])
    is_observed = np.isfinite(real)
    wild = np.where(is_observed, city["generated"], 1e3)
    one, two = (
        realism_metrics(**{**city, "real": real, "generated": g}, n_days=200) for g in (city["generated"], wild)
    )
    touched = {"nn_distance_ratio", "membership_auc", "diversity"}  # these use complete generated days
    assert {k: v for k, v in one.items() if k not in touched} == {k: v for k, v in two.items() if k not in touched}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0.0, 0.7], ids=["zero", "constant"])
def test_constant_stations(city, value):
    real, generated = city["real"].copy(), city["generated"].copy()
    real[:5], generated[:, :5] = value, value
    found = realism_metrics(**{**city, "real": real, "generated": generated}, n_days=200)
    assert set(found) == set(REALISM_GOALS) and np.isfinite(list(found.values())).all()


def test_a_constant_city(city):
    still = realism_metrics(
        np.zeros((N, D, 24)), np.zeros((4, N, D, 24)), CLOCK, np.zeros((N, D, 24)), city["positions"], n_days=100
    )
    undefined = {"day_boundary_ratio", "day_of_week_error", "frechet_distance", "nn_distance_ratio", "diversity"}
    for name, way in REALISM_GOALS.items():
        assert way != "lower" or name in undefined or abs(still[name]) < 1e-12, name
    assert not undefined & set(still)  # each would be a division by zero


def test_one_sample_one_day_one_station(city):
    one_day = realism_metrics(
        city["real"][:, :1], city["generated"][:1, :, :1], CLOCK[:1], city["train"], city["positions"]
    )
    assert not {"day_boundary_ratio", "day_boundary_w1", "diversity"} & set(one_day) and {
        "acf_mae",
        "nn_distance_ratio",
    } <= set(one_day)
    one_station = realism_metrics(
        city["real"][:1], city["generated"][:, :1], CLOCK, city["train"][:1], city["positions"][:1]
    )
    assert not {"moran_mae", "c2st_auc"} & set(one_station) and {"diversity", "mmd_squared"} <= set(one_station)


def test_trivial_methods_have_the_expected_weaknesses(city):
    rng = np.random.default_rng(3)
    average = np.broadcast_to(city["train"].mean(1, keepdims=True), (4, N, D, 24))
    old = city["train"][np.arange(N)[:, None], rng.integers(D, size=(4, N, D))]
    honest, flat, copied = (realism_metrics(**{**city, "generated": g}) for g in (city["generated"], average, old))
    assert copied["nn_distance_ratio"] == 0 and copied["membership_auc"] > 0.99
    assert flat["diversity"] == 0 and flat["c2st_auc"] > 0.99
    assert honest["nn_distance_ratio"] == pytest.approx(1, abs=0.05) and honest["c2st_auc"] == pytest.approx(
        honest["c2st_auc_real"], abs=0.08
    )


def test_moran_is_that_of_esda():
    rng = np.random.default_rng(0)
    positions = rng.uniform([9, 45], [9.2, 45.2], (80, 2))
    x, ours = rng.normal(size=(80, 5)), knn_weights(positions, k=6)
    theirs = WSP(ours.tocoo()).to_W(silence_warnings=True)
    for column, value in zip(x.T, morans_i(x, ours)):
        assert value == pytest.approx(Moran(column, theirs, transformation="O", permutations=0).I, rel=1e-9)
    neighbours = KNN.from_array(to_ecef(*positions.T), k=6).neighbors
    assert all(set(neighbours[i]) == set(ours.indices[ours.indptr[i] : ours.indptr[i + 1]]) for i in range(80))


def test_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    x, positions = rng.normal(size=(12, 100)), rng.uniform(0, 0.1, (12, 2))
    _, bin_of_pair = distance_bins(positions, 3)
    pairs = np.array([pearsonr(x[i], x[j])[0] for i in range(12) for j in range(i + 1, 12)])
    np.testing.assert_allclose(correlogram(x, bin_of_pair, 3), [pairs[bin_of_pair == k].mean() for k in range(3)])


def test_a_forecaster_leaves_the_global_random_state_alone():
    series = np.random.default_rng(0).random((4, 100))
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train_forecaster(series, seed=1, n_updates=2)
    assert torch.equal(torch.rand(3), expected)


def test_real_data_as_synthetic_gives_trtr():
    real = np.random.default_rng(0).random((6, 14 * 24)).astype(np.float32)
    real[2, 30] = np.nan
    table = case_study(real, {"same": real[:, :-168]}, seeds=(0, 1, 2), n_updates=5).set_index(["protocol", "seed"])[
        ["MAE", "RMSE"]
    ]
    pd.testing.assert_frame_equal(table.loc["TSTR"], table.loc["TRTR"], check_exact=True)
    assert table.loc["TRTR"].MAE.nunique() == 3  # seeds differ


def test_the_test_week_is_not_in_the_training():
    real = np.random.default_rng(0).random((6, 21 * 24)).astype(np.float32)
    other = real.copy()
    other[:, -168:] = 5  # another test week
    seen = []
    for series in (real, other):
        table = case_study(series, {"fixed": real[:, :-168]}, seeds=(0,), n_updates=5).set_index("protocol")
        seen.append(table.loc["TRTS", "MAE"])  # trained on real traffic, tested on a fixed series
    assert seen[0] == seen[1]


def test_targets_are_all_hours_of_the_test_week_and_none_before():
    series = np.arange(300.0)[None]
    test = WindowDataset(series[:, 300 - 168 - 48 :])
    targets = {int(hour) for k in range(len(test)) for hour in test[torch.tensor([k])][1].flatten()}
    assert targets == set(range(300 - 168, 300))


def test_naive_is_exact_on_a_periodic_series():
    week = np.tile(np.random.default_rng(0).random((3, 168)).astype(np.float32), 4)
    assert case_study(week, {}, seeds=(0,), n_updates=2).set_index("protocol").loc[
        "seasonal naive", ["MAE", "RMSE"]
    ].tolist() == [0, 0]
    assert forecast_errors(seasonal_naive(24), WindowDataset(week, history=48))[0] > 0.2
