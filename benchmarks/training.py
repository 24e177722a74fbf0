"""Where a training step spends its time, and what share of the machine it reaches.

One run times the real `DiffusionTask.training_step`: forward, backward and optimiser (clipping included) are measured inside it, the rest is
what remains of the whole. The matrix peak is a large `torch.mm` in the same run. `--bf16` adds a step under autocast.

    python benchmarks/training.py --json
"""

import argparse
import platform
import statistics
import time

import torch
from kept import finish

from stouter.data.dataset import Condition, TrafficDataset
from stouter.denoisers.stunet import STUnet
from stouter.diffusion.forward import linear_schedule
from stouter.diffusion.objective import LOSSES, OBJECTIVES
from stouter.training.batches import make_generator
from stouter.training.state import TrainingArguments, TrainState
from stouter.training.trainer import DiffusionTask, SingleProcess


class Watch:
    "Seconds spent in named parts of the current step."

    def __init__(self):
        self.parts = {}

    def around(self, name, function):
        def timed(*args, **kwargs):
            start = time.perf_counter()
            out = function(*args, **kwargs)
            self.parts[name] = self.parts.get(name, 0.0) + time.perf_counter() - start
            return out

        return timed


class TimedProcess(SingleProcess):
    def __init__(self, watch):
        self.backward = watch.around("backward", super().backward)


def samples(n, length):
    week = (
        torch.arange(168).reshape(7, 24).repeat(n // 7 + 1, 1)[:n] if length == 24 else torch.arange(168).repeat(n, 1)
    )
    x = torch.rand(n, length, generator=make_generator(1))
    return TrafficDataset(x, Condition(torch.arange(n) % 28, week, torch.randn(28, 32), torch.randn(168, 32)))


def matrix_peak(n=1024, repeats=10):
    "FLOP/s of a large matrix product."
    a, b = torch.randn(n, n), torch.randn(n, n)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - start)
    return 2 * n**3 / min(times)


def forward_flops(denoiser, x, t, condition):
    "Multiply-adds of one forward pass, times two."
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        denoiser(x, t, condition)
    return counter.get_total_flops()


def measure(args):
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    watch, data = Watch(), samples(4 * args.batch_size, args.length)
    training_args = TrainingArguments(batch_size=args.batch_size, weekday_randomization=0.5)
    task = DiffusionTask(
        data, OBJECTIVES["v_prediction"](linear_schedule()), LOSSES["mse"], training_args, 0, TimedProcess(watch)
    )
    denoiser = STUnet(32, 32, args.width)
    state = TrainState.create(denoiser, training_args)
    state.optimizer.step = watch.around("optimizer", state.optimizer.step)
    state.ema.update_parameters = watch.around("average", state.ema.update_parameters)
    clip, forward = torch.nn.utils.clip_grad_norm_, watch.around("forward", denoiser)
    torch.nn.utils.clip_grad_norm_ = watch.around("optimizer", clip)

    class Timed(torch.nn.Module):
        parameters = denoiser.parameters

        def forward(self, *inputs):
            return forward(*inputs)

    def cast(*inputs):
        with torch.autocast("cpu", torch.bfloat16):
            return denoiser(*inputs).float()

    module, rows, wholes, in_bf16 = Timed(), [], [], []
    x0, t, eps, condition = task.batch(0, torch.device("cpu"))
    for n in range(args.warmup + args.repeats):
        watch.parts.clear()
        start = time.perf_counter()
        state.history.append((n + 1, *task.training_step(state, module), float("nan"), 0.0))
        if n >= args.warmup:
            wholes.append(time.perf_counter() - start)
            rows.append(dict(watch.parts))
        if args.bf16:
            start = time.perf_counter()
            (cast(x0, t, condition) ** 2).mean().backward()
            half = time.perf_counter() - start
            start = time.perf_counter()
            (denoiser(x0, t, condition) ** 2).mean().backward()
            if n >= args.warmup:
                in_bf16.append(half / (time.perf_counter() - start))
    torch.nn.utils.clip_grad_norm_ = clip
    middle = {
        name: statistics.median(row[name] for row in rows) for name in ("forward", "backward", "optimizer", "average")
    }
    step, flops, peak = statistics.median(wholes), forward_flops(denoiser, x0, t, condition), matrix_peak()
    inside = middle["forward"] + middle["backward"] + middle["optimizer"]
    result = {
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": args.threads,
        "batch_size": args.batch_size,
        "length": args.length,
        "width": args.width,
        "parameters": sum(p.numel() for p in denoiser.parameters()),
        "step_ms": 1e3 * step,
        "samples_per_second": args.batch_size / step,
        **{f"{name}_ms": 1e3 * value for name, value in middle.items()},
        "outside_share": statistics.median(
            1 - sum(row[k] for k in ("forward", "backward", "optimizer")) / whole for row, whole in zip(rows, wholes)
        ),
        "forward_share_of_peak": flops / middle["forward"] / peak,
        "step_share_of_peak": 3 * flops / step / peak,
        "peak_gflops": peak / 1e9,
    }
    assert inside <= max(wholes)
    return {**result, **({"bf16_time_over_fp32": statistics.median(in_bf16)} if in_bf16 else {})}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--length", type=int, choices=(24, 168), default=24)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument(
        "--bf16", action="store_true", help="also compare a forward and backward pass under bfloat16 autocast"
    )
    finish(parser, __file__, measure)
