"""A month of a large city in joint samples: seconds and memory of the noise, and generation beside independent noise.

    OMP_NUM_THREADS=1 python benchmarks/joint_speed.py runs/run/milan_28/seed0 --blocks 60

The noise is drawn for all stations of the graph and 31 days, in blocks of 256 station-days as `stouter generate` does.
Blocks of the network have the same size, so some of them, spread over the month, are timed in turn with both kinds of
noise, and the time of all is their median times their number.
"""

import argparse
import json
import math
import resource
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from stouter.joint.field import draw_noise
from stouter.pipeline.generate import GenerationRequest, block_items, generate_block, make_request
from stouter.pipeline.run import load_run


def peak_mb() -> float:
    "Largest memory of the process so far."
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def noise_of_block(request: GenerationRequest, block_index: int) -> np.ndarray:
    "The noise that `generate_block` draws."
    station, sample, period = block_items(request, block_index)
    lonlat, day = request.places.table[["lon", "lat"]].to_numpy()[station], request.first.toordinal() + period
    return draw_noise(request.model.field, lonlat, request.places.key[station], day, sample, request.seed)


def measure(run_folder: Path, n_blocks: int) -> dict:
    "Seconds and memory of one run."
    run = load_run(run_folder)
    model = run.model_with(joint=True)
    joint = make_request(model, "2014-01-01", "2014-01-31", 1, 0, list(model.places.stations.index))
    alone = replace(joint, model=replace(model, field=None))
    torch.set_num_threads(1)
    chosen = np.linspace(0, joint.n_blocks - 1, n_blocks).astype(int).tolist()
    seconds = {"independent": [], "joint": []}
    for block in chosen:
        for name, request in (("independent", alone), ("joint", joint)):
            start = time.process_time()
            generate_block(request, block)
            seconds[name].append(time.process_time() - start)
    memory, start, peaks = peak_mb(), time.process_time(), []
    for block in range(joint.n_blocks):
        noise_of_block(joint, block)
        if block in (joint.n_blocks // 10, joint.n_blocks - 1):
            peaks.append(peak_mb() - memory)
    noise = time.process_time() - start
    n = math.prod(joint.shape)
    blocks = {name: float(np.median(found)) for name, found in seconds.items()}
    return {
        "stations": joint.shape[0],
        "days": joint.shape[2],
        "base_channels": run.config.denoiser.base_channels,
        "noise_seconds": noise,
        "noise_megabytes_more_after_a_tenth_and_all": peaks,
        "seconds_of_a_block": blocks,
        "seconds_of_all_blocks": {name: s * joint.n_blocks for name, s in blocks.items()},
        "ratio": blocks["joint"] / blocks["independent"],
        "station_days": n,
    }


def main() -> None:
    "Measure and print."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--blocks", type=int, default=60, help="blocks that are timed with the network")
    args = parser.parse_args()
    print(json.dumps(measure(args.run, args.blocks), indent=1))


if __name__ == "__main__":
    main()
