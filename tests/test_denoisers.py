"Section 5.3 by independent computations: Eqs. 13-17, numbers of parameters, and the dependence on each input."

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from stouter.denoisers.attention import LinearAttention, MultiHeadAttention
from stouter.denoisers.diffwave import DILATION_CYCLES, DiffWave
from stouter.denoisers.fusion import FUSIONS
from stouter.denoisers.guidance import classifier_free_guidance, drop_condition
from stouter.denoisers.layers import ChannelsLastConv1d, Upsample
from stouter.denoisers.stffm import STFFM, TimestepEmbedding
from stouter.denoisers.stunet import STUnet
from stouter.diffusion.forward import linear_schedule
from stouter.diffusion.reverse import SAMPLERS

LENGTHS = [1, 23, 24, 25, 168]
near = {"atol": 1e-5, "rtol": 1e-4}


def condition_of(size, length=24, seed=1):
    g = torch.Generator().manual_seed(seed)
    return SimpleNamespace(
        station_emb=torch.randn(size, 6, generator=g), hour_emb=torch.randn(size, length, 5, generator=g)
    )


NETS = {"STUnet": STUnet, "DiffWave": DiffWave}
LAYERS = {"STUnet": ("base_channels", "conv_out"), "DiffWave": ("residual_channels", "output_projection")}


def random_net(kind="STUnet", **sizes):
    "A network with a random last layer, since zero output would pass most tests."
    torch.manual_seed(0)
    channels, last_layer = LAYERS[kind]
    net = NETS[kind](6, 5, **{channels: 8, **sizes}).eval()
    nn.init.normal_(getattr(net, last_layer).weight)
    return net


def channels_first(conv, x, stride=1):
    return F.conv1d(
        x.transpose(1, 2), conv.weight.transpose(1, 2), conv.bias, stride, conv.weight.shape[1] // 2
    ).transpose(1, 2)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("stride", [1, 2])
def test_hour_convolution_is_the_one_dimensional_convolution(length, stride):
    conv, x = ChannelsLastConv1d(6, 10, stride=stride), torch.randn(3, length, 6)
    nn.init.normal_(conv.bias)
    assert_close(conv(x), channels_first(conv, x, stride), **near)


@pytest.mark.parametrize("length", [1, 6, 7])
def test_gradients_of_the_hour_convolutions(length):
    x = torch.randn(2, length, 3, dtype=torch.float64, requires_grad=True)
    for layer in (
        ChannelsLastConv1d(3, 4),
        ChannelsLastConv1d(3, 4, stride=2),
        ChannelsLastConv1d(3, 4, kernel_size=1, bias=False),
        Upsample(3, 4),
    ):
        assert torch.autograd.gradcheck(layer.double(), (x,))


@pytest.mark.parametrize("length", LENGTHS)
def test_eq_13_is_torchs_attention(length):
    layer, x = MultiHeadAttention(12), torch.randn(3, length, 12)
    q, k, v = (layer.to_qkv.weight[:, 0] @ x.transpose(1, 2)).transpose(1, 2).chunk(3, dim=-1)
    heads = [F.scaled_dot_product_attention(*(p[..., 3 * i : 3 * i + 3] for p in (q, k, v))) for i in range(4)]
    assert_close(layer(x), torch.cat(heads, dim=-1) @ layer.to_out.weight[:, 0].T, **near)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("channels", [12, 64])
def test_eq_14_is_a_loop_over_heads(channels, length):
    layer, x, d_k = LinearAttention(channels), torch.randn(2, length, channels), channels // 4
    w = layer.to_qkv.weight[:, 0]
    out = torch.empty_like(x)
    for b in range(2):
        for i in range(4):
            q, k, v = (x[b] @ w[part * channels + i * d_k :][:d_k].T for part in range(3))
            q, k = q.exp() / q.exp().sum(1, keepdim=True), k.exp() / k.exp().sum(0, keepdim=True)
            out[b, :, i * d_k : (i + 1) * d_k] = q @ (k.T @ v)
    assert_close(layer(x), out @ layer.to_out.weight[:, 0].T, **near)


