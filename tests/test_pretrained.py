"""Weights to start from: models of the package are whole and generate what their cards say; fine-tuned runs are runs.

A fine-tuned run is resumed to the same bytes, tells when its first run has changed, and takes nothing that is unfit.
"""

import re
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from typer.testing import CliRunner

import stouter
from stouter.cli import app
from stouter.config_file import load_config
from stouter.files import InputError, load_tensors, read_json
from stouter.graphs.embeddings import load_pretrained as load_graph
from stouter.pipeline.initial_weights import PRETRAINED, find_pretrained, read_card
from stouter.pipeline.run import load_run, run

NAMES = ("demo", "milan_28", "simulated_milan")
SHORT = {"graph.n_epochs": 2, "train.n_updates": 6, "train.checkpoint_every": 2, "evaluation.n_samples": 2}


@pytest.mark.parametrize("name", NAMES)
def test_a_model_generates_the_values_of_its_card(name):
    card, model = read_card(PRETRAINED / name), stouter.load_pretrained(name)
    first = card["first_values"]
    made = model.generate(first["day"], first["day"], seed=first["seed"], stations=first["stations"])
    values = made.values(card["service"])[0, :, :6]
    np.testing.assert_allclose(values, first["values"], rtol=2e-3, atol=2e-3)  # other processors round differently
    assert model.metrics.loc["STOUTER", "crps"] == card["scores"]["STOUTER"]["crps"]
    assert (len(model.traffic.stations), model.traffic.unit) == (card["stations"], card["unit"])
    assert len(model.history) == card["updates"] == model.config.train.n_updates


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_a_user_has_to_know(name):
    folder = find_pretrained(name)
    card, text = read_card(folder), (folder / "MODEL_CARD.md").read_text()
    for key in ("source", "licence", "attribution", "days", "test_days", "not_for", "scores", "code", "precision"):
        assert card[key], key
        assert key in ("scores", "not_for") or card[key] in text, key
    assert {"crps", "mae", "jsd_pooled", "coverage_80"} <= set(card["scores"]["STOUTER"])
    for method, row in card["intervals"].items():  # each mean score lies inside of its interval
        for key in ("crps", "mae", "coverage_80", "crps_physical"):
            low, high = row[key]
            assert low <= card["scores"][method][key] * 1.001 and card["scores"][method][key] <= high * 1.001, (
                method,
                key,
            )
    assert card["intervals"]["STOUTER"]["crps / STOUTER"] == [1, 1] and "90 % intervals" in text
    assert ("ODbL" in card["licence"]) == (name == "milan_28")
    assert not list(folder.glob("*.nc"))  # no hourly traffic
    assert set(card["sha256"]) == {path.name for path in folder.iterdir()} - {"card.json", "MODEL_CARD.md"}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5e6
    assert load_tensors(folder / "weights.safetensors")["conv_out.weight"].dtype == torch.float16


def test_a_damaged_model_is_refused(tmp_path):
    shutil.copytree(PRETRAINED / "demo", tmp_path / "demo")
    path = tmp_path / "demo" / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="weights.safetensors: damaged, its SHA-256 is not that of card.json"):
        find_pretrained("demo", tmp_path)
    path.unlink()
    with pytest.raises(InputError, match="weights.safetensors: damaged"):
        find_pretrained("demo", tmp_path)


