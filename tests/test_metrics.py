"Every metric of evaluation: closed forms, oracles, invariances, missing hours and refused input."

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scoringrules
from conftest import ROOT, SHARED, needs_data
from scipy.stats import norm, wasserstein_distance

from stouter.evaluation.calibration import (
    distance_from_uniform,
    interval_coverage,
    interval_width,
    max_coverage,
    pit_error,
    pit_histogram,
)
from stouter.evaluation.marginals import jsd_pooled, quantile_error, wasserstein
from stouter.evaluation.metrics import COVERAGE_LEVELS, METRIC_GOALS, METRICS, PAIRED_METRICS, metric_goals, score
from stouter.evaluation.proper_scores import crps, energy_score, variogram_score
from stouter.evaluation.real_baselines import REAL_OTHER_DAY, REAL_SAME_DAY, real_baseline_rows, sample_replacement_days
from stouter.evaluation.score_card import difference, score_card, tidy_scores, to_markdown, to_tidy
from stouter.evaluation.streaming import iter_batches

OF_THE_BAND = {*COVERAGE_LEVELS, "interval_width_80"}
ZERO_AT_EQUALITY = sorted(set(METRICS) - set(COVERAGE_LEVELS))


def pair(n_samples=5, n_days=30, length=24, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return rng.gamma(2, 1, (n_days, length)).astype(dtype), rng.gamma(2.5, 1, (n_samples, n_days, length)).astype(dtype)


@pytest.mark.parametrize("n_samples", [1, 2, 16])
class TestOracles:
    def test_crps(self, n_samples):
        real, fake = pair(n_samples)
        for fair, estimator in ((False, "nrg"), *(((True, "fair"),) if n_samples > 1 else ())):
            assert crps(real, fake, fair) == pytest.approx(
                scoringrules.crps_ensemble(real, fake, m_axis=0, estimator=estimator).mean()
            )

    def test_energy(self, n_samples):
        real, fake = pair(n_samples)
        for fair, estimator in ((False, "nrg"), *(((True, "fair"),) if n_samples > 1 else ())):
            oracle = scoringrules.es_ensemble(real, fake.swapaxes(0, 1), estimator=estimator).mean()
            assert energy_score(real, fake, fair) == pytest.approx(oracle)

    def test_variogram(self, n_samples):
        real, fake = pair(n_samples)
        lag = np.abs(np.arange(24)[:, None] - np.arange(24))
        weights = np.where(lag > 0, 1 / np.maximum(lag, 1), 0)
        oracle = scoringrules.vs_ensemble(
            real, fake.swapaxes(0, 1), weights / weights.sum(), p=0.5, estimator="nrg"
        ).mean()
        assert variogram_score(real, fake, fair=False) == pytest.approx(oracle)

    def test_wasserstein(self, n_samples):
        real, fake = pair(n_samples)
        assert wasserstein(real, fake) == pytest.approx(wasserstein_distance(real.ravel(), fake.ravel()))

    def test_quantiles_and_bands(self, n_samples):
        real, fake = pair(n_samples)
        assert quantile_error(real, fake, 0.99) == pytest.approx(np.quantile(fake, 0.99) / np.quantile(real, 0.99) - 1)
        low, high = np.quantile(fake, [0.25, 0.75], axis=0, method="weibull")
        assert interval_coverage(real, fake, 0.5) == pytest.approx(((low <= real) & (real <= high)).mean())
        assert interval_width(real, fake, 0.5) == pytest.approx((high - low).mean())


class TestClosedForms:
    def test_crps_of_a_gaussian(self):
        rng = np.random.default_rng(1)
        real = np.array([[-1.5, 0.0, 0.7]])
        closed = real * (2 * norm.cdf(real) - 1) + 2 * norm.pdf(real) - 1 / np.sqrt(np.pi)
        assert crps(real, rng.normal(size=(200_000, 1, 3))) == pytest.approx(closed.mean(), abs=0.005)

    @pytest.mark.parametrize("fair", [True, False])
    def test_energy_of_a_point_and_of_two(self, fair):
        real, point = np.zeros((4, 24)), np.ones((3, 4, 24))
        assert energy_score(real, point, fair) == pytest.approx(24**0.5)  # no spread: the distance
        two = np.stack([np.ones((4, 24)), -np.ones((4, 24))])
        assert energy_score(real, two, fair) == pytest.approx(24**0.5 * (0 if fair else 0.5), abs=1e-12)

    def test_the_fair_scores_do_not_depend_on_the_number_of_samples(self):
        rng = np.random.default_rng(2)
        real, fake = rng.normal(size=(6_000, 6)), rng.normal(size=(40, 6_000, 6))
        for metric in (crps, energy_score, variogram_score):
            few, many = metric(real, fake[:3]), metric(real, fake)
            assert few == pytest.approx(many, rel=0.03)
            assert metric(real, fake[:3], fair=False) > 1.1 * many

    def test_shift(self):
        real, _ = pair()
        assert wasserstein(real, real[None] + 0.25) == pytest.approx(0.25)
        assert variogram_score(real, real[None] + 0.25) == pytest.approx(0, abs=1e-12)

    def test_disjoint_supports(self):
        real, _ = pair()
        assert jsd_pooled(real, real[None] + 100) == pytest.approx(np.log(2))
        assert jsd_pooled(real, real[None] - 100) == pytest.approx(np.log(2))

    @pytest.mark.parametrize("level, n_samples", [(0.5, 3), (0.5, 16), (0.8, 9), (0.8, 16), (0.95, 16), (0.95, 39)])
    def test_coverage_of_the_truth(self, level, n_samples):
        rng = np.random.default_rng(3)
        real, fake = rng.exponential(size=(1_500, 24)), rng.exponential(size=(n_samples, 1_500, 24))
        assert interval_coverage(real, fake, level) == pytest.approx(max_coverage(level, n_samples), abs=0.02)
        assert pit_error(real, fake) < 0.02

    def test_ranks_with_ties_are_the_mean_of_drawn_ranks(self):
        rng = np.random.default_rng(4)
        real, fake = rng.integers(3, size=(200, 24)).astype(float), rng.integers(3, size=(4, 200, 24)).astype(float)
        drawn = []
        for _ in range(40):  # a little noise breaks the ties at random
            real_noise, fake_noise = 1e-3 * rng.random((200, 24)), 1e-3 * rng.random((4, 200, 24))
            drawn.append(pit_histogram(real + real_noise, fake + fake_noise))
        assert pit_histogram(real, fake) == pytest.approx(np.mean(drawn, axis=0), abs=0.003)
        assert distance_from_uniform(pit_histogram(real, fake)) < 0.02  # one distribution, so flat


class TestEveryMetric:
    @pytest.mark.parametrize("name", ZERO_AT_EQUALITY)
    def test_zero_at_equality_and_only_there(self, name):
        real, fake = pair(1)
        assert METRICS[name](real, real[None]) == pytest.approx(0, abs=1e-12)
        if name not in OF_THE_BAND:
            assert abs(METRICS[name](real, fake)) > 1e-5

    @pytest.mark.parametrize(
        "name", ["mae", "rmse", "jsd_paper", "crps", "energy_score", "wasserstein_1", "variogram_score"]
    )
    def test_symmetric_for_one_sample(self, name):
        real, fake = pair(1)
        assert METRICS[name](real, fake) == pytest.approx(METRICS[name](fake[0], real[None]))

    @pytest.mark.parametrize("dtype, rel", [(np.float64, 1e-12), (np.float32, 1e-6)])
    def test_order_of_stations_and_of_samples(self, dtype, rel):
        real, fake = pair(dtype=dtype)
        order = np.random.default_rng(5).permutation(len(real))
        reference = score(real, fake)
        for other in (score(real[order], fake[:, order]), score(real, fake[::-1])):
            assert other == pytest.approx(reference, rel=rel, abs=rel)

    def test_single_precision_agrees_with_double(self):
        real, fake = pair(16, 400, dtype=np.float32)
        assert score(real, fake) == pytest.approx(score(real.astype(float), fake.astype(float)), rel=1e-5, abs=1e-6)

    def test_one_pass_agrees_with_each_metric_alone(self):
        real, fake = pair(9, 40)
        real[real > 6] = np.nan
        assert score(real, fake) == pytest.approx(
            {name: metric(real, fake) for name, metric in METRICS.items()}, rel=1e-12
        )

    def test_the_cut_into_batches_changes_nothing(self, monkeypatch):
        real, fake = pair(9, 40)
        real[:7] = np.nan  # some batches are empty
        whole = score(real, fake)
        monkeypatch.setattr(iter_batches, "__defaults__", (9 * 24 * 3, None))
        assert sum(1 for _ in iter_batches(real, fake)) == 14
        assert score(real, fake) == pytest.approx(whole, rel=1e-12)

    def test_a_memory_map_gives_the_same_numbers(self, tmp_path):
        real, fake = pair(dtype=np.float32)
        np.save(tmp_path / "x.npy", fake)
        assert score(real, np.load(tmp_path / "x.npy", mmap_mode="r")) == score(real, fake)

    def test_directions(self):
        assert (
            set(METRICS) - set(METRIC_GOALS) == {"interval_width_80"}
            and set(METRIC_GOALS) - set(METRICS) == {"zero_share_error"}
            and set(PAIRED_METRICS) < set(METRICS)
        )
        assert {"mae", "rmse", "jsd_paper", "jsd_pooled", "crps", "coverage_80"} <= set(METRICS)
        assert metric_goals(16) == {**METRIC_GOALS, "coverage_95": 15 / 17} and metric_goals(39) == METRIC_GOALS


class TestMissingHours:
    @pytest.mark.parametrize("name", METRICS)
    def test_a_gap_is_a_shorter_day_whatever_was_generated_there(self, name):
        real, fake = pair(9)
        short = METRICS[name](real[:, :20], fake[..., :20])
        real[:, 20:], fake[..., 20:] = np.nan, np.array([np.nan, np.inf, -7, 1e30])
        assert METRICS[name](real, fake) == pytest.approx(short, rel=1e-12)

    @pytest.mark.parametrize("name", METRICS)
    def test_a_day_without_a_value_is_left_out(self, name):
        real, fake = pair(9)
        rest = METRICS[name](real[5:], fake[:, 5:])
        real[:5] = np.nan
        assert METRICS[name](real, fake) == pytest.approx(rest, rel=1e-12)

    @pytest.mark.parametrize("wrong", [np.nan, np.inf])
    def test_generated_values_must_be_finite_where_real_ones_are(self, wrong):
        real, fake = pair()
        fake[2, 7, 3] = wrong
        for function in (score, *METRICS.values()):
            with pytest.raises(
                ValueError, match="generated traffic is not finite in days 0 to 29; look at the sampler"
            ):
                function(real, fake)
        real[7, 3] = np.nan
        assert np.isfinite(list(score(real, fake).values())).all()

    @pytest.mark.parametrize("name", METRICS)
    def test_nothing_at_all(self, name):
        with pytest.raises(ValueError, match="every hour is missing"):
            METRICS[name](np.full((2, 24), np.nan), np.zeros((3, 2, 24)))

    @pytest.mark.parametrize("other", [(5, 29, 24), (5, 30, 23), (30, 24), (0, 30, 24), (1, 5, 30, 24)])
    def test_mismatched_stations_or_shapes_name_both_sides(self, other):
        real, _ = pair()
        for function in (score, *METRICS.values()):
            with pytest.raises(ValueError) as error:
                function(real, np.zeros(other))
            assert "real (30, 24)" in str(error.value) and f"generated {other}" in str(error.value)


class TestCorners:
    def test_one_sample(self):
        real, fake = pair(1)
        row = score(real, fake)
        assert row["crps"] == pytest.approx(row["mae"]) and row["interval_width_80"] == 0 and row["coverage_80"] == 0
        assert row["energy_score"] == pytest.approx(np.linalg.norm(fake[0] - real, axis=1).mean())
        assert np.isfinite(list(row.values())).all()

    @pytest.mark.parametrize("value", [0.0, 3.0])
    def test_constant_series_generated_exactly(self, value):
        real = np.full((4, 24), value)
        row = score(real, np.full((5, 4, 24), value))
        assert {name: row[name] for name in ZERO_AT_EQUALITY} == pytest.approx(
            dict.fromkeys(ZERO_AT_EQUALITY, 0.0), abs=1e-12
        )
        assert [row[name] for name in COVERAGE_LEVELS] == [1, 1, 1]

    @pytest.mark.parametrize("value", [0.0, 3.0])
    def test_constant_series_generated_wrongly(self, value):
        row = score(np.full((4, 24), value), np.full((5, 4, 24), value + 1))
        assert row["jsd_pooled"] == pytest.approx(np.log(2)) and row["wasserstein_1"] == row["mae"] == row["crps"] == 1
        assert row["q99_rel_error"] == (pytest.approx(1 / 3) if value else np.inf)
        assert row["pit_error"] == pytest.approx(5 / 6) and row["coverage_80"] == 0

    def test_one_hour(self):
        real, fake = pair(9, length=1)
        row = score(real, fake)
        assert row["energy_score"] == pytest.approx(row["crps"]) and np.isnan(row["variogram_score"])

    def test_whole_numbers(self):
        real, fake = np.arange(48).reshape(2, 24), np.arange(96).reshape(2, 2, 24)
        assert score(real, fake) == score(real.astype(float), fake.astype(float))


class TestRealAgainstReal:
    def test_rows(self):
        rng = np.random.default_rng(6)
        days, groups = rng.random((120, 24)), np.repeat(np.arange(6), 20)
        rows = real_baseline_rows(days, groups, np.arange(0, 120, 3), generator=rng)
        assert list(rows) == [REAL_OTHER_DAY, REAL_SAME_DAY]
        assert rows[REAL_SAME_DAY]["crps"] == rows[REAL_SAME_DAY]["wasserstein_1"] == 0 < rows[REAL_OTHER_DAY]["crps"]
        assert rows[REAL_OTHER_DAY]["crps"] == pytest.approx(1 / 6, abs=0.01)  # of a uniform distribution

    def test_names_of_groups_do_not_matter_and_the_generator_does(self):
        rng = np.random.default_rng(7)
        days, groups = rng.random((40, 24)), np.tile([0, 1], 20)

        def draw(groups, seed):
            return sample_replacement_days(days, groups, np.arange(40), 5, np.random.default_rng(seed))

        assert (draw(groups, 0) == draw(groups * 900 - 5, 0)).all() and (draw(groups, 0) != draw(groups, 1)).any()


class TestScoreCard:
    def table(self, n_seeds=4):
        rng = np.random.default_rng(8)
        mine, gap = rng.normal(1, 0.1, n_seeds), rng.normal(0, 0.01, n_seeds)
        losses = {
            "mine": mine,
            "twin": mine + gap - gap.mean() + 0.001,
            "worse": mine + 0.2,
            REAL_OTHER_DAY: mine - 0.5,
        }
        rows = [
            tidy_scores(
                {m: {"crps": v[k], "q99_rel_error": 0.1 - v[k] / 10, "seconds": 7.0} for m, v in losses.items()}, "d", k
            )
            for k in range(n_seeds)
        ]
        return pd.concat(rows, ignore_index=True)

    def test_marks(self):
        card = score_card(self.table())
        assert card.mark["crps"].to_dict() == {"mine": "best", "twin": "tied", "worse": "", REAL_OTHER_DAY: ""}
        assert set(card.mark["seconds"]) == {""}

    def test_pairing_detects_what_the_deviations_hide(self):
        card = score_card(self.table())
        gap = card.mean.loc["worse", "crps"] - card.mean.loc["mine", "crps"]
        assert gap < 4 * card.deviation.loc["mine", "crps"] and card.mark.loc["worse", "crps"] == ""

    def test_a_target_is_evaluated_from_both_sides(self):
        rows = [
            ("d", method, seed, "q99_rel_error", value)
            for method, value in {"low": -0.3, "high": 0.2, "exact": 0.01}.items()
            for seed in (0, 1)
        ]
        card = score_card(pd.DataFrame(rows, columns=["dataset", "method", "seed", "metric", "value"]))
        assert card.mark["q99_rel_error"].to_dict() == {"low": "", "high": "", "exact": "best"}
        assert card.loss["q99_rel_error"].to_dict() == pytest.approx({"low": 0.3, "high": 0.2, "exact": 0.01})

    def test_seeds_that_only_one_has(self):
        table = self.table()
        card = score_card(table[(table.method != "twin") | (table.seed == 0)])
        assert card.n_seeds["crps"].to_dict() == {"mine": 4, "twin": 1, "worse": 4, REAL_OTHER_DAY: 4}
        assert sorted(card.mark["crps"]) == ["", "", "", "best"]  # one common seed: the noise is unknown
        alone = self.table().query("seed == 0").set_index(["method", "metric"]).value
        assert card.mark.loc[alone.xs("crps", level=1).drop(REAL_OTHER_DAY).idxmin(), "crps"] == "best"

    def test_one_seed_is_marked_best_only(self):
        card = score_card(self.table(1))
        assert set(card.mark.to_numpy().ravel()) == {"", "best"} and "with one seed nothing" in to_markdown(card)

    def test_text_and_rows(self):
        card = score_card(self.table())
        text, tidy = to_markdown(card), to_tidy(card)
        assert (
            text.splitlines()[0] == "| method | crps ↓ | q99_rel_error → 0 | seconds |"
            and text.splitlines()[3].count("~") == 2
        )
        assert len({line.count("|") for line in text.splitlines()[:6]}) == 1
        assert len(tidy) == 12 and json.loads(tidy.to_json(orient="records"))[0]["mark"] == "best"

    def test_difference_refuses_other_seeds(self):
        with pytest.raises(ValueError, match=r"got seeds \[0, 1, 2\] and \[0, 1\]; pair them"):
            difference([1.0, 2.0, 3.0], [1.0, 2.0])
        assert not difference([1.0], [2.0]).is_significant and difference([1.0, 2.0], [1.0, 2.0]).describe().startswith(
            "no difference"
        )


@needs_data
def test_known_answers_on_a_real_city():
    cube = np.load(SHARED / "nanjing/MobileNJ.npy")[..., 0].T
    cube = cube[cube.sum(1) > 0].reshape(-1, 21, 24)
    low, high = (f(cube[:, :14], axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    scaled, weekend = (cube - low) / (high - low), np.isin(np.load(SHARED / "nanjing/MobileNJ_ts.npy")[::24, 0], (0, 6))
    groups, day = (np.arange(len(cube))[:, None] * 2 + weekend), np.broadcast_to(np.arange(21), (len(cube), 21))
    average = (
        np.stack([scaled[:, :14][:, weekend[:14] == k].mean(axis=1) for k in weekend[14:]], axis=1)
        .reshape(1, -1, 24)
        .repeat(16, 0)
    )
    row = score(scaled[:, 14:].reshape(-1, 24), average)
    assert [row["mae"], row["rmse"], row["crps"]] == pytest.approx([0.085, 0.114, 0.085], abs=5e-4)
    assert row["coverage_80"] < 0.01 and row["coverage_95"] < 0.01 and row["pit_error"] > 0.85
    rows = real_baseline_rows(
        scaled.reshape(-1, 24), groups.ravel(), np.flatnonzero(day.ravel() >= 14), generator=np.random.default_rng(0)
    )
    assert rows[REAL_OTHER_DAY]["crps"] < row["crps"] and rows[REAL_OTHER_DAY]["jsd_pooled"] < row["jsd_pooled"] / 5
    assert rows[REAL_OTHER_DAY]["mae"] > row["mae"]  # the paired metric prefers the average


def test_the_benchmark_runs():
    command = [
        sys.executable,
        str(ROOT / "benchmarks/evaluation.py"),
        "--stations",
        "30",
        "--days",
        "4",
        "--samples",
        "3",
        "--json",
    ]
    printed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert set(printed["metrics"]) == set(METRICS) and printed["peak_gib"] < 6
