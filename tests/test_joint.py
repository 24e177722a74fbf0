"Joint samples: kernels against an independent package, the noise of a city in any order, one field for each run."

from dataclasses import replace
from pathlib import Path

import gstools
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import stouter
from safetensors.torch import load_file, save_file

import stouter as package
from stouter.config_file import load_config
from stouter.diffusion.reverse import sample_ddim
from stouter.joint.field import LatentField, draw_noise, fourier_features, moving_average
from stouter.joint.inversion import integrate_noise, invert_days
from stouter.joint.weeks import describe_weeks
from stouter.pipeline.joint_field import field_from_tensors, field_tensors
from stouter.pipeline.run import load_run
from stouter.run_card import format_run_card


@pytest.mark.parametrize("length_km", [0.5, 2.0])
def test_frequencies_and_kernel_are_those_of_gstools(length_km):
    theirs = gstools.Gaussian(dim=2, var=1.0, len_scale=2**0.5 * length_km, rescale=1.0)  # exp(-(d / len_scale)^2)
    quantiles = (np.arange(64) + 0.5) / 64
    ours = np.sqrt(-2 * np.log(1 - quantiles)) / length_km
    np.testing.assert_allclose(theirs.spectral_rad_ppf(quantiles), ours, rtol=1e-6)
    places = np.random.default_rng(0).uniform(0, 6, (200, 2))
    features = fourier_features(places, length_km)
    distance = np.hypot(*(places[:, None] - places).transpose(2, 0, 1))
    error = features @ features.T - theirs.correlation(distance)
    assert np.abs(np.diag(error)).max() < 1e-12 and np.sqrt((error**2).mean()) < 0.08
    near = (distance > 0) & (distance < length_km)
    assert abs(error[near].mean()) < 0.02


def test_field_agrees_with_a_dense_cholesky_factor():
    "Covariance of levels of the features and of a dense draw with the exact kernel, of the same stations."
    rng = np.random.default_rng(1)
    lonlat = np.stack([9.19 + rng.uniform(0, 0.05, 40), 45.46 + rng.uniform(0, 0.04, 40)], axis=1)
    field = LatentField((9.21, 45.48), (1.0,), (0.2, 0.5, 0.3), (0.2, 0.5, 0.3))
    n = 600
    sample, place = (v.ravel() for v in np.meshgrid(np.arange(n), np.arange(40), indexing="ij"))
    noise = draw_noise(field, lonlat[place], place, np.full(len(place), 735_000), sample, seed=0)
    level = noise.sum(1).reshape(n, 40) / 24**0.5
    km = (lonlat - field.origin) * np.pi / 180 * 6371 * [np.cos(np.radians(45.48)), 1]
    distance = np.hypot(*(km[:, None] - km).transpose(2, 0, 1))
    exact = 0.2 + 0.5 * np.exp(-(distance**2) / 2) + 0.3 * np.eye(40)
    dense = rng.normal(size=(n, 40)) @ np.linalg.cholesky(exact).T
    ours, theirs = (np.abs(x.T @ x / n - exact).mean() for x in (level, dense))
    assert theirs < 0.05 and ours < theirs + 0.04


@pytest.mark.parametrize("memory", [(0.0, 0.0, 0.0), (0.0, 0.9, 0.0), (0.9, 0.9, 0.9), (0.5, 0.2, 0.8)])
def test_every_value_is_standard_normal(memory):
    np.testing.assert_allclose(np.linalg.norm(moving_average(*memory)), 1, rtol=1e-12)
    field = LatentField((0.0, 0.0), (3.0,), (0.3, 0.3, 0.4), (0.1, 0.4, 0.5), memory, memory, 0.97)
    sample, day = (v.ravel() for v in np.meshgrid(np.arange(400), np.arange(700_000, 700_004), indexing="ij"))
    lonlat = np.tile([0.01, 0.02], (len(day), 1))
    noise = draw_noise(field, lonlat, 0 * day, day, sample, seed=5).reshape(400, -1)
    np.testing.assert_allclose(noise.std(0), 1, atol=0.2)
    np.testing.assert_allclose(noise.std(), 1, atol=0.02)


