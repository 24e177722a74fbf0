"""Kill -9 at random moments of each stage, a full disk, two processes in one folder: nothing is lost.

After each of them the same command finishes, and its results are the bytes of a command that nothing disturbed.

    python tests/kills.py --kills 20 --only ingest training      # or: make kills

One line for each stage. A full disk is a limit of the operating system on the size of files, set on the processes at a
random moment of the stage: the command has to end with status 2 and one line. Of two processes in one folder each
finishes, or is refused with one line. `test_ingest.py` makes a short round of it; a kill takes half a minute and more.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
from conftest import COMMAND, ROOT

from stouter.data.traffic import open_traffic
from stouter.files import hash_arrays
from stouter.pipeline.table_parts import parts_folder

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


def start(words, log=subprocess.PIPE):
    command = [*COMMAND, *map(str, words)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True)


def family_of(process):
    "The process and what it started, the kernel of a run included."
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


def kill(process):
    "Kill -9 of the process, then of what it started."
    _, *family = family_of(process)
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


def read_errors(process):
    "Status and last line of a command, read while it runs; its lines but progress bars must be at most three."
    text = process.communicate()[1].decode().replace("\r", "\n")
    lines = [line for line in text.splitlines() if line.strip() and "%|" not in line]
    assert "Traceback" not in text, text[-3000:]
    return process.returncode, lines[-1] if lines else ""


def fill_disk(job, folder, delay):
    "Status and message of a command whose files cannot grow beyond 4 kB, `delay` seconds after its stage began."
    process = start(job.words(folder))
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(read_errors, process)
        while not job.has_begun(folder) and not ended.done():
            time.sleep(0.005)
        time.sleep(delay)
        try:
            for member in family_of(process):
                member.rlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        except psutil.NoSuchProcess:
            pass
        return ended.result()


def full_disks(job, n_disks, root, expected, seconds, rng):
    "Words on `n_disks` commands whose disk became full; names of results that differ after the same command."
    messages, differing = Counter(), []
    for number in range(n_disks):
        folder = root / f"full{number}"
        folder.mkdir()
        status, message = fill_disk(job, folder, rng.uniform(0, 0.5 * seconds))
        if status not in (0, 2):
            differing.append(f"status {status}")
        messages[f"status {status}" + (f" ({message.replace(str(folder), '.')[:120]})" if status else "")] += 1
        differing += compare(job, folder, expected)
    return ", ".join(f"{count} x {text}" for text, count in messages.items()), differing


def pairs(job, n_pairs, root, expected, seconds, rng):
    "Words on `n_pairs` pairs of commands in one folder; names of results that differ from one alone."
    statuses, differing = Counter(), []
    for number in range(n_pairs):
        folder = root / f"pair{number}"
        folder.mkdir()
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(read_errors, start(job.words(folder)))
            time.sleep(rng.uniform(0, seconds))
            second = pool.submit(read_errors, start(job.words(folder)))
            ends = sorted([first.result(), second.result()])
        is_right = ends[0][0] == 0 and (ends[1][0] == 0 or "is working in this folder" in ends[1][1])
        differing += [] if is_right else [f"{ends}"]
        statuses[" and ".join(str(status) for status, _ in ends)] += 1
        differing += compare(job, folder, expected)
    return ", ".join(f"{count} x status {text}" for text, count in statuses.items()), differing


def kill_often(job, n_kills, root, expected, seconds, rng):
    "Words on `n_kills` kills, going on in the same folder until the stage is over; names of results that differ."
    kills, finished, differing, attempts = 0, 0, [], 0
    while kills < n_kills and attempts < 4 * n_kills:
        folder = root / f"killed{attempts}"
        folder.mkdir()
        while kills < n_kills and attempts < 4 * n_kills:
            attempts += 1
            was_killed = kill_once(job, folder, rng.uniform(0, 0.9 * seconds))
            kills += was_killed
            if not was_killed:
                break
        differing += compare(job, folder, expected)
        finished += 1
    return f"{kills} kills in {attempts} starts, {finished} folders finished", differing


def campaign(name, job, counts, root, rng):
    "Kills, full disks and pairs of one stage: one line, and whether all results are equal."
    root = root / name
    (root / "whole").mkdir(parents=True)
    expected, seconds = finish(job, root / "whole")
    parts, differing = [], []
    for title, try_often in (("", kill_often), ("full disk: ", full_disks), ("two processes: ", pairs)):
        if n := counts[try_often]:
            words, faults = try_often(job, n, root, expected, seconds, rng)
            parts.append(title + words)
            differing += faults
    faults = f"different: {', '.join(differing)}" if differing else "all equal"
    return f"{name}: {'; '.join(parts)}; {faults}", not differing


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
    parser.add_argument("--disks", type=int, default=1, help="full disks of each stage")
    parser.add_argument("--pairs", type=int, default=1, help="pairs of processes in one folder, of each stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=names, default=names)
    options = parser.parse_args()
    counts = {kill_often: options.kills, full_disks: options.disks, pairs: options.pairs}
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
            line, is_equal = campaign(name, jobs[name], counts, root, random.Random(f"{options.seed} {name}"))
            print(line, flush=True)
            all_equal &= is_equal
    sys.exit(0 if all_equal else 1)


if __name__ == "__main__":
    main()
