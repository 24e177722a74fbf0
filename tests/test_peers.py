"The benchmark of other packages, with stand-ins: none of them is needed here."

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from stouter.config_file import load_config
from stouter.pipeline.dataset import load_city, make_datasets, pretrain_graphs


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import peer_models
    import peers

    yield peers, peer_models
    peers.load.cache_clear()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    "Data sets of the tiny city."
    folder, config = tmp_path_factory.mktemp("city"), load_config("tiny")
    city = load_city(config.data, folder)
    return make_datasets(config.data, city, pretrain_graphs(config.graph, city, 0, folder), 0)


class MeanDays:
    "A peer that repeats a day."

    packages = ("numpy",)

    def fit(self, data, seconds, seed, folder):
        self.day = data.train.drop_incomplete().x.mean(0).numpy()
        return {"updates": 1}

    def sample(self, data, n_samples, seed):
        return np.broadcast_to(self.day, (n_samples, len(data.test), 24)), {}


def test_a_row_is_computed_once(benchmarks, monkeypatch, tmp_path):
    peers, _ = benchmarks
    monkeypatch.setattr(
        peers, "PEERS", {"mean days": MeanDays, "absent": type("Absent", (), {"packages": ("no-such",)})}
    )
    monkeypatch.setattr(peers, "OURS", {})
    file = tmp_path / "peers.json"
    arguments = ["peers.py", "--json", str(file), "--cities", "tiny", "--seconds", "1", "--seeds", "0"]
    monkeypatch.setattr(sys, "argv", arguments)
    peers.main()
    first = json.loads(file.read_text())
    assert [row["method"] for row in first["rows"]] == [*peers.REFERENCES, "mean days"]
    by_method = {row["method"]: row for row in first["rows"]}
    assert by_method["mean days"]["coverage_80"] < 0.05 < by_method["bootstrap"]["coverage_80"]
    assert by_method["mean days"]["crps"] > by_method["bootstrap"]["crps"]
    peers.main()
    assert json.loads(file.read_text()) == first


def test_the_shortest_training_and_the_first_seed_come_first(benchmarks):
    from argparse import Namespace

    peers, _ = benchmarks
    options = Namespace(cities=["a"], seconds=[240, 60], seeds=[0, 1], methods=["PAR"])
    assert peers.plan(options) == [("a", "PAR", 60, 0), ("a", "PAR", 240, 0), ("a", "PAR", 60, 1)]


def test_generated_days_are_matched_by_station_then_weekday(benchmarks):
    _, models = benchmarks
    made = np.array([[0, 1], [0, 2], [1, 1]])
    wanted = np.array([[0, 2], [1, 5], [7, 2], [7, 6]])
    rows, exact = models.match_attributes(wanted, made, 50, np.random.default_rng(0))
    assert exact == 1 / 4
    assert [set(rows[:, k]) for k in range(4)] == [{1}, {2}, {1}, {0, 1, 2}]


def test_series_are_the_days_in_a_row(benchmarks, data):
    _, models = benchmarks
    series = models.series_of(data)
    assert len(series) == len(data.train.cube)
    np.testing.assert_array_equal(series[1]["target"], data.train.cube[1].ravel())
    assert series[1]["start"].hour == 0


@pytest.mark.skipif(not find_spec("denoising_diffusion_pytorch"), reason="denoising-diffusion-pytorch is not installed")
@pytest.mark.parametrize("is_conditional", [False, True])
def test_unet1d_gives_days_of_every_test_day(benchmarks, data, is_conditional):
    _, models = benchmarks
    peer = models.Unet1D(is_conditional, width=8)
    assert peer.fit(data, 0.5, 0, None)["updates"] > 0
    x, _ = peer.sample(data, 2, 0)
    assert x.shape == (2, len(data.test), 24)
    assert 0 <= x.min() <= x.max() <= 1


@pytest.mark.skipif(not find_spec("deepecho"), reason="deepecho is not installed")
def test_par_draws_all_days_at_once_as_its_sampler_draws_one(benchmarks, data, tmp_path):
    _, models = benchmarks
    peer = models.PAR()
    peer.fit(data, 1, 0, tmp_path)
    context = models.station_and_weekday(data.test).astype(str).tolist()[0]
    torch.manual_seed(0)
    one_by_one = np.array([peer.model.sample_sequence(context)[0] for _ in range(300)])
    at_once = peer.draw(peer.model._context_to_tensor(context).repeat(3000, 1)).numpy()
    error = 4 * one_by_one.std(0) / 300**0.5  # four standard errors of a mean
    assert (abs(one_by_one.mean(0) - at_once.mean(0)) < error).all()
    assert abs(one_by_one.std() / at_once.std() - 1) < 0.1
