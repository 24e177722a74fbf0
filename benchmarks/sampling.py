"""How long does a batch take? One batch of 128 station-days, defaults, from noise to traffic, condition included.

    python benchmarks/sampling.py [--threads 1 2] [--steps 25] [--repeats 7] [--json | --write]

Prints a table for each number of threads (seconds are the best of several; rates and fractions are of the same table): the whole batch; what is
done once (embed_condition) and at each step (denoise); a training update; all as fractions of the rates that this machine reaches in a large fp32 matrix
product and in a large fp32 convolution, which need not be the same. With one thread the clock is CPU time, else wall time.

With the package denoising-diffusion-pytorch (Phil Wang; pip install denoising-diffusion-pytorch; wanted by nothing else here) its `Unet1D`
is measured beside ours at an equal number of parameters, unconditioned as it is.
"""

import argparse
import importlib
import importlib.util
import sys
import time
from types import SimpleNamespace

import torch
from kept import finish
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from stouter.config import DenoiserConfig, DiffusionConfig
from stouter.denoisers.fusion import FUSIONS
from stouter.denoisers.stunet import STUnet
from stouter.diffusion.forward import SCHEDULES
from stouter.diffusion.reverse import SAMPLERS

BATCH, HOURS, DIM = 128, 24, 32  # station-days, hours, length of both embeddings


def seconds(calls: dict, repeats: int) -> dict[str, float]:
    "Best time of each call, the calls taking turns so that a busy machine is unfair to none."
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats + 1):  # the first round warms up
        for name, call in calls.items():
            started = clock()
            call()
            best[name] = min(best[name], clock() - started)
    return best


def gflop(call) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9


def peaks(repeats: int) -> dict[str, float]:
    "GFLOP/s of a large matrix product and of a large convolution."
    a = torch.randn(1536, 1536)
    x, w = (
        torch.randn(*shape).to(memory_format=torch.channels_last) for shape in ((64, 128, 24, 24), (128, 128, 3, 3))
    )
    with torch.inference_mode():
        calls = {"matrix product": lambda: a @ a, "convolution": lambda: F.conv2d(x, w, padding=1)}
        spent = seconds(calls, repeats)
    return {name: gflop(call) / spent[name] for name, call in calls.items()}


def unet1d(n_parameters: int):
    "The peer's network, at the width that comes nearest in parameters; None if it is not installed."
    package = importlib.util.find_spec("denoising_diffusion_pytorch")
    if not package:
        return None
    sys.modules[package.name] = importlib.util.module_from_spec(
        package
    )  # not executed: its __init__ imports image code that a day does not need
    module = importlib.import_module("denoising_diffusion_pytorch.denoising_diffusion_pytorch_1d")
    count = lambda net: sum(p.numel() for p in net.parameters())
    nets = (
        module.Unet1D(dim=dim, dim_mults=(1, 2, 4), channels=1) for dim in range(16, 80, 8)
    )  # multiples of its 8 groups
    return min(nets, key=lambda net: abs(count(net) - n_parameters))


def measure(threads: int, n_steps: int | None, repeats: int) -> dict:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    d, n = DiffusionConfig(), DenoiserConfig()
    n_steps, schedule = n_steps or d.n_sampling_steps, SCHEDULES[d.schedule](d.n_steps)
    net = STUnet(DIM, DIM, n.base_channels, n.channel_multipliers, FUSIONS[n.fusion], n.n_heads)
    condition = SimpleNamespace(station_emb=torch.randn(BATCH, DIM), hour_emb=torch.randn(BATCH, HOURS, DIM))
    shape, x_t, t = (BATCH, 1, HOURS), torch.randn(BATCH, 1, HOURS), torch.randint(d.n_steps, (BATCH,))
    cond, peer = net.embed_condition(condition), unet1d(sum(p.numel() for p in net.parameters()))

    @torch.inference_mode()
    def batch():
        cond = net.embed_condition(condition)
        SAMPLERS[d.sampler](lambda x, t: net.denoise(x, t, cond), shape, schedule, n_steps)

    def in_bf16():
        with torch.autocast("cpu", torch.bfloat16):
            net.denoise(x_t, t, cond)

    def updates(network, *given):
        return lambda: (network(x_t, t, *given) - x_t).square().mean().backward()

    quick = {
        "embed_condition": lambda: net.embed_condition(condition),
        "denoise": lambda: net.denoise(x_t, t, cond),
        "forward": lambda: net(x_t, t, condition),
        "bf16 denoise": in_bf16,
    }
    if peer:
        quick["peer forward"] = lambda: peer(x_t, t)
    slow = {"update": updates(net, condition)} | ({"peer update": updates(peer)} if peer else {})
    with torch.inference_mode():
        spent = seconds(quick, repeats) | seconds({"batch": batch}, max(2, repeats // 2))
    spent |= seconds(slow, max(3, repeats // 2))
    work = {name: gflop(call) for name, call in (quick | slow).items() if not {"peer", "bf16"} & set(name.split())}
    top = peaks(repeats)
    return {
        "machine": {"threads": threads, "torch": torch.__version__, "GFLOP/s": top},
        "network": {
            "width": n.base_channels,
            "parameters": sum(p.numel() for p in net.parameters()),
            "sampler": f"{d.sampler}-{n_steps}",
        },
        "peer_parameters": peer and sum(p.numel() for p in peer.parameters()),
        "seconds": spent,
        "station_days_per_second": BATCH / spent["batch"],
        "fraction_of_peak": {name: {p: work[name] / spent[name] / rate for p, rate in top.items()} for name in work},
    }


def show(results: list[dict]) -> None:
    print(results[0]["network"])
    for result in results:
        spent, peer, machine = result["seconds"], result["peer_parameters"], result["machine"]
        print(
            f"\n{machine['threads']} thread(s): "
            + ", ".join(f"{rate:.0f} GFLOP/s in a {name}" for name, rate in machine["GFLOP/s"].items())
        )
        for name, value in spent.items():
            fractions = "".join(f"  {f:5.0%} of a {p}" for p, f in result["fraction_of_peak"].get(name, {}).items())
            print(f"{name:14} {1e3 * value:9.1f} ms{fractions}")
        print(
            f"{result['station_days_per_second']:.0f} station-days/s; a step under bfloat16 autocast takes {spent['bf16 denoise'] / spent['denoise']:.2f} x that in fp32"
        )
        if peer:
            print(
                f"Unet1D ({peer / 1e6:.2f} M parameters) takes {spent['peer forward'] / spent['denoise']:.2f} x our step, "
                f"{spent['peer forward'] / spent['forward']:.2f} x our whole forward pass, {spent['peer update'] / spent['update']:.2f} x our update"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, help="of the sampler; the configuration's default if not given")
    parser.add_argument("--repeats", type=int, default=7)
    finish(parser, __file__, lambda a: [measure(threads, a.steps, a.repeats) for threads in a.threads], show)
