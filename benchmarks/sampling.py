"""Time of one batch of 128 station-days with default settings, from noise to traffic, condition included.

    python benchmarks/sampling.py [--threads 1 2] [--steps 25] [--repeats 7] [--json | --write]

Prints a table for each number of threads; seconds are the best of several. Rows: the whole batch; what is computed
once (embed_condition) and at each step (denoise); a training update. Fractions are of the rates that this machine
reaches in a large fp32 matrix product and in a large fp32 convolution, which differ. With one thread the clock is CPU
time, else wall time.

If the package denoising-diffusion-pytorch (Phil Wang) is installed, its `Unet1D` is measured beside ours, with about
the same number of parameters and without condition. Nothing else needs this package.
"""

import argparse
import importlib
import importlib.util
import sys
import time
from types import SimpleNamespace

import torch
from reporting import run_benchmark
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from stouter.config import DenoiserConfig, DiffusionConfig
from stouter.denoisers.fusion import FUSIONS
from stouter.denoisers.stunet import STUnet
from stouter.diffusion.forward import SCHEDULES
from stouter.diffusion.reverse import SAMPLERS

BATCH, HOURS, DIM = 128, 24, 32  # station-days, hours, length of both embeddings


def seconds(calls: dict, repeats: int) -> dict[str, float]:
    "Best time of each call; the calls alternate, so that other load on the machine affects all of them."
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats + 1):  # the first round warms up
        for name, call in calls.items():
            start_time = clock()
            call()
            best[name] = min(best[name], clock() - start_time)
    return best


def gflop(call) -> float:
    "Floating point operations of a call, in 1e9."
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


def count_parameters(network) -> int:
    "Number of weights."
    return sum(p.numel() for p in network.parameters())


def unet1d(n_parameters: int):
    "`Unet1D` of the width that comes nearest in parameters; None if the package is not installed."
    package = importlib.util.find_spec("denoising_diffusion_pytorch")
    if not package:
        return None
    # the package itself is not executed: its __init__ imports code for images
    sys.modules[package.name] = importlib.util.module_from_spec(package)
    module = importlib.import_module("denoising_diffusion_pytorch.denoising_diffusion_pytorch_1d")
    widths = range(16, 80, 8)  # multiples of its 8 groups
    networks = [module.Unet1D(dim=dim, dim_mults=(1, 2, 4), channels=1) for dim in widths]
    return min(networks, key=lambda network: abs(count_parameters(network) - n_parameters))


def measure(threads: int, n_steps: int | None, repeats: int) -> dict:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    d, n = DiffusionConfig(), DenoiserConfig()
    n_steps, schedule = n_steps or d.n_sampling_steps, SCHEDULES[d.schedule](d.n_steps)
    net = STUnet(DIM, DIM, n.base_channels, n.channel_multipliers, FUSIONS[n.fusion], n.n_heads)
    condition = SimpleNamespace(station_emb=torch.randn(BATCH, DIM), hour_emb=torch.randn(BATCH, HOURS, DIM))
    shape, x_t, t = (BATCH, 1, HOURS), torch.randn(BATCH, 1, HOURS), torch.randint(d.n_steps, (BATCH,))
    cond, peer = net.embed_condition(condition), unet1d(count_parameters(net))

    @torch.inference_mode()
    def batch():
        cond = net.embed_condition(condition)
        SAMPLERS[d.sampler](lambda x, t: net.denoise(x, t, cond), shape, schedule, n_steps)

    def in_bf16():
        with torch.autocast("cpu", torch.bfloat16):
            net.denoise(x_t, t, cond)

    def gradient(network, *inputs):
        (network(x_t, t, *inputs) - x_t).square().mean().backward()

    quick = {
        "embed_condition": lambda: net.embed_condition(condition),
        "denoise": lambda: net.denoise(x_t, t, cond),
        "forward": lambda: net(x_t, t, condition),
        "bf16 denoise": in_bf16,
    }
    if peer:
        quick["peer forward"] = lambda: peer(x_t, t)
    slow = {"update": lambda: gradient(net, condition)}
    if peer:
        slow["peer update"] = lambda: gradient(peer)
    with torch.inference_mode():
        spent = seconds(quick, repeats) | seconds({"batch": batch}, max(2, repeats // 2))
    spent |= seconds(slow, max(3, repeats // 2))
    work = {name: gflop(call) for name, call in (quick | slow).items() if not {"peer", "bf16"} & set(name.split())}
    peak_rates = peaks(repeats)
    return {
        "machine": {"threads": threads, "torch": torch.__version__, "GFLOP/s": peak_rates},
        "network": {
            "width": n.base_channels,
            "parameters": count_parameters(net),
            "sampler": f"{d.sampler}-{n_steps}",
        },
        "peer_parameters": peer and count_parameters(peer),
        "seconds": spent,
        "station_days_per_second": BATCH / spent["batch"],
        "fraction_of_peak": {
            name: {p: work[name] / spent[name] / rate for p, rate in peak_rates.items()} for name in work
        },
    }


def show(results: list[dict]) -> None:
    print(results[0]["network"])
    for result in results:
        spent, peer, machine = result["seconds"], result["peer_parameters"], result["machine"]
        rates = ", ".join(f"{rate:.0f} GFLOP/s in a {name}" for name, rate in machine["GFLOP/s"].items())
        print(f"\n{machine['threads']} thread(s): {rates}")
        for name, value in spent.items():
            fractions = "".join(f"  {f:5.0%} of a {p}" for p, f in result["fraction_of_peak"].get(name, {}).items())
            print(f"{name:16} {1e3 * value:9.1f} ms{fractions}")
        bf16 = spent["bf16 denoise"] / spent["denoise"]
        print(f"{result['station_days_per_second']:.0f} station-days/s; bfloat16 / fp32 time of a step: {bf16:.2f}")
        if peer:
            ratios = [spent["peer forward"] / spent[name] for name in ("denoise", "forward")]
            ratios.append(spent["peer update"] / spent["update"])
            print(f"time of Unet1D ({peer / 1e6:.2f} M parameters) over ours: {ratios[0]:.2f} (one step), ", end="")
            print(f"{ratios[1]:.2f} (forward pass with condition), {ratios[2]:.2f} (update)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, help="of the sampler; the configuration's default if not given")
    parser.add_argument("--repeats", type=int, default=7)
    run_benchmark(parser, __file__, lambda a: [measure(threads, a.steps, a.repeats) for threads in a.threads], show)