def test_generate_joint_by_command(tmp_path):
    run = tmp_path / "run"
    stouter("run", "tiny", "--out", run, "-p", "data.source.n_days", "28", "-p", "train.n_updates", "5")
    request = ("generate", run, "--days", "2013-12-01:2013-12-03", "--samples", "2", "--joint")
    stouter(*request, "--out", tmp_path / "a.parquet")
    field = (run / "joint.safetensors").read_bytes()
    stouter(*request, "--out", tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert (run / "joint.safetensors").read_bytes() == field
    stouter(*request[:-1], "--out", tmp_path / "c.parquet")
    joint, alone = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in "ac")
    assert list(joint.columns) == list(alone.columns) and not np.array_equal(joint.value, alone.value)


def test_a_short_run_is_refused_in_one_line(tiny_run, tmp_path):
    request = ("generate", tiny_run[0], "--days", "2013-12-01", "--joint", "--out", tmp_path / "x.parquet")
    done = stouter(*request, check=False)
    assert done.returncode and "14 training days" in done.stderr and "Traceback" not in done.stderr


WEEKS = {"data.period": "week", "data.source.n_days": 28, "data.n_test_periods": 1, "train.n_updates": 2}


def test_weeks_from_any_day_are_joint(tmp_path):
    "Three training weeks from any day on: a memory of stations; ten days from a Tuesday on; sums in the card."
    overrides = WEEKS | {"data.sliding_weeks": True, "evaluation.joint": True}
    run = package.run("tiny", folder=tmp_path / "run", overrides=overrides)
    results, days, service = load_run(tmp_path / "run"), ("2013-12-03", "2013-12-12"), "internet"
    n_stations = len(results.data.split.train)
    assert (len(results.data.known.x), len(results.data.train.x)) == (3 * n_stations, 15 * n_stations)
    assert results.field.n_days == 7 and results.field.memory[0] == 1
    assert "joint weeks: the means of following weeks" in format_run_card(tmp_path / "run")
    assert {"city_hour_crps", "sunday_jump_ratio"} <= set(results.metrics["STOUTER"])
    joint, alone = (run.generate(*days, n_samples=4, joint=joint).values(service) for joint in (True, False))
    assert joint.shape == alone.shape == (4, n_stations, 240) and np.isfinite(joint).all()
    assert not np.array_equal(joint, alone)
    np.testing.assert_array_equal(joint[:2], run.generate(*days, n_samples=2, joint=True).values(service))
    cut = run.generate(days[0], "2013-12-05", n_samples=4, joint=True).values(service)  # the first week, cut
    np.testing.assert_allclose(cut, joint[..., :72], rtol=1e-4, atol=1e-3)  # other periods stand beside it in the batch
    with pytest.raises(package.files.InputError, match="forecasts need periods of a day"):
        run.generate(*days, forecast=True)


def test_weeks_need_their_period():
    with pytest.raises(package.files.InputError, match="sliding_weeks: needs period week"):
        load_config("tiny", {"data.sliding_weeks": True})
    with pytest.raises(package.files.InputError, match="evaluation.joint: needs data.protocol new_days"):
        load_config("tiny", {"data.protocol": "new_stations", "evaluation.joint": True})


def week_field(**parameters):
    "Any field of weeks."
    directions = np.random.default_rng(0).normal(size=(9, 168))
    named = dict(zip(("direction", "morning", "evening"), map(tuple, directions[:3])))
    shares = {"level": (0.3, 0.3, 0.4), "shape": (0.1, 0.4, 0.5), "midnight": 0.9}
    place = {"origin": (9.19, 45.46), "length_km": (1.0,), "n_days": 7, "daily": tuple(map(tuple, directions[3:]))}
    return LatentField(**place | named | shares | parameters)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.95])
