"Section 5 against independent computations: every equation, every schedule, every sampler."

import math

import pytest
import torch
from torch.testing import assert_close

from stouter.diffusion.dpm_solver import sample_dpmpp_2m
from stouter.diffusion.forward import SCHEDULES, NoiseSchedule, linear_schedule, q_sample, respace
from stouter.diffusion.objective import LOSSES, OBJECTIVES
from stouter.diffusion.reverse import SAMPLERS, ddim_step, ddpm_step, q_posterior
from stouter.training.batches import make_generator


def exact_schedule(n_steps):
    "The paper's constants by plain Python arithmetic: beta, alpha_bar."
    beta = [1e-4 + (0.02 - 1e-4) * i / max(n_steps - 1, 1) for i in range(n_steps)]
    alpha_bar, product = [], 1.0
    for b in beta:
        product *= 1 - b
        alpha_bar.append(product)
    return beta, alpha_bar


def normal_density(x, mean, variance):
    return math.exp(-((x - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)


@pytest.mark.parametrize("n_steps", [1, 10, 1000])
def test_constants(n_steps):
    beta, alpha_bar = exact_schedule(n_steps)
    schedule = SCHEDULES["linear"](n_steps)
    assert_close(schedule.beta.tolist(), beta, rtol=1e-6, atol=0)
    assert_close(schedule.alpha_bar.tolist(), alpha_bar, rtol=1e-6, atol=0)


def test_eq_4_to_7_many_steps_and_one_step_have_the_same_moments():
    beta, alpha_bar = exact_schedule(1000)
    mean, variance = 1.7, 0.0
    x0 = torch.full((1, 1, 1), 1.7, dtype=torch.float64)
    for t in range(1000):  # Eq. 4: one transition (Eq. 5) after the other
        mean, variance = math.sqrt(1 - beta[t]) * mean, (1 - beta[t]) * variance + beta[t]
        if t in (0, 10, 500, 999):
            at = torch.tensor([t])
            centre = q_sample(x0, at, torch.zeros_like(x0), linear_schedule()).item()
            spread = q_sample(x0, at, torch.ones_like(x0), linear_schedule()).item() - centre
            assert centre == pytest.approx(mean, rel=1e-5) and spread**2 == pytest.approx(
                variance, rel=1e-3
            )  # 1 - alpha_bar of a stored single


@pytest.mark.parametrize("t", [1, 10, 300, 999])
def test_eq_9_to_11_posterior_is_bayes_rule_on_a_grid(t):
    beta, alpha_bar = exact_schedule(1000)
    x0, eps = 0.4, -0.8
    x_t = math.sqrt(alpha_bar[t]) * x0 + math.sqrt(1 - alpha_bar[t]) * eps
    mean, variance = q_posterior(
        *(torch.full((1, 1, 1), v, dtype=torch.float64) for v in (x_t, eps)), torch.tensor([t]), linear_schedule()
    )
    centre, width = mean.item(), 8 * variance.sqrt().item()
    grid = [centre + width * (i / 2000 - 1) for i in range(4001)]
    weight = [
        normal_density(x_t, math.sqrt(1 - beta[t]) * x, beta[t])
        * normal_density(x, math.sqrt(alpha_bar[t - 1]) * x0, 1 - alpha_bar[t - 1])
        for x in grid
    ]  # Eq. 10, without its constant denominator
    total = sum(weight)
    found = sum(w * x for w, x in zip(weight, grid)) / total
    assert found == pytest.approx(centre, abs=1e-4)
    assert sum(w * (x - found) ** 2 for w, x in zip(weight, grid)) / total == pytest.approx(variance.item(), rel=2e-3)


def test_eq_8_and_12_one_step_back():
    beta, alpha_bar = exact_schedule(1000)
    x, eps, noise, t = 0.3, -0.5, 1.2, 400
    mean = (x - beta[t] / math.sqrt(1 - alpha_bar[t]) * eps) / math.sqrt(1 - beta[t])
    sd = math.sqrt((1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * beta[t])
    x, eps, noise = (torch.full((1, 1, 1), v) for v in (x, eps, noise))
    assert ddpm_step(x, eps, torch.tensor([t]), linear_schedule(), noise).item() == pytest.approx(
        mean + sd * 1.2, rel=1e-5
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("n_steps", [1, 10, 1000])
def test_the_true_noise_undoes_the_last_step(schedule, n_steps):
    chain = SCHEDULES[schedule](n_steps)
    x0, eps, first = torch.rand(4, 1, 24), torch.randn(4, 1, 24), torch.zeros(4, dtype=torch.long)
    x = q_sample(x0, first, eps, chain)
    for step in (ddpm_step, ddim_step):
        assert_close(step(x, eps, first, chain, torch.randn(4, 1, 24)), x0, atol=1e-4, rtol=0)


def test_eq_18_as_printed_with_the_product():
    _, alpha_bar = exact_schedule(1000)
    x0, eps, t = torch.tensor([[[0.7]]]), torch.tensor([[[-1.1]]]), 250
    a = alpha_bar[t]
    expected = (1 - math.sqrt(a)) * 0.7 - math.sqrt(1 - a) * -1.1
    assert OBJECTIVES["paper"](linear_schedule()).target(x0, eps, torch.tensor([t])).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_the_velocity_is_the_derivative_along_the_circle():
    "v = d x / d angle, where x = cos(angle) x0 + sin(angle) eps and cos(angle)^2 = alpha_bar."
    _, alpha_bar = exact_schedule(1000)
    angle, h = math.acos(math.sqrt(alpha_bar[250])), 1e-5
    x = [math.cos(angle + d) * 0.7 + math.sin(angle + d) * -1.1 for d in (-h, h)]
    v = OBJECTIVES["v_prediction"](linear_schedule()).target(
        torch.tensor([[[0.7]]]), torch.tensor([[[-1.1]]]), torch.tensor([250])
    )
    assert v.item() == pytest.approx((x[1] - x[0]) / (2 * h), rel=1e-4)


def test_eq_19_and_its_l1_reading():
    target, out = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.0, 1.0, 0.5])
    assert LOSSES["mse"](out, target).item() == pytest.approx((1 + 9 + 0) / 3)
    assert LOSSES["l1"](out, target).item() == pytest.approx((1 + 3 + 0) / 3)


def oracle(schedule, m, s):
    "E[eps | x_t] for data of N(m, s^2)."

    def predict(x_t, t):
        a = schedule.alpha_bar[t][:, None, None].to(x_t)
        return (1 - a).sqrt() / (a * s**2 + 1 - a) * (x_t - a.sqrt() * m)

    return predict


def moments_of(sampler, schedule, n_steps, m, s):
    "Mean and standard deviation of 60,000 generated numbers: standard errors 0.004 s and 0.003 s."
    x = SAMPLERS[sampler](oracle(schedule, m, s), (2500, 1, 24), schedule, n_steps, make_generator(7))
    return x.mean().item(), x.std().item()


# the largest relative error of the standard deviation for a number of steps, including that of 60,000 draws
WIDTH = {
    "ddpm": {10: 0.35, 25: 0.2, 100: 0.06, 1000: 0.02},
    "ddim": {10: 0.2, 25: 0.09, 100: 0.03, 1000: 0.02},
    "dpmpp_2m": {10: 0.08, 25: 0.025, 100: 0.015, 1000: 0.015},
}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("n_steps", [10, 25, 100, 1000])
def test_every_sampler_returns_the_gaussian_of_its_oracle(sampler, n_steps):
    m, s = 0.3, 0.3
    mean, deviation = moments_of(sampler, linear_schedule(), n_steps, m, s)
    assert mean == pytest.approx(m, abs=0.006) and deviation == pytest.approx(s, rel=WIDTH[sampler][n_steps])


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("schedule", ["rescaled_linear", "cosine"])
@pytest.mark.parametrize("n_steps", [1, 10, 1000])
def test_short_schedules_that_end_in_noise_give_the_mean(sampler, schedule, n_steps):
    mean, deviation = moments_of(sampler, SCHEDULES[schedule](n_steps), n_steps, 0.3, 0.3)
    assert mean == pytest.approx(0.3, abs=0.03)  # one step keeps 3 % of the signal, and misses that much
    if n_steps == 1:
        assert deviation < 0.01  # one prediction from noise alone is a constant
    if n_steps == 1000:
        assert deviation == pytest.approx(0.3, rel=0.03)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m"])  # DDPM draws fresh noise at each step
def test_a_sample_does_not_see_its_batch(sampler):
    schedule = linear_schedule(50)
    whole, alone = (
        SAMPLERS[sampler](oracle(schedule, 0.1, 0.3), (n, 1, 24), schedule, 5, make_generator(1)) for n in (6, 2)
    )
    assert_close(alone, whole[:2])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_shapes_steps_and_seeds(sampler):
    schedule = linear_schedule(1000)
    calls = []

    def counted(x, t):
        calls.append(int(t[0]))
        return torch.zeros_like(x)

    for n_steps in (1, 2, 7):
        calls.clear()
        SAMPLERS[sampler](counted, (2, 1, 168), schedule, n_steps, make_generator(0))
        assert len(calls) == n_steps and calls[0] == 999 and calls == sorted(calls, reverse=True)
    for bad in (0, 1001):
        with pytest.raises(ValueError, match="choose 1 to 1000"):
            SAMPLERS[sampler](counted, (2, 1, 24), schedule, bad, make_generator(0))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_of_diffusers(eta):
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, clip_sample=False)
    theirs.set_timesteps(1000)
    x, eps, noise = (torch.randn(3, 1, 24, generator=make_generator(k)) for k in range(3))
    for t in (1, 30, 500, 999):
        expected = theirs.step(eps, t, x, eta=eta, variance_noise=noise).prev_sample
        ours = ddim_step(x, eps, torch.full((3,), t), linear_schedule(), noise, eta)
        assert_close(ours, expected, atol=1e-3, rtol=1e-3)


def test_ddpm_of_diffusers():
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(
        num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, clip_sample=False, variance_type="fixed_small"
    )
    x, eps = (torch.randn(3, 1, 24, generator=make_generator(k)) for k in range(2))
    for t in (0, 1, 30, 500, 999):
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(t))
        expected = theirs.step(eps, t, x, generator=torch.Generator().manual_seed(t)).prev_sample
        assert_close(ddpm_step(x, eps, torch.full((3,), t), linear_schedule(), noise), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("n_steps", [1, 2, 3, 10, 100])
@pytest.mark.parametrize("spacing_power, final_noise_variance, t_min", [(1.0, 0.0, 0), (3.0, 0.0, 0), (2.0, 0.002, 10)])
def test_the_solver_of_diffusers(n_steps, spacing_power, final_noise_variance, t_min):
    from diffusers import DPMSolverMultistepScheduler

    schedule = linear_schedule()
    predict = oracle(schedule, 0.3, 0.3)
    theirs = DPMSolverMultistepScheduler(
        beta_start=1e-4, beta_end=0.02, final_sigmas_type="zero", lower_order_final=True
    )
    theirs.set_timesteps(timesteps=respace(schedule, n_steps, spacing_power, t_min)[1].flip(0).tolist())
    x = torch.randn((3, 1, 24), generator=make_generator(2))
    for t in theirs.timesteps:
        x = theirs.step(predict(x, t.expand(3)), t, x).prev_sample
    assert_close(
        sample_dpmpp_2m(predict, (3, 1, 24), schedule, n_steps, make_generator(2), spacing_power, final_noise_variance),
        x,
        atol=5e-4,
        rtol=5e-3,
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_from_alpha_bar_gives_the_schedule_back(schedule):
    ours = SCHEDULES[schedule](100)
    again = NoiseSchedule.from_alpha_bar(ours.alpha_bar.double())
    assert_close(again.alpha_bar, ours.alpha_bar, rtol=1e-5, atol=1e-8)
    assert_close(ours.alpha_bar_prev[1:] * ours.alpha[1:], ours.alpha_bar[1:], rtol=1e-5, atol=0)


@pytest.mark.parametrize("n_steps", [0, -3])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_has_at_least_one_step(schedule, n_steps):
    with pytest.raises(ValueError):
        SCHEDULES[schedule](n_steps)


def test_a_schedule_rejects_invalid_betas():
    for beta in ([], [0.0, 0.1], [0.5, 1.0], [float("nan")]):
        with pytest.raises(ValueError):
            NoiseSchedule(torch.tensor(beta, dtype=torch.float64))