def test_eq_15_is_sines_and_a_perceptron():
    embed, t = TimestepEmbedding(8), torch.tensor([0, 1, 731])
    wave = torch.tensor([[f(step * 1e-4 ** (k / 3)) for f in (torch.sin, torch.cos) for k in range(4)] for step in t])
    first, last = embed.mlp[0], embed.mlp[2]
    assert_close(embed(t), F.elu(wave @ first.weight.T + first.bias) @ last.weight.T + last.bias, **near)


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("hours", [24, 1])
def test_eq_16_and_17_as_printed(name, hours):
    block = STFFM(4, 8, station_dim=6, hour_dim=5, step_dim=12, fusion=FUSIONS[name])
    x, step, given = torch.randn(3, 24, 4), torch.randn(3, 12), condition_of(3, hours)
    f_st = torch.stack(
        [
            block.cond_proj(step + block.fuse(given.station_emb, given.hour_emb[:, min(h, hours - 1)]))
            for h in range(24)
        ],
        dim=1,
    )
    x_hat = channels_first(block.conv_in, x)
    assert_close(
        block(x, step, block.embed_condition(given.station_emb, given.hour_emb)),
        F.elu(x_hat + channels_first(block.conv_out, x_hat + f_st)),
        **near,
    )


@pytest.mark.parametrize("width, millions", [(32, 1), (64, 4)])
@pytest.mark.parametrize("name", FUSIONS)
def test_number_of_parameters(name, width, millions):
    with torch.device("meta"):
        n = sum(p.numel() for p in STUnet(32, 32, width, (1, 2, 4), FUSIONS[name]).parameters()) / 1e6
    assert 0.8 * millions < n < (1.35 if name == "concat" else 1.65) * millions


@pytest.mark.parametrize("name", FUSIONS)
def test_diffwave_has_as_many_parameters_as_stunet(name):
    with torch.device("meta"):
        ours, theirs = (
            sum(p.numel() for p in kind(32, 32, fusion=FUSIONS[name]).parameters()) for kind in (DiffWave, STUnet)
        )
    assert 0.8 < ours / theirs < 1.5


@pytest.mark.parametrize("period, length", [("day", 24), ("week", 168)])
def test_every_hour_of_diffwave_depends_on_every_hour(period, length):
    net, given = random_net("DiffWave", dilation_cycle_length=DILATION_CYCLES[period]).double(), condition_of(1, length)
    condition = SimpleNamespace(station_emb=given.station_emb.double(), hour_emb=given.hour_emb.double())
    x = torch.randn(1, 1, length, dtype=torch.float64)
    reach = torch.autograd.functional.jacobian(
        lambda x: net(x, torch.tensor([500.0], dtype=torch.float64), condition)[0, 0], x
    )[:, 0, 0]
    assert (reach != 0).all()


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize(
    "name, pool_hours, length",
    [*((n, False, 24) for n in FUSIONS), *(("concat", p, n) for p in (False, True) for n in LENGTHS)],
)
def test_embedded_condition_gives_the_same_bits(kind, name, pool_hours, length):
    net, condition, x = (
        random_net(kind, fusion=FUSIONS[name], pool_hours=pool_hours),
        condition_of(3, length),
        torch.randn(3, 1, length),
    )
    cond = net.embed_condition(condition)
    for step in (0, 999):
        t = torch.full((3,), step)
        out = net(x, t, condition)
        assert out.shape == (3, 1, length) and out.abs().max() > 0
        assert torch.equal(net.denoise(x, t, cond), out)


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samples_on_an_embedded_condition_are_the_samples_without(kind, sampler):
    net, condition, schedule = random_net(kind), condition_of(3), linear_schedule(50)
    cond = net.embed_condition(condition)
    samples = [
        SAMPLERS[sampler](predict, (3, 1, 24), schedule, 5, torch.Generator().manual_seed(0))
        for predict in (
            lambda x, t: net(x, t, condition),
            lambda x, t: net.denoise(x, t, cond),
            classifier_free_guidance(net, condition),
        )
    ]
    assert torch.equal(samples[0], samples[1]) and torch.equal(samples[0], samples[2])


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("length", [23, 24, 168])
def test_samples_of_a_batch_do_not_see_each_other(kind, length):
    net, condition, x, t = (
        random_net(kind),
        condition_of(5, length),
        torch.randn(5, 1, length),
        torch.tensor([0, 10, 300, 700, 999]),
    )
    out = net(x, t, condition)
    for i in range(5):
        alone = SimpleNamespace(station_emb=condition.station_emb[i : i + 1], hour_emb=condition.hour_emb[i : i + 1])
        assert_close(net(x[i : i + 1], t[i : i + 1], alone), out[i : i + 1], **near)
    many, steps = torch.randn(15, 1, length), t.repeat(3)
    thrice = torch.cat([net(many[k : k + 5], steps[k : k + 5], condition) for k in (0, 5, 10)])
    assert_close(net.denoise(many, steps, net.embed_condition(condition)), thrice, **near)