def test_weeks_are_white_and_their_means_remember(rho):
    field = week_field(memory=(1.0, 0.0, rho), city_memory=(1.0, 0.0, rho))
    sample, day = (v.ravel() for v in np.meshgrid(np.arange(800), 735_003 + 7 * np.arange(3), indexing="ij"))
    noise = draw_noise(field, np.tile([9.2, 45.47], (len(day), 1)), 0 * day, day, sample, seed=1).reshape(800, 3, 168)
    for week in noise.swapaxes(0, 1):
        np.testing.assert_allclose(week.T @ week / 800, np.eye(168), atol=6 / 800**0.5)
    u = field.vectors[0]
    level = noise @ u
    expected = (a := moving_average(1.0, 0.0, rho, 8))[:-1] @ a[1:]
    assert abs((level[:, 1:] * level[:, :-1]).mean() - expected) < 0.12
    rest = noise - level[..., None] * u
    others = [v for v in field.daily_vectors]
    assert max(abs(((rest[:, 1] @ v) * (rest[:, 0] @ v)).mean()) for v in others) < 0.15  # no memory beside the mean
    _, g, h = field.vectors
    assert abs(((noise[:, 1] @ g) * (noise[:, 0] @ h)).mean() - 0.9) < 0.12


def test_a_week_field_comes_back_from_its_file(tmp_path):
    save_file(field_tensors(field := week_field()), tmp_path / "x.safetensors")
    assert field_from_tensors(load_file(tmp_path / "x.safetensors")) == field
    days = LatentField((0.0, 0.0), (), (0.5, 0.5), (0.5, 0.5))
    old = {name: value for name, value in field_tensors(days).items() if name not in ("n_days", "daily")}
    assert field_from_tensors(old) == days  # a file of an earlier version


def test_a_run_with_joint_samples_scores_sums_in_its_card_and_page(tmp_path):
    overrides = {"data.source.n_days": 28, "train.n_updates": 5, "evaluation.joint": True}
    package.run("tiny", folder=tmp_path / "run", overrides=overrides)
    assert (tmp_path / "run" / "joint.safetensors").exists()
    rows = load_run(tmp_path / "run").metrics
    assert {"city_hour_crps", "station_week_coverage_80", "midnight_jump_ratio"} <= set(rows["STOUTER"])
    assert sum("city_hour_crps" in row for row in rows.values()) > 1
    assert "city_hour_crps" not in rows["real (same day)"]
    page = stouter("report", tmp_path / "run", "--out", tmp_path / "page.html")
    assert page.returncode == 0
    text = (tmp_path / "page.html").read_text()
    assert "CRPS of the city's hour" in text or "CRPS of the city&#39;s hour" in text


def test_inverted_days_come_back(tmp_path):
    "Day, noise, day within 1e-3 of the range of a station, for a network that is trained a little."
    steps = {"diffusion.n_steps": 100, "diffusion.n_sampling_steps": 60}
    overrides = {"data.source.n_days": 17, "train.n_updates": 30, **steps}
    package.run("tiny", folder=tmp_path / "run", overrides=overrides)
    run = load_run(tmp_path / "run")
    known = run.data.known.drop_incomplete()
    chosen = torch.arange(0, len(known.x), 7)
    condition, x = known.condition[chosen], known.x[chosen]
    noise = invert_days(run.method, condition, x, n_steps=60, n_iterations=8)
    again = integrate_noise(replace(run.method, sampler=sample_ddim), condition, noise)
    assert (again - x).abs().max() < 1e-3 and 0.2 < noise.std() < 2  # thirty updates: narrower than normal


@pytest.mark.parametrize("n_days", [1, 7])
def test_noise_does_not_depend_on_the_order_of_the_parts(n_days):
    "Stations, days and samples in one piece, or shuffled in five; weeks from every day on."
    rng = np.random.default_rng(3)
    field = LatentField((9.19, 45.46), (1.0,), (0.3, 0.4, 0.3), (0.1, 0.6, 0.3), midnight=0.8)
    field = field if n_days == 1 else week_field(memory=(1.0, 0.0, 0.6))
    lonlat = np.stack([9.19 + rng.uniform(0, 0.05, 6), 45.46 + rng.uniform(0, 0.04, 6)], axis=1)
    place, day, sample = (v.ravel() for v in np.meshgrid(range(6), 735_000 + np.arange(9), range(3), indexing="ij"))
    whole = draw_noise(field, lonlat[place], place, day, sample, seed=4)
    parts = np.empty_like(whole)
    for items in np.array_split(rng.permutation(len(day)), 5):
        parts[items] = draw_noise(field, lonlat[place[items]], place[items], day[items], sample[items], seed=4)
    np.testing.assert_array_equal(parts, whole)


