"VAE and TCN-GAN have the interface of every generator and the same checkpoints as the diffusion model."

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from stouter.baselines.tcn_gan import TCNGAN
from stouter.baselines.vae import VAE
from stouter.data.dataset import Condition, TrafficDataset
from stouter.files import InputError
from stouter.training.batches import make_generator
from stouter.training.state import COLUMNS, TrainingArguments, read_checkpoint

METHODS = {
    "VAE": lambda length=24: VAE(6, 5, length, width=8, latent_dim=10),
    "TCN-GAN": lambda length=24: TCNGAN(6, 5, length, width=8, noise_dim=4),
}
TRAINING_ARGS = TrainingArguments(n_updates=12, batch_size=7, checkpoint_every=4, validate_every=5, patience=0)


def samples(n=20, length=24, seed=1):
    "Random periods of three stations."
    week = (torch.arange(n)[:, None] * length + torch.arange(length)) % 168
    tables = torch.randn(3, 6, generator=make_generator(2)), torch.randn(168, 5, generator=make_generator(3))
    return TrafficDataset(
        torch.rand(n, length, generator=make_generator(seed)), Condition(torch.arange(n) % 3, week, *tables)
    )


def train(name, checkpoint=None, on_update=None, length=24, training_args=TRAINING_ARGS, first=0):
    "A small training; `first` seeds the initial weights."
    torch.manual_seed(first)
    method = METHODS[name](length)
    return method, method.fit(
        samples(length=length), training_args, 3, checkpoint, on_update, samples(6, length, seed=9)
    )


def assert_same(one, other):
    "Weights and history, bit for bit."
    for (name, a), b in zip(one[0].network.state_dict().items(), other[0].network.state_dict().values()):
        assert torch.equal(a, b), name
    pd.testing.assert_frame_equal(one[1].drop(columns="seconds"), other[1].drop(columns="seconds"), check_exact=True)


@pytest.mark.parametrize("length", [24, 25, 168])
@pytest.mark.parametrize("name", METHODS)
def test_contract(name, length):
    method, history = train(
        name, length=length, training_args=TrainingArguments(n_updates=3, batch_size=5, validate_every=2)
    )
    assert tuple(history.columns[:6]) == COLUMNS and len(history) == 3 and history["loss"].notna().all()
    assert history["validation_error"].notna().tolist() == [False, True, False]
    assert not any(module.training for module in method.network.modules())
    condition, seen = samples(5, length).condition, []
    out = method.sample(condition, 3, make_generator(1), batch_size=4, on_batch=seen.append)
    assert out.shape == (3, 5, length) and out.isfinite().all() and sum(seen) == 15
    torch.testing.assert_close(out, method.sample(condition, 3, make_generator(1)))
    assert not torch.equal(out, method.sample(condition, 3, make_generator(2)))
    assert method.sample(condition[:0], 3).shape == (3, 0, length)


@pytest.mark.parametrize("name", METHODS)
def test_the_weights_determine_the_samples(name, tmp_path):
    method, _ = train(name)
    save_file(method.network.state_dict(), tmp_path / "network.safetensors")
    torch.manual_seed(77)
    other = METHODS[name]()
    other.network.load_state_dict(load_file(tmp_path / "network.safetensors"))
    condition = samples(5).condition
    assert torch.equal(method.sample(condition, 2, make_generator(1)), other.sample(condition, 2, make_generator(1)))


@pytest.mark.parametrize("moment", [3, 4, 5, 9])
@pytest.mark.parametrize("name", METHODS)
def test_interrupted_and_resumed(name, moment, tmp_path):
    def stop(update, loss):
        if update == moment:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(name, tmp_path / "checkpoint.pt", stop)
    again = train(
        name, tmp_path / "checkpoint.pt", first=0 if moment < 4 else 99
    )  # with a checkpoint the initial weights do not matter
    assert_same(again, train(name))
    kept = pd.read_json(tmp_path / "training_log.jsonl", lines=True, precise_float=True)
    pd.testing.assert_frame_equal(kept, again[1], check_dtype=False)


@pytest.mark.parametrize("name", METHODS)
def test_a_checkpoint_of_another_method_or_seed_is_refused(name, tmp_path):
    train(name, tmp_path / "checkpoint.pt")
    other = next(n for n in METHODS if n != name)
    with pytest.raises(InputError, match="another run .*method"):
        train(other, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="another run .*seed"):
        METHODS[name]().fit(samples(), TRAINING_ARGS, 4, tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("name", METHODS)
def test_the_error_of_a_nan_loss_names_update_rate_and_checkpoint(name, tmp_path, monkeypatch):
    module, real = f"stouter.baselines.{'vae' if name == 'VAE' else 'tcn_gan'}", make_generator

    def poisoned(*parts):
        if parts[1] == 4 and parts[2] == 6:  # the noise of update 6
            for parameter in method.network.parameters():
                parameter.data.fill_(torch.nan)
        return real(*parts)

    monkeypatch.setattr(f"{module}.make_generator", poisoned)
    torch.manual_seed(0)
    method = METHODS[name]()
    with pytest.raises(
        FloatingPointError,
        match=r"loss is nan at update 6, learning rate 0\.00\d+; .*last good checkpoint: .*checkpoint.pt",
    ):
        method.fit(samples(), TRAINING_ARGS, 3, tmp_path / "checkpoint.pt")
    stored = read_checkpoint(tmp_path / "checkpoint.pt")
    assert len(stored["history"]) == 4 and all(v.isfinite().all() for v in stored["denoiser"].values())


def test_the_critic_is_in_the_checkpoint_only(tmp_path):
    method, _ = train("TCN-GAN", tmp_path / "checkpoint.pt")
    stored = read_checkpoint(tmp_path / "checkpoint.pt")
    assert {"critic", "critic_optimizer"} <= set(stored)
    assert not any("critic" in name for name in method.network.state_dict())


@pytest.mark.parametrize("name", METHODS)
def test_periods_of_another_length_are_refused(name):
    with pytest.raises(ValueError, match="periods of 24 hours; got samples of 168"):
        METHODS[name]().fit(samples(length=168), TRAINING_ARGS)


@pytest.mark.parametrize("name", METHODS)
def test_incomplete_periods_are_left_out(name):
    holed = samples()
    holed.x[::2, 5] = torch.nan
    history = METHODS[name]().fit(holed, TrainingArguments(n_updates=2, batch_size=4))
    assert history["loss"].notna().all()
