"Every field of the configuration changes the weights or samples of the methods that read it, and of no other."

from dataclasses import replace
from functools import cache

import pytest
import torch

from stouter.config import ExperimentConfig
from stouter.config_file import load_config
from stouter.data.dataset import Condition, TrafficDataset
from stouter.files import InputError
from stouter.method_fields import UNREAD_FIELDS, is_read
from stouter.pipeline.methods import METHODS, build_method, make_training_args
from stouter.pipeline.provenance import isolated_seed
from stouter.training.batches import make_generator

VALUES = {  # field -> another value
    "denoiser.base_channels": 4,
    "denoiser.channel_multipliers": (1, 1),
    "denoiser.fusion": "gate",
    "denoiser.n_heads": 2,
    "denoiser.residual_attention": False,
    "denoiser.pool_hours": True,
    "denoiser.n_fourier_features": 4,
    "diffusion.n_steps": 40,
    "diffusion.schedule": "cosine",
    "diffusion.prediction_type": "epsilon",
    "diffusion.loss": "l1",
    "diffusion.sampler": "ddim",
    "diffusion.n_sampling_steps": 3,
    "diffusion.guidance_scale": 2.0,
    "diffusion.sampling_dtype": "bfloat16",
    "train.n_updates": 2,
    "train.batch_size": 6,
    "train.lr": 1e-2,
    "train.weight_decay": 0.5,
    "train.max_grad_norm": 1e-6,
    "train.ema_decay": 0.1,
    "train.cond_drop_prob": 0.5,
    "train.antithetic_timesteps": False,
    "train.station_jitter": 0.5,
    "train.station_drop_prob": 0.5,
    "train.covariate_drop_prob": 0.5,
    "train.weekday_randomization": 0.0,
}
OPERATION = {  # of the loop, and where it runs
    *("train.validate_every", "train.patience", "train.checkpoint_every", "train.tensorboard"),
    *("train.n_processes", "train.accelerator"),
}


def days(covariates=False):
    "Two weeks of two stations, perhaps with two covariates."
    station, week = torch.arange(2).repeat_interleave(14), torch.arange(168).reshape(7, 24).repeat(4, 1)
    x = torch.rand(28, 24, generator=make_generator(1))
    tables = torch.randn(2, 6, generator=make_generator(2)), torch.randn(168, 6, generator=make_generator(3))
    condition = Condition(station, week, *tables)
    if covariates:
        numbers = torch.rand(28, 24, 4, generator=make_generator(4))
        condition = replace(condition, covariate_table=numbers, covariate_row=torch.arange(28))
    return TrafficDataset(x, condition, 2)


def with_value(config, key, value):
    "The configuration with one field changed and nothing checked."
    section, name = key.split(".")
    part = getattr(config, section).model_copy(update={name: value})
    return config.model_copy(update={section: part})


@cache
def outcome(method, key=None, covariates=False):
    "Averaged weights after three updates, and samples, as bytes."
    config = load_config("tiny", {"method": method, "train.n_updates": "3", "train.batch_size": "8"})
    config = with_value(config, "train.weekday_randomization", 1.0)
    if key == "diffusion.guidance_scale":  # acts on a network that was also trained without condition
        config = with_value(config, "train.cond_drop_prob", 0.5)
    if key:
        config = with_value(config, key, VALUES[key])
    data = days(covariates)
    with isolated_seed(0, 1):
        trained = build_method(config, 6, 6, 4 if covariates else 0)
    trained.fit(data, make_training_args(config.train, data), 0, None, None, None)
    samples = trained.sample(data.condition[:3], 2, make_generator(5))
    return tuple(v.numpy().tobytes() for v in (*trained.network.state_dict().values(), samples))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("key", VALUES)
def test_field_acts_where_it_is_read(method, key):
    reference = "train.cond_drop_prob" if key == "diffusion.guidance_scale" else None
    covariates = key == "train.covariate_drop_prob"  # acts where there are some
    assert (outcome(method, key, covariates) != outcome(method, reference, covariates)) == is_read(method, key)


def test_all_fields_are_tested():
    sections = ("denoiser", "diffusion", "train")
    fields = {f"{s}.{name}" for s in sections for name in ExperimentConfig.model_fields[s].annotation.model_fields}
    assert fields == set(VALUES) | OPERATION and set(UNREAD_FIELDS) == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_field_that_is_not_read_is_refused(method):
    for key, value in VALUES.items():
        words = {"method": method, key: value, "train.cond_drop_prob": VALUES["train.cond_drop_prob"]}
        if not is_read(method, "train.cond_drop_prob") or key != "diffusion.guidance_scale":
            words.pop("train.cond_drop_prob")
        if key == "train.cond_drop_prob":
            words[key] = value
        if is_read(method, key):
            assert load_config("demo", words).method == method
        elif key != "diffusion.guidance_scale":  # has a message of its own
            with pytest.raises(InputError, match=f"{key}: not read by the method {method}, only by"):
                load_config("demo", words)
