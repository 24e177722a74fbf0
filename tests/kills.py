"""Kill -9 at random moments of each command; the same command then finishes, and its results are the same bytes.

    python tests/kills.py --kills 20 --only ingest training

Not collected by pytest, for it takes long: about half a minute for a kill on two cores.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from conftest import COMMAND, ROOT

from stouter.data.traffic import open_traffic
from stouter.files import hash_arrays
from stouter.pipeline.generate import parts_folder

TINY = {
    "graph.n_epochs": 1000,
    "train.n_updates": 150,
    "train.checkpoint_every": 10,
    "distillation.n_updates": 120,
    "distillation.n_teacher_samples": 400,
    "distillation.batch_size": 32,
}
OPTIONS = [word for key, value in TINY.items() for word in ("-p", key, str(value))]
RUN_FILES = ("weights.safetensors", "distillation/weights.safetensors", "samples.safetensors", "metrics.json")


@dataclass
class Job:
    "A command that is killed in one of its stages."

    words: Callable  # folder -> words of the command line
    has_begun: Callable  # folder -> whether the stage has begun
    is_over: Callable  # folder -> whether the stage is over
    results: Callable  # folder -> name -> content, to be compared


def start(words, log):
    command = [*COMMAND, *map(str, words)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True)


def kill(process):
    "Kill -9 of the process, then of what it started, the kernel of a run included."
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    for child in family:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            pass
    psutil.wait_procs(family, timeout=10)


def wait_until(is_true, folder, process, until=float("inf")):
    "Wait until something is true of the folder, the process has ended, or a time has come."
    while not is_true(folder) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)


def finish(job, folder):
    "The same command without a kill; its results, and the seconds of the stage."
    with open(folder / "stderr.txt", "w+b") as log:
        process = start(job.words(folder), log)
        wait_until(job.has_begun, folder, process)
        began = time.monotonic()
        wait_until(job.is_over, folder, process)
        seconds, status = time.monotonic() - began, process.wait()
        log.seek(0)
        assert status == 0, log.read().decode()[-2000:]
    return job.results(folder), seconds


def kill_once(job, folder, delay):
    "Whether the command was killed in its stage, `delay` seconds after the stage began."
    with open(folder / "stderr.txt", "wb") as log:
        process = start(job.words(folder), log)
        wait_until(job.has_begun, folder, process)
        wait_until(job.is_over, folder, process, time.monotonic() + delay)
        if process.poll() is None:
            was_over = job.is_over(folder)
            kill(process)
            return not was_over
    return False


def compare(job, folder, expected):
    "Names of results that differ after the command has finished."
    found, _ = finish(job, folder)
    return [name for name in expected if found.get(name) != expected[name]]


def campaign(name, job, n_kills, root, rng):
    "Kill a command `n_kills` times, going on in the same folder until its stage is over; one line of counts."
    (root / name).mkdir()
    whole = root / name / "whole"
    whole.mkdir()
    expected, seconds = finish(job, whole)
    kills, finished, differing, attempts = 0, 0, [], 0
    while kills < n_kills and attempts < 4 * n_kills:
        folder = root / name / f"killed{attempts}"
        folder.mkdir()
        while kills < n_kills and attempts < 4 * n_kills:
            attempts += 1
            was_killed = kill_once(job, folder, rng.uniform(0, 0.9 * seconds))
            kills += was_killed
            if not was_killed:
                break
        differing += compare(job, folder, expected)
        finished += 1
    faults = f"different: {', '.join(differing)}" if differing else "all equal"
    return f"{name}: {kills} kills in {attempts} starts, {finished} folders finished, {faults}", not differing


def run_results(folder):
    return {name: (folder / "run" / name).read_bytes() for name in RUN_FILES}


def run_job(begins_with, ends_with):
    "A run that is killed after one of its files is there and before others are."
    return Job(
        lambda folder: ["run", "tiny", "--out", folder / "run", *OPTIONS],
        lambda folder: (folder / "run" / begins_with).exists(),
        lambda folder: all((folder / "run" / name).exists() for name in ends_with),
        run_results,
    )


def ingest_results(folder):
    with open_traffic(folder / "traffic.nc").dataset as dataset:
        values = hash_arrays(*(dataset[name].values for name in ("volume", "station", "hour", "lon", "lat")))
    report = json.loads((folder / "traffic.json").read_text())
    return {"traffic.nc": values, "traffic.json": {key: report[key] for key in report if key != "n_cached"}}


def ingest_words(city, folder):
    words = ["ingest", city / "records", "--grid", city / "grid.geojson", "--pois", city / "pois.geojson"]
    return [*words, "--out", folder / "traffic.nc", "--cache-dir", folder / "cache"]


def sweep_words(folder):
    sizes = {**TINY, "data.n_stations": 8, "evaluation.n_samples": 2}
    options = [word for key, value in sizes.items() if "distillation" not in key for word in ("-p", key, str(value))]
    words = ["sweep", "633_fusion_variants", "--datasets", "tiny", "--seeds", "0", "--processes", "1"]
    return [*words, "--variants", "concatenation,GateFu", "--out", folder / "sweep", *options]


def sweep_results(folder):
    files = sorted((folder / "sweep").rglob("metrics.json")) + sorted((folder / "sweep").rglob("weights.safetensors"))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def make_jobs(city, run):
    "Every stage that can be killed, on a small city and a finished run."
    table = "table.parquet"
    words = ["generate", run, "--days", "2014-02-01:2014-03-31", "--samples", "20", "--out"]
    return {
        "ingest": Job(
            lambda folder: ingest_words(city, folder),
            lambda folder: (folder / "cache").exists(),
            lambda folder: (folder / "traffic.nc").exists(),
            ingest_results,
        ),
        "pretraining": run_job("traffic.nc", ("graph_space.safetensors", "graph_time.safetensors")),
        "training": run_job("graph_space.safetensors", ("weights.safetensors",)),
        "distillation": run_job("weights.safetensors", ("distillation/weights.safetensors",)),
        "generation": Job(
            lambda folder: [*words, folder / table],
            lambda folder: parts_folder(folder / table).exists(),
            lambda folder: (folder / table).exists(),
            lambda folder: {table: (folder / table).read_bytes()},
        ),
        "sweep": Job(
            sweep_words,
            lambda folder: any((folder / "sweep").rglob("run.yaml")),
            lambda folder: len(list((folder / "sweep").rglob("metrics.json"))) == 2,
            sweep_results,
        ),
        "report": Job(
            lambda folder: ["report", run, "--out", folder / "page.html"],
            lambda folder: True,
            lambda folder: (folder / "page.html").exists(),
            lambda folder: {"page.html": (folder / "page.html").read_bytes()},
        ),
    }


def main():
    names = "ingest pretraining training distillation generation sweep report".split()
    parser = argparse.ArgumentParser(description="Kill -9 at random moments, go on, compare.")
    parser.add_argument("--kills", type=int, default=2, help="of each stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=names, default=names)
    options = parser.parse_args()
    all_equal = True
    with tempfile.TemporaryDirectory() as root:
        root = Path(root)
        for words in (
            ["simulate", root / "city", "--stations", 60, "--days", 30],
            ["run", "tiny", "--out", root / "run"],
        ):
            subprocess.run([*COMMAND, *map(str, words)], cwd=ROOT, check=True, capture_output=True)
        jobs = make_jobs(root / "city", root / "run")
        for name in options.only:
            line, is_equal = campaign(name, jobs[name], options.kills, root, random.Random(f"{options.seed} {name}"))
            print(line, flush=True)
            all_equal &= is_equal
    sys.exit(0 if all_equal else 1)


if __name__ == "__main__":
    main()