def test_models_are_made_by_the_tool(tiny_run, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import make_pretrained

    monkeypatch.setitem(make_pretrained.DATA, "tiny", make_pretrained.SIMULATED)
    monkeypatch.setattr(make_pretrained, "find_pretrained", lambda name: find_pretrained(name, tmp_path), raising=False)
    card = make_pretrained.pack("tiny", tiny_run[0], tmp_path / "tiny")
    folder = find_pretrained("tiny", tmp_path)
    whole, small = load_run(tiny_run[0]), load_run(folder)
    assert torch.equal(small.embeddings.station_table, whole.embeddings.station_table)
    assert np.array_equal(small.data.scaler.range_, whole.data.scaler.range_)
    difference = abs(card["scores"]["STOUTER"]["crps"] / whole.metrics["STOUTER"]["crps"] - 1)
    assert 0 < difference < 0.01  # weights in half precision
    with pytest.raises(InputError, match="joint samples need|14 training days"):
        small.model_with(joint=True)
    sys.modules.pop("make_pretrained")


def test_the_command_generates_from_a_model(tmp_path):
    out = tmp_path / "day.parquet"
    words = ["generate", "--pretrained", "demo", "--days", "2013-11-28", "--station", "1", "--out", str(out)]
    assert CliRunner().invoke(app, words).exit_code == 0
    card = read_card(PRETRAINED / "demo")["first_values"]
    np.testing.assert_allclose(pd.read_parquet(out).value[:6], card["values"][0], rtol=2e-3, atol=2e-3)
    error = CliRunner().invoke(app, [*words[:1], *words[3:]]).exception
    assert "give either RUN_DIR, the folder of a finished run, or --pretrained NAME" in str(error)


def tuned(first, **overrides):
    return load_config("tiny", {**SHORT, "init": str(first), **overrides})


@pytest.fixture(scope="module")
def fine_tuned(tiny_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fine_tuned")
    first = folder / "first"
    shutil.copytree(tiny_run[0], first)
    run(tuned(first), 0, folder / "run")
    return first, folder / "run"


def test_training_starts_from_the_weights(fine_tuned):
    first, folder = fine_tuned
    before, after = (load_tensors(place / "weights.safetensors") for place in (first, folder))
    change = max((after[name] - before[name]).abs().max() for name in before)
    assert 0 < change < 0.05  # six updates away, where random weights differ by about one
    graph, first_graph = (load_graph(place / "graph_space.safetensors") for place in (folder, first))
    torch.testing.assert_close(graph.embedding, first_graph.embedding)  # the same stations, the same encoder
    card = " ".join(repr(stouter.load_run(folder)).split())
    assert "its embeddings of hours are taken over, its encoder embeds the stations; scales are those of this" in card
    record = read_json(folder / "provenance.json")["init"]
    assert record["sha256"] == read_json(folder / "init" / "record.json")["sha256"]
    assert load_run(folder).embeddings.hour_table.equal(load_run(first).embeddings.hour_table)


@pytest.mark.parametrize("update", [1, 4])
def test_an_interrupted_fine_tuning_goes_on_to_the_same_bytes(update, fine_tuned, tmp_path):
    first, whole = fine_tuned
    copy = tmp_path / "first"
    shutil.copytree(first, copy)

    def stop(total, desc, **_):
        return Stopping(update if desc == "train" else None)

    with pytest.raises(KeyboardInterrupt):
        run(tuned(copy), 0, tmp_path / "run", stop)
    shutil.rmtree(copy)  # the run has what it needs
    run(tuned(copy), 0, tmp_path / "run")
    for name in ("weights.safetensors", "samples.safetensors", "graph_space.safetensors"):
        stored, expected = (load_tensors(place / name) for place in (tmp_path / "run", whole))
        assert all(torch.equal(stored[key], expected[key]) for key in expected), name


class Stopping:
    "A progress bar that a user interrupts."

    def __init__(self, update):
        self.update_to_stop, self.n = update, 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def update(self, n):
        self.n += n
        if self.n == self.update_to_stop:
            raise KeyboardInterrupt

    def set_postfix(self, **_):
        pass


def test_changed_or_missing_weights_are_told(fine_tuned, tmp_path):
    first, whole = fine_tuned
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / "metrics.json").unlink()
    content = (first / "weights.safetensors").read_bytes()
    (first / "weights.safetensors").write_bytes(content + b" ")
    try:
        with pytest.raises(
            InputError, match="weights.safetensors has changed since .* started from it; choose another"
        ):
            run(tuned(first), 0, folder)
    finally:
        (first / "weights.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="holds another run .config.init: .* there, 'demo' here"):
        run(tuned("demo"), 0, folder)
    with pytest.raises(InputError, match="expected the folder of a finished run, or one of demo, milan_28"):
        run(tuned("nowhere"), 0, tmp_path / "other")


def test_another_network_is_refused_with_its_fields(tmp_path):
    with pytest.raises(InputError, match=re.escape("init demo: its network is another one (graph.hidden_channels: 64")):
        run(tuned("demo"), 0, tmp_path / "run")


def test_stations_without_counts_are_pretrained_anew(fine_tuned, tmp_path):
    first, _ = fine_tuned
    traffic = stouter.open_traffic(first / "traffic.nc")
    moved = traffic.dataset.assign_coords(lon=("station", traffic.stations.lon.to_numpy() + 1)).drop_vars(
        ["count", "category"], errors="ignore"
    )
    stouter.data.save_traffic(stouter.Traffic(moved), tmp_path / "moved.nc")
    source = {"kind": "netcdf", "traffic": str(tmp_path / "moved.nc")}
    run(tuned(first, **{"data.source": source}), 0, tmp_path / "run")
    assert "the stations have an encoder of their own" in read_json(tmp_path / "run" / "init" / "record.json")["text"]
    settings = load_graph(tmp_path / "run" / "graph_space.safetensors").settings
    assert "init" not in settings and load_graph(tmp_path / "run" / "graph_time.safetensors").settings["init"]
