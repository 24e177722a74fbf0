"Every study of the paper passes through on the smallest data set, and a sweep survives being killed."

import json
import os
import signal
import subprocess
import time

import nbformat
import pytest
from conftest import COMMAND, ROOT, stouter

from stouter.pipeline.studies import expand_study, load_study
from stouter.pipeline.sweep import run_from_manifest, run_status

SMALL = ["-p", "train.n_updates", "3", "-p", "graph.n_epochs", "2"]
SHORT = [*SMALL, "-p", "diffusion.n_steps", "20", "-p", "diffusion.n_sampling_steps", "20"]  # the paper's T is slow
STUDIES = {
    "62_overall": SHORT,
    "65_visualization": SHORT,
    "66_case_study": [*SHORT, "--param", "n_seeds=2", "--param", "n_updates=5"],
    **dict.fromkeys(
        ("631_graph_ablation", "632_graph_variants", "633_fusion_variants", "64_diffusion_steps"),
        [*SMALL, "-p", "data.n_stations", "8"],
    ),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("sweeps")


def call(*words, **options):
    return stouter(*words, check=False, **options)


class Ended:
    "A run made in this process, as a child process that has ended: six seconds of imports less for each run."

    def __init__(self, folder):
        self.returncode = int(not run_from_manifest(folder))

    def poll(self):
        return self.returncode

    def kill(self):
        "Nothing is left to end."


@pytest.mark.parametrize("name", STUDIES)
def test_study_passes_on_tiny(root, name, monkeypatch):
    monkeypatch.setattr("stouter.pipeline.sweep.spawn", Ended)
    study = load_study(name)
    out = root / study.uses_runs_of
    done = call("sweep", name, "--datasets", "tiny", "--seeds", "0", "--out", out, *STUDIES[name])
    assert done.returncode == 0, done.stderr[-2000:]
    assert all(run_status(folder.parent)["state"] == "finished" for folder in out.rglob("run.yaml"))
    assert len(list(out.rglob("metrics.json"))) == len(study.variants)
    notebook = nbformat.read(out / f"{name}.ipynb", 4)
    text = json.dumps([cell.get("outputs", []) for cell in notebook.cells])
    assert study.question in text and "image/png" in text
    assert all(variant in text for variant in study.variants)
    if name not in ("65_visualization", "66_case_study"):
        assert "one seed, no conclusion" in text  # the answer is computed: of one seed nothing is said


def test_variants_without_the_baseline_are_made_and_not_compared(tmp_path, monkeypatch):
    monkeypatch.setattr("stouter.pipeline.sweep.spawn", Ended)
    words = ("--datasets", "tiny", "--seeds", "0", "--variants", "GateFu", *STUDIES["633_fusion_variants"])
    done = call("sweep", "633_fusion_variants", *words, "--out", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "they compare with concatenation, which --variants leaves out" in done.stdout
    assert len(list(tmp_path.rglob("metrics.json"))) == 1 and not list(tmp_path.glob("*.ipynb"))


def test_every_study_has_its_notebook_and_every_notebook_its_study():
    folder = ROOT / "nbs/experiments"
    assert (
        {p.stem for p in folder.glob("6*.ipynb")}
        == {p.stem for p in (folder / "studies").glob("*.yaml")}
        == set(STUDIES)
    )


def test_killed_sweep_leaves_nothing_behind_and_goes_on(tmp_path):
    words = [
        "sweep",
        "633_fusion_variants",
        "--datasets",
        "tiny",
        "--seeds",
        "0",
        "--variants",
        "concatenation,GateFu,WeightFu",
        "--out",
        tmp_path,
        "--processes",
        "1",
        "-p",
        "graph.n_epochs",
        "2",
        "-p",
        "data.n_stations",
        "8",
        "-p",
        "train.n_updates",
        "120",
        "-p",
        "train.checkpoint_every",
        "20",
    ]
    trials = expand_study(
        "633_fusion_variants",
        tmp_path,
        ["tiny"],
        [0],
        ["concatenation", "GateFu", "WeightFu"],
        {"graph.n_epochs": "2", "data.n_stations": "8", "train.n_updates": "120", "train.checkpoint_every": "20"},
    )
    second = trials[1].folder
    process = subprocess.Popen([*COMMAND, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 240
    while run_status(second)["updates"] < 40 and time.monotonic() < until:
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while run_status(second)["state"] == "running" and time.monotonic() < until:
        time.sleep(0.2)  # its run ends by itself, for its parent is gone
    states = [run_status(trial.folder) for trial in trials]
    assert [s["state"] for s in states] == ["finished", "interrupted", "waiting"]
    assert (second / "checkpoint.pt").exists()
    first = (trials[0].folder / "metrics.json").stat().st_mtime_ns
    done = call(*words)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {run_status(trial.folder)["state"] for trial in trials} == {"finished"}
    assert (trials[0].folder / "metrics.json").stat().st_mtime_ns == first
    updates = [json.loads(line)["update"] for line in (second / "training_log.jsonl").read_text().splitlines()]
    assert updates == list(range(1, 121))
    listed = call("status", tmp_path)
    assert "3 finished" in listed.stdout


@pytest.mark.parametrize(
    "words, said",
    [
        (["sweep", "634_nothing"], "no study '634_nothing'"),
        (["sweep", "633_fusion_variants", "--variants", "GateFuse"], "did you mean 'GateFu'"),
        (
            ["sweep", "633_fusion_variants", "-p", "denoiser.fusion", "gate"],
            "is what the variants of this study change",
        ),
        (["sweep", "633_fusion_variants", "--datasets", "atlantis"], "no configuration 'atlantis'"),
        (["sweep", "633_fusion_variants", "--datasets", "tiny", "--param", "seeds_of=1"], "has no such parameter"),
        (["status", "nowhere"], "no run below this folder"),
        (["run", "milan_internet"], "stouter download milan"),
        (["run", "tiny", "--simulated"], "has no field 'simulated'"),
        (["run", "tiny", "--city", "simulated"], "--city: renamed; write --simulated"),
        (["sweep", "66_case_study", "--notebook", "n_seeds=1"], "--notebook: renamed; write --param"),
        (["runs", "nowhere"], "runs: renamed; write status"),
    ],
)
def test_wrong_words_cost_nothing(tmp_path, words, said):
    done = call(*words, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
