"`preset: paper` has the paper's values, lies below what the user asks for, and runs."

import csv
import json

import numpy as np
import pytest
from conftest import stouter

from stouter.config_file import experiments_folder, find_preset, get_by_path, load_config, parse_yaml, read_yaml
from stouter.files import InputError
from stouter.pipeline.run import read_run
from stouter.pipeline.studies import expand_study

PRESET = read_yaml(find_preset("paper"))
STATEMENTS = {
    row["key"]: row for row in csv.DictReader((experiments_folder() / "presets/paper.csv").open(encoding="utf-8"))
}
SHORT = {"preset": "paper", "diffusion.n_steps": "20", "diffusion.n_sampling_steps": "20"}


def test_every_value_has_a_statement_of_the_paper():
    assert list(PRESET) == list(STATEMENTS)
    config = load_config("demo", {"preset": "paper"}).model_dump()
    for key, row in STATEMENTS.items():
        value = parse_yaml(row["value"], key)
        assert (PRESET[key], type(PRESET[key])) == (value, type(value)), key
        assert get_by_path(config, key) == (True, value), key
        assert row["section"] and row["statement"], key


def test_the_preset_changes_its_own_fields_only():
    for name in ("demo", "tiny", "shandong", "milan_28"):
        own, paper = (load_config(name, words).model_dump() for words in ({}, {"preset": "paper"}))
        for key in PRESET:
            section, _, field = key.rpartition(".")
            for tree in (own, paper):
                del (tree[section] if section else tree)[field]
        assert paper.pop("preset") == "paper" and own.pop("preset") is None
        assert own == paper


OTHER = {  # a value for each field that is not the paper's
    "graph.radius_km": 2.0,
    "graph.bidirectional": True,
    "graph.temporal_features": "sin_cos",
    "graph.station_features": "position",
    "graph.temporal_encoder": "gat",
    "graph.temporal_decoder": "gat",
    "graph.station_encoder": "sage",
    "graph.station_decoder": "sage",
    "graph.loss_on_all_nodes": False,
    "diffusion.n_steps": 2000,
    "diffusion.schedule": "cosine",
    "diffusion.prediction_type": "paper",
    "diffusion.loss": "mse",
    "diffusion.sampler": "ddim",
    "diffusion.n_sampling_steps": 500,
    "denoiser.fusion": "gate",
    "denoiser.n_heads": 2,
    "denoiser.residual_attention": True,
    "denoiser.n_fourier_features": 8,
    "train.ema_decay": 0.5,
    "train.antithetic_timesteps": True,
    "train.weekday_randomization": 0.5,
    "evaluation.n_samples": 2,
}


@pytest.mark.parametrize("key, value", OTHER.items())
def test_what_the_user_asks_for_is_above_the_preset(key, value):
    config = load_config("demo", {key: str(value), "preset": "paper"})  # the order of the options does not matter
    assert get_by_path(config.model_dump(), key) == (True, value) and value != PRESET[key]


def test_every_field_but_the_distillation_was_tried():
    assert {*OTHER, "distillation"} == set(PRESET)


@pytest.mark.parametrize("name", ["nanjing", "milan_internet", "trentino_sms"])
def test_without_places_of_interest_the_preset_is_refused_in_one_line(name, tmp_path):
    done = stouter("run", name, "-p", "preset", "paper", "--out", tmp_path / "run", check=False)
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    assert "needs places of interest" in done.stderr and "Traceback" not in done.stderr
    assert load_config(name, {"preset": "paper", "graph.station_features": "position"}).preset == "paper"


def test_tiny_runs_with_a_short_chain_and_says_so(tmp_path):
    words = [word for key, value in SHORT.items() for word in ("-p", key, value)]
    done = stouter("run", "tiny", *words, "--out", tmp_path)
    config, _ = read_run(tmp_path)
    assert config == load_config("tiny", SHORT) and config.diffusion.n_steps == 20
    assert "preset paper, except diffusion.n_steps = 20, diffusion.n_sampling_steps = 20" in done.stdout
    assert "1 sample (CRPS is the MAE, no band)" in done.stdout and "MAE (the CRPS of one sample)" in done.stdout
    assert "RuntimeWarning" not in done.stderr and "nan" not in done.stdout.lower()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["preset"], metrics["n_samples"]) == ("paper", 1)
    for method, row in metrics["methods"].items():
        assert np.isfinite(list(row.values())).all(), method
        is_single = not method.startswith("real")
        assert is_single == ("crps" not in row) == ("coverage_80" not in row), method


def test_the_study_of_all_methods_has_the_papers_configuration(tmp_path):
    trials = expand_study("62_overall", tmp_path, seeds=[0])
    (paper,) = [trial.config for trial in trials if trial.config.preset]
    assert paper.graph.station_features == "position"  # Nanjing has no places of interest
    assert (paper.diffusion.sampler, paper.evaluation.n_samples, paper.train.n_updates) == ("ddpm", 1, 4000)
    with pytest.raises(InputError, match="needs places of interest"):
        expand_study("62_overall", tmp_path, seeds=[0], overrides={"graph.station_features": "counts"})
