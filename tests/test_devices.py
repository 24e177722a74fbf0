"""Training, sampling, inversion and distillation on another device than the CPU, without such a device.

The meta device has shapes and no values. Like a GPU it refuses operations that mix it with tensors of the CPU, so a
forgotten `.to(device)` fails here as it would there. `Readable` lets results be copied back: as the tensor that was
copied there where that is the same one, as made-up numbers where it was computed.
The pretraining of graphs is not here: a run does it on the CPU.
"""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary
from training_jobs import small_samples

from stouter.baselines.engression import Engression
from stouter.baselines.tcn_gan import TCNGAN
from stouter.baselines.vae import VAE
from stouter.data.known_days import KnownDays
from stouter.denoisers.diffwave import DiffWave
from stouter.denoisers.guidance import classifier_free_guidance
from stouter.denoisers.stunet import STUnet
from stouter.diffusion.forward import linear_schedule
from stouter.diffusion.objective import LOSSES, OBJECTIVES
from stouter.diffusion.reverse import SAMPLERS
from stouter.joint.inversion import integrate_noise, invert_days
from stouter.training.batches import make_generator
from stouter.training.distillation import TeacherSamples, distill, sample_teacher, select_conditions
from stouter.training.generator import DiffusionGenerator
from stouter.training.state import TrainingArguments

aten = torch.ops.aten
CPU, META = torch.device("cpu"), torch.device("meta")
ARGS = TrainingArguments(
    n_updates=2, batch_size=8, validate_every=1, checkpoint_every=1, cond_drop_prob=0.2, station_jitter=0.1
)


class Readable(TorchDispatchMode):
    "Tensors of the meta device can be read on the CPU; what was computed there is 0.5, or 1 for whole numbers."

    def __init__(self):
        super().__init__()
        self.copied = WeakTensorKeyDictionary()  # tensor of the meta device -> what was copied there

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        source = args[0] if args else None
        if not isinstance(source, torch.Tensor):
            return func(*args, **kwargs)
        if source.is_meta and func is aten._local_scalar_dense.default:
            return 0.5 if source.dtype.is_floating_point else 1
        if func is not aten._to_copy.default:
            return func(*args, **kwargs)
        target = torch.device(kwargs.get("device") or source.device).type
        if source.is_meta and target == "cpu":
            values = self.copied.get(source)
            if values is None:
                values = torch.ones(source.shape, dtype=source.dtype) * (0.5 if source.dtype.is_floating_point else 1)
            return values.to(kwargs.get("dtype") or source.dtype)
        out = func(*args, **kwargs)
        if target == "meta" and not source.is_meta:
            self.copied[out] = source
        return out


@pytest.fixture(params=[CPU, META], ids=str)
def device(request, monkeypatch):
    "The CPU, and the meta device."
    if request.param.type == "cpu":
        yield request.param
        return
    adamw, clip = torch.optim.AdamW, torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.optim, "AdamW", lambda *args, fused, **words: adamw(*args, foreach=False, **words))
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda parameters, norm, foreach: clip(parameters, norm))
    monkeypatch.setattr(torch, "autocast", lambda *args, **words: nullcontext())  # there is none for this device
    with Readable():
        yield request.param


def generator(denoiser, sampler="dpmpp_2m"):
    "A diffusion with 20 steps, sampled with 4, guided."
    objective = OBJECTIVES["v_prediction"](linear_schedule(20))
    return DiffusionGenerator(
        denoiser, objective, LOSSES["mse"], SAMPLERS[sampler], 4, lambda d, c: classifier_free_guidance(d, c, 2.0)
    )


DENOISERS = {
    "stunet": lambda: STUnet(6, 5, base_channels=8, channel_multipliers=(1, 2), n_fourier_features=4),
    "diffwave": lambda: DiffWave(6, 5, residual_channels=8, n_layers=2),
}


def samples_of(days, covariates=False, known=False):
    "Random days, perhaps with two covariates, or with known days of their stations."
    condition = days.condition
    if covariates:
        table = torch.rand(len(days), 24, 4, generator=make_generator(8))
        condition = replace(condition, covariate_table=table, covariate_row=torch.arange(len(days)))
    if known:
        values = torch.rand(3, 7, 24, generator=make_generator(9))
        weekend, date = torch.arange(7).expand(3, 7) % 6 == 0, torch.arange(7).expand(3, 7)
        known_days = KnownDays(values, weekend, date)
        condition = replace(condition, known_days=known_days, known=torch.ones(len(days), 7, dtype=torch.bool))
    return replace(days, condition=condition)


def test_the_meta_device_refuses_mixed_operands(device):
    there, here = torch.zeros(3, device=device), torch.ones(3)
    if device.type == "cpu":
        assert (there + here).tolist() == [1, 1, 1]
        return
    with pytest.raises(RuntimeError, match="not on the expected device|meta"):
        there + here
    assert (there + 1).cpu().tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("name", DENOISERS)
def test_diffusion_trains_resumes_and_samples(name, device, tmp_path):
    torch.manual_seed(0)
    method = generator(DENOISERS[name]()).to(device)
    days, held = small_samples(16), small_samples(8, seed=9)
    words = {"checkpoint": tmp_path / "checkpoint.pt", "validation": held}
    if device.type == "meta":
        words = {"validation": held}  # a tensor without values cannot be written
    history = method.fit(days, ARGS, **words)
    assert len(history) == 2 and next(method.network.parameters()).device.type == device.type
    x = method.sample(held.condition, 3, make_generator(1), batch_size=5)
    assert x.shape == (3, 8, 24) and x.device.type == "cpu"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers(sampler, device):
    method = generator(DENOISERS["stunet"](), sampler).to(device)
    assert method.sample(small_samples(4).condition, 2, make_generator(1)).shape == (2, 4, 24)


@pytest.mark.parametrize("words", [{"covariates": True}, {"known": True}], ids=str)
def test_further_conditions(words, device):
    days = samples_of(small_samples(16), **words)
    first = days.condition[:1]
    n_covariates = 4 if first.covariates is not None else 0
    denoiser = STUnet(
        6, first.hour_emb.shape[-1], base_channels=8, channel_multipliers=(1,), covariate_dim=n_covariates
    )
    method = generator(denoiser).to(device)
    assert len(method.fit(days, ARGS)) == 2
    assert method.sample(days.condition[:3], 2, make_generator(1)).shape == (2, 3, 24)


def test_inversion_and_given_noise(device):
    method, days = generator(DENOISERS["stunet"]()).to(device), small_samples(6)
    noise = invert_days(method, days.condition, days.x, n_steps=5, n_iterations=2)
    assert noise.shape == (6, 24) and noise.device.type == "cpu"
    assert integrate_noise(method, days.condition, noise, 4).device.type == "cpu"


def test_distillation(device):
    teacher, days = generator(DENOISERS["stunet"]()).to(device), small_samples(14)
    condition = select_conditions(days.condition, 8, 0)
    x = torch.stack([sample_teacher(teacher, condition, 0, k) for k in range(2)])
    assert x.device.type == "cpu" and x.shape == (2, 8, 24)
    history = distill(teacher, TeacherSamples(x, condition), TrainingArguments(2, 16, patience=0))
    assert len(history) == 2


@pytest.mark.parametrize("method", [VAE, TCNGAN, Engression])
def test_one_step_methods(method, device):
    one = method(6, 5).to(device)
    arguments = replace(method.training_args, n_updates=2, batch_size=8, validate_every=1)
    assert len(one.fit(small_samples(16), arguments, validation=small_samples(8))) == 2
    assert one.sample(small_samples(4).condition, 2, make_generator(1)).device.type == "cpu"
