"Joint samples: kernels against an independent package, the noise of a city in any order, one field for each run."

from dataclasses import replace

import gstools
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import stouter

import stouter as package
from stouter.diffusion.reverse import sample_ddim
from stouter.joint.field import LatentField, draw_noise, fourier_features, moving_average
from stouter.joint.inversion import integrate_noise, invert_days
from stouter.pipeline.run import load_run


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


def test_weeks_are_refused_in_one_line(tmp_path):
    overrides = {"data.period": "week", "data.source.n_days": 28, "data.n_test_periods": 1, "train.n_updates": 2}
    run = package.run("tiny", folder=tmp_path / "run", overrides=overrides)
    with pytest.raises(package.files.InputError, match="data.period: day.* 168 hours"):
        run.generate("2013-12-02", "2013-12-15", joint=True)
    with pytest.raises(package.files.InputError, match="evaluation.joint: needs data.period day"):
        package.run("tiny", folder=tmp_path / "joint", overrides=overrides | {"evaluation.joint": True})


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


def test_noise_does_not_depend_on_the_order_of_the_parts():
    "Stations, days and samples in one piece, or shuffled in five."
    rng = np.random.default_rng(3)
    field = LatentField((9.19, 45.46), (1.0,), (0.3, 0.4, 0.3), (0.1, 0.6, 0.3), midnight=0.8)
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