@pytest.mark.parametrize("kind", NETS)
def test_condition_of_another_length_or_number_is_refused(kind):
    net = random_net(kind)
    cond = net.embed_condition(condition_of(4))
    for x in (torch.randn(4, 1, 23), torch.randn(6, 1, 24), torch.randn(3, 1, 24)):
        with pytest.raises(ValueError, match="4 conditions of 24 hours do not fit"):
            net.denoise(x, torch.zeros(len(x), dtype=torch.long), cond)


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("name", FUSIONS)
def test_swapping_two_stations_swaps_their_outputs(kind, name):
    net, given = random_net(kind, fusion=FUSIONS[name]), condition_of(2)
    x, t = torch.randn(1, 1, 24).expand(2, 1, 24), torch.tensor([500, 500])
    pair = SimpleNamespace(station_emb=given.station_emb, hour_emb=given.hour_emb[:1].expand(2, 24, 5))
    out, swapped = (
        net(x, t, pair),
        net(x, t, SimpleNamespace(station_emb=pair.station_emb.flip(0), hour_emb=pair.hour_emb)),
    )
    assert_close(swapped, out.flip(0), **near)
    assert (out[0] - out[1]).abs().mean() > 1e-3


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("zeroed, other", [("station_emb", "hour_emb"), ("hour_emb", "station_emb")])
def test_zeroed_embedding_removes_that_dependence_alone(kind, name, zeroed, other):
    net, a, b, x, t = (
        random_net(kind, fusion=FUSIONS[name]),
        condition_of(4),
        condition_of(4, seed=2),
        torch.randn(4, 1, 24),
        torch.full((4,), 500),
    )

    def ablate(own, kept):
        return SimpleNamespace(**{zeroed: torch.zeros_like(getattr(own, zeroed)), other: getattr(kept, other)})

    out = net(x, t, ablate(a, a))
    assert torch.equal(out, net(x, t, ablate(b, a)))  # the zeroed embedding has no effect
    assert (net(x, t, ablate(a, b)) - out).abs().mean() > 1e-3  # the other embedding has
    assert (net(x, t.flip(0) - 400, ablate(a, a)) - out).abs().mean() > 1e-3
    assert (net(x, t, a) - out).abs().mean() > 1e-3  # before, the zeroed one had an effect, too


@pytest.mark.parametrize("kind", NETS)
def test_every_parameter_learns_with_every_fusion(kind):
    for name in FUSIONS:
        net, x = random_net(kind, fusion=FUSIONS[name]), torch.randn(4, 1, 24)
        (net(x, torch.tensor([0, 10, 500, 999]), condition_of(4)) - x).square().mean().backward()
        assert not [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0], name


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_guidance_weighs_conditional_and_unconditional(kind, weight):
    net, condition, x, t = random_net(kind), condition_of(4), torch.randn(8, 1, 24), torch.full((8,), 300)
    twice = SimpleNamespace(station_emb=condition.station_emb.repeat(2, 1), hour_emb=condition.hour_emb.repeat(2, 1, 1))
    conditional, unconditional = net(x, t, twice), net(x, t, drop_condition(twice, torch.zeros(8, dtype=torch.bool)))
    assert (conditional - unconditional).abs().mean() > 1e-3
    assert_close(
        classifier_free_guidance(net, condition, weight)(x, t),
        unconditional + weight * (conditional - unconditional),
        **near,
    )