def test_a_vae_takes_the_field_and_has_no_past(tmp_path):
    "The latent variables of a VAE are its noise; its days are not inverted, so that it has no forecast."
    overrides = {"data.source.n_days": 17, "train.n_updates": 3, "method": "vae"}
    run = package.run("tiny", folder=tmp_path / "run", overrides=overrides)
    days, service = ("2013-11-29", "2013-11-30"), "internet"
    joint, alone = (run.generate(*days, n_samples=4, joint=joint).values(service) for joint in (True, False))
    assert joint.shape == alone.shape and np.isfinite(joint).all() and not np.array_equal(joint, alone)
    np.testing.assert_array_equal(joint[:2], run.generate(*days, n_samples=2, joint=True).values(service))
    with pytest.raises(package.files.InputError, match="diffusion methods only"):
        run.generate(*days, forecast=True)


def test_two_weeks_have_no_memory(tmp_path):
    "Weeks from Sundays on: two of 28 days are trained on, which have one succession."
    run = package.run("tiny", folder=tmp_path / "run", overrides=WEEKS)
    field = load_run(tmp_path / "run").field
    assert (field.n_days, field.memory, field.city_memory) == (7, (1.0, 0.0, 0.0), (1.0, 0.0, 0.0))
    assert "independent" in describe_weeks(field)
    tuesday, sunday = (
        run.generate(first, "2013-12-07", n_samples=2, joint=True).values("internet")
        for first in ("2013-12-03", "2013-12-01")
    )
    np.testing.assert_array_equal(tuesday, sunday[..., 48:])  # the same week, from its Sunday on


def test_diffwave_takes_the_field(tmp_path):
    "The sampler of DiffWave is deterministic from its first noise, as STOUTER's."
    overrides = {"data.source.n_days": 17, "train.n_updates": 2, "method": "diffwave", "evaluation.joint": True}
    run = package.run("tiny", folder=tmp_path / "run", overrides=overrides)
    assert "city_hour_crps" in load_run(tmp_path / "run").metrics["DiffWave"]
    days, service = ("2013-11-29", "2013-11-30"), "internet"
    joint, alone = (run.generate(*days, n_samples=3, joint=joint).values(service) for joint in (True, False))
    assert joint.shape == alone.shape and np.isfinite(joint).all() and not np.array_equal(joint, alone)
    np.testing.assert_array_equal(joint[:2], run.generate(*days, n_samples=2, joint=True).values(service))


def test_the_score_of_shared_noise(monkeypatch):
    "The loss of benchmarks/shared_noise.py: the energy score of two draws, without missing hours; of patches and sums."
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    from shared_noise import energy, joint_energy

    generator = torch.Generator().manual_seed(0)
    x, first, second = torch.randn(3, 2, 5, 3, 4, generator=generator)  # two patches, five stations, three days
    x[0, 1, 2, 3] = torch.nan

    def distance(a, b, known):
        return ((a - b)[known] ** 2).mean().sqrt()

    each = []
    for k in range(2):
        known = x[k].isfinite()
        pairs = ((first[k], x[k]), (second[k], x[k]), (first[k], second[k]))
        each.append(sum(w * distance(*pair, known) for w, pair in zip((0.5, 0.5, -0.5), pairs)))
    assert energy(x, first, second, 3).item() == pytest.approx(float(sum(each) / 2), rel=1e-5)
    together = joint_energy(x, first, second, "vector")
    assert together.item() == pytest.approx((energy(x, first, second, 3) + energy(x, first, second, 2)).item())
    same = torch.ones(2, 5, 3, 4)
    assert joint_energy(same, same + 1, same + 1, "sums").item() == pytest.approx(2.0, rel=1e-4)  # a patch and a week
