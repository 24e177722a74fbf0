"One test per interface, run over all variants in its dictionary."

import pytest
import torch

from stouter.data.dataset import Condition, TrafficDataset
from stouter.denoisers.fusion import FUSIONS
from stouter.denoisers.stunet import STUnet
from stouter.diffusion.forward import SCHEDULES, linear_schedule
from stouter.diffusion.objective import LOSSES, OBJECTIVES
from stouter.diffusion.reverse import SAMPLERS
from stouter.evaluation.metrics import METRICS
from stouter.graphs.encoders import ENCODERS
from stouter.pipeline.evaluate import BASELINES
from stouter.training.batches import make_generator
from stouter.training.generator import DiffusionGenerator
from stouter.training.state import COLUMNS, TrainingArguments


def toy_samples(n_stations=3, n_days=14, length=24):
    station = torch.arange(n_stations).repeat_interleave(n_days)
    week = (torch.arange(7 * 24).reshape(7, 24)[:, :length]).repeat(n_days // 7 * n_stations, 1)
    x = torch.rand(len(station), length, generator=make_generator(5))
    return TrafficDataset(x, Condition(station, week, torch.randn(n_stations, 6), torch.randn(168, 5)))


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder(name):
    torch.manual_seed(0)
    encoder = ENCODERS[name](7, 16, 2, 4).eval()
    x, edges = torch.randn(5, 7), torch.tensor([[0, 1, 1, 2, 3], [1, 0, 2, 1, 1]])
    out = encoder(x, edges)
    assert out.shape == (5, 4)
    order = torch.tensor([3, 0, 4, 2, 1])
    place = order.argsort()
    torch.testing.assert_close(encoder(x[order], place[edges]), out[order], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("lead", [(2,), (2, 24)])
def test_fusion(name, lead):
    fuse, station_emb, hour_emb = FUSIONS[name](6, 5, 8), torch.randn(*lead, 6), torch.randn(*lead, 5)
    out = fuse(station_emb, hour_emb)
    assert out.shape == (*lead, 8)
    assert (fuse(station_emb + 1, hour_emb) - out).abs().max() > 1e-4 and (
        fuse(station_emb, hour_emb + 1) - out
    ).abs().max() > 1e-4


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("length", [24, 23, 25, 168])
def test_denoiser(fusion, length):
    samples = Condition(
        torch.zeros(2, dtype=torch.long),
        torch.zeros(2, length, dtype=torch.long),
        torch.randn(1, 6),
        torch.randn(168, 5),
    )
    denoiser = STUnet(6, 5, base_channels=8, channel_multipliers=(1, 2), fusion=FUSIONS[fusion])
    torch.nn.init.normal_(denoiser.conv_out.weight)
    x_t, t = torch.randn(2, 1, length), torch.tensor([0, 49])
    out = denoiser(x_t, t, samples)
    assert out.shape == (2, 1, length) and out.isfinite().all() and out.std() > 0
    cond = denoiser.embed_condition(samples)
    assert torch.equal(denoiser.denoise(x_t, t, cond), out)
    assert denoiser.denoise(x_t.repeat(3, 1, 1), t.repeat(3), cond).shape == (6, 1, length)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("n_steps", [1, 2, 50, 1000])
def test_schedule(name, n_steps):
    chain = SCHEDULES[name](n_steps)
    assert chain.n_steps == len(chain.beta) == len(chain.alpha_bar) == n_steps
    assert (chain.alpha_bar > 0).all() and (chain.alpha_bar < 1).all() and (chain.alpha_bar.diff() < 0).all()
    assert (chain.beta.diff() >= 0).all()
    with pytest.raises(ValueError):
        SCHEDULES[name](0)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective_converts_back(name):
    schedule = linear_schedule(100)
    objective = OBJECTIVES[name](schedule)
    x0, eps, t = torch.randn(8, 1, 24), torch.randn(8, 1, 24), torch.randint(1, 100, (8,))
    a = schedule.alpha_bar[t][:, None, None]
    x_t = a.sqrt() * x0 + (1 - a).sqrt() * eps
    torch.testing.assert_close(objective.to_eps(x_t, objective.target(x0, eps, t), t), eps, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_loss(name):
    x = torch.tensor([0.0, 2.0])
    assert LOSSES[name](x, x) == 0 and LOSSES[name](x, -x) > 0


def no_noise(x_t, t):
    "A denoiser that predicts zero."
    return torch.zeros_like(x_t)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("n_steps", [1, 7, 50])
def test_sampler(name, n_steps):
    schedule = linear_schedule(50)

    def draw(seed):
        return SAMPLERS[name](no_noise, (3, 1, 24), schedule, n_steps, make_generator(seed))

    assert draw(0).shape == (3, 1, 24) and draw(0).isfinite().all()
    assert torch.equal(draw(0), draw(0)) and not torch.equal(draw(0), draw(1))


def stouter_method():
    schedule = linear_schedule(20)
    denoiser = STUnet(6, 5, base_channels=8, channel_multipliers=(1, 2))
    return DiffusionGenerator(denoiser, OBJECTIVES["epsilon"](schedule), LOSSES["mse"], SAMPLERS["ddim"], 5)


@pytest.mark.parametrize("name", ["STOUTER", *BASELINES])
def test_generator(name):
    train = toy_samples()
    method = stouter_method() if name == "STOUTER" else BASELINES[name]()
    if name == "STOUTER":
        history = method.fit(
            train,
            TrainingArguments(n_updates=2, batch_size=8, validate_every=1),
            validation=TrafficDataset(train.x[:6], train.condition[:6]),
        )
        assert tuple(history.columns) == COLUMNS and history.notna().all(axis=None)
    else:
        method.fit(train)
    condition = train.condition[:10]
    out = method.sample(condition, 4, make_generator(1))
    assert out.shape == (4, 10, 24) and out.isfinite().all()
    assert torch.equal(out, method.sample(condition, 4, make_generator(1)))


@pytest.mark.parametrize("length", [24, 168])
@pytest.mark.parametrize("name", BASELINES)
def test_baseline_from_few_incomplete_days_samples_unseen_stations(name, length):
    hours = (
        (torch.arange(length) + 24 * torch.arange(1, 7)[:, None]) % 168
        if length == 24
        else torch.arange(168).expand(6, 168)
    )
    condition = Condition(
        torch.tensor([0, 0, 1, 1, 1, 2]),
        hours.clone(),
        torch.randn(4, 6, generator=make_generator(6)),
        torch.randn(168, 5),
    )
    x = torch.rand(6, length, generator=make_generator(7))
    x[0, 3] = float("nan")
    method = BASELINES[name]().fit(TrafficDataset(x, condition))
    out = method.sample(
        Condition(torch.tensor([0, 3]), hours[:2].clone(), condition.station_table, condition.hour_table),
        5,
        make_generator(8),
    )
    assert out.shape == (5, 2, length) and out.isfinite().all() and out.min() >= 0


@pytest.mark.parametrize("name", METRICS)
def test_metric_ignores_the_order_of_stations_and_missing_hours(name):
    real, fake = (
        torch.rand(20, 24, generator=make_generator(2)).numpy(),
        torch.rand(5, 20, 24, generator=make_generator(3)).numpy(),
    )
    value = METRICS[name](real, fake)
    assert METRICS[name](real[::-1], fake[:, ::-1]) == pytest.approx(value, rel=1e-5)
    real[3, 4] = float("nan")
    assert METRICS[name](real, fake) == pytest.approx(value, rel=0.05, abs=0.005)
    with pytest.raises(ValueError):
        METRICS[name](real, fake[:, :10])
