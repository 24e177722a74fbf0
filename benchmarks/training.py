"""Time of the parts of a training step, and the fraction of the machine's peak rate that it reaches.

Times `DiffusionTask.training_step`: forward, backward and optimizer (clipping included) are measured inside it, the
rest is what remains of the whole. The peak rate is that of a large `torch.mm` in the same process. `--bf16` adds a
forward and backward pass under bfloat16 autocast.

    python benchmarks/training.py --json
"""

import argparse
import platform
import statistics
import time

import torch
from reporting import run_benchmark

from stouter.data.dataset import Condition, TrafficDataset
from stouter.denoisers.stunet import STUnet
from stouter.diffusion.forward import linear_schedule
from stouter.diffusion.objective import LOSSES, OBJECTIVES
from stouter.training.batches import make_generator
from stouter.training.state import TrainingArguments, TrainState
from stouter.training.trainer import DiffusionTask, SingleProcess


class Stopwatch:
    "Seconds spent in named parts of the current step."

    def __init__(self):
        self.seconds = {}

    def wrap(self, name, function):
        "The function, timed."

        def timed(*args, **kwargs):
            start_time = time.perf_counter()
            out = function(*args, **kwargs)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start_time
            return out

        return timed


class TimedProcess(SingleProcess):
    "One process whose backward pass is timed."

    def __init__(self, watch):
        self.backward = watch.wrap("backward", super().backward)


def make_data(n, length):
    "Random samples of 28 stations."
    week = torch.arange(168).reshape(-1, length)
    week = week.repeat(n // len(week) + 1, 1)[:n]
    x = torch.rand(n, length, generator=make_generator(1))
    return TrafficDataset(x, Condition(torch.arange(n) % 28, week, torch.randn(28, 32), torch.randn(168, 32)))


def matrix_peak(n=1024, repeats=10):
    "FLOP/s of a large matrix product."
    a, b = torch.randn(n, n), torch.randn(n, n)
    times = []
    for _ in range(repeats):
        start_time = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - start_time)
    return 2 * n**3 / min(times)


def forward_flops(denoiser, x, t, condition):
    "Floating point operations of one forward pass."
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        denoiser(x, t, condition)
    return counter.get_total_flops()


def time_steps(denoiser, task, state, watch, args):
    "Seconds of every step after the warm-up (R,), and of its parts (R dictionaries)."
    timed_forward = watch.wrap("forward", denoiser)

    class TimedDenoiser(torch.nn.Module):
        parameters = denoiser.parameters

        def forward(self, *inputs):
            return timed_forward(*inputs)

    state.optimizer.step = watch.wrap("optimizer", state.optimizer.step)
    state.ema.update_parameters = watch.wrap("average", state.ema.update_parameters)
    clip, module, rows, step_seconds = torch.nn.utils.clip_grad_norm_, TimedDenoiser(), [], []
    torch.nn.utils.clip_grad_norm_ = watch.wrap("optimizer", clip)
    for n in range(args.warmup + args.repeats):
        watch.seconds.clear()
        start_time = time.perf_counter()
        state.history.append((n + 1, *task.training_step(state, module), float("nan"), 0.0))
        step_seconds.append(time.perf_counter() - start_time)
        rows.append(dict(watch.seconds))
    torch.nn.utils.clip_grad_norm_ = clip
    return step_seconds[args.warmup :], rows[args.warmup :]


def bf16_ratio(denoiser, inputs, repeats):
    "Time of a forward and backward pass under bfloat16 autocast over that in single precision, median."

    def pass_seconds(use_bf16):
        start_time = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=use_bf16):
            out = denoiser(*inputs).float()
        (out**2).mean().backward()
        return time.perf_counter() - start_time

    return statistics.median(pass_seconds(True) / pass_seconds(False) for _ in range(repeats))


def measure(args):
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    watch, data = Stopwatch(), make_data(4 * args.batch_size, args.length)
    training_args = TrainingArguments(batch_size=args.batch_size, weekday_randomization=0.5)
    objective = OBJECTIVES["v_prediction"](linear_schedule())
    task = DiffusionTask(data, objective, LOSSES["mse"], training_args, 0, TimedProcess(watch))
    denoiser = STUnet(32, 32, args.width)
    state = TrainState.create(denoiser, training_args)
    x0, t, _, condition = task.batch(0, torch.device("cpu"))
    step_seconds, rows = time_steps(denoiser, task, state, watch, args)
    parts = ("forward", "backward", "optimizer")
    median = {name: statistics.median(row[name] for row in rows) for name in (*parts, "average")}
    step, flops, peak = statistics.median(step_seconds), forward_flops(denoiser, x0, t, condition), matrix_peak()
    outside = [1 - sum(row[name] for name in parts) / seconds for row, seconds in zip(rows, step_seconds)]
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
        **{f"{name}_ms": 1e3 * value for name, value in median.items()},
        "fraction_outside": statistics.median(outside),
        "forward_fraction_of_peak": flops / median["forward"] / peak,
        "step_fraction_of_peak": 3 * flops / step / peak,
        "peak_gflops": peak / 1e9,
    }
    if args.bf16:
        result["bf16_time_over_fp32"] = bf16_ratio(denoiser, (x0, t, condition), args.repeats)
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--length", type=int, choices=(24, 168), default=24)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument(
        "--bf16", action="store_true", help="also time a forward and backward pass under bfloat16 autocast"
    )
    run_benchmark(parser, __file__, measure)
