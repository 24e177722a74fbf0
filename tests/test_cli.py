"The command line end to end, as a user meets it."

import ast
import inspect
import json
import os
import re
import signal
import subprocess
import time

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import COMMAND, ROOT, SHARED, needs_data, stouter

import stouter as stouter_package
from stouter.api import Run
from stouter.config_file import load_config
from stouter.data.splits import distance_to_nearest_km
from stouter.data.traffic import Traffic
from stouter.html_report.page import write_page
from stouter.pipeline.run import load_run, run
from stouter.run_card import format_run_card


def test_run_makes_everything_it_promises(tiny_run):
    out, done = tiny_run
    for name in (
        "run.yaml",
        "provenance.json",
        "traffic.nc",
        "stations.parquet",
        "ingest.json",
        "graph_time.safetensors",
        "graph_space.safetensors",
        "checkpoint.pt",
        "weights.safetensors",
        "training_log.jsonl",
        "history.parquet",
        "samples.safetensors",
        "metrics.json",
        "metrics.parquet",
        "run.ipynb",
        "figures/week.png",
        "figures/profile_and_distribution.png",
        "figures/training.png",
    ):
        assert (out / name).stat().st_size > 0, name
    assert str(out / "run.ipynb") in done.stdout
    card = done.stdout[done.stdout.rindex("tiny, seed 0 (simulated city, not measured traffic)") :]
    assert card.strip() == format_run_card(out).strip()  # the card is the end of what is printed
    for method in ("STOUTER", "historical average", "bootstrap", "real (other day)"):
        assert method in card
    notebook = nbformat.read(out / "run.ipynb", as_version=4)
    assert notebook.metadata.kernelspec.name == "python3" and notebook.metadata.papermill.parameters == {
        "folder": str(out)
    }
    assert not [o for c in notebook.cells for o in c.get("outputs", []) if o.output_type == "error"]
    for stage in ("ingest", "pretrain", "train", "sample"):
        assert stage in done.stderr, f"no progress bar for {stage}"


def test_a_finished_run_is_not_run_again(tiny_run):
    out, first = tiny_run
    made = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != ".lock"}
    again = stouter("run", "tiny", "--out", out)
    assert again.stdout.startswith(f"{out}: this run is finished; nothing to do\n")
    assert again.stdout.endswith(f"\n{format_run_card(out)}\n") and first.stdout.endswith(f"\n{format_run_card(out)}\n")
    answer = json.loads(stouter("run", "tiny", "--out", out, "--json").stdout)
    assert (answer["folder"], answer["notebook"]) == (str(out), str(out / "run.ipynb"))
    assert answer["methods"] == json.loads((out / "metrics.json").read_text())["methods"]
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_json_of_a_new_run_is_all_that_is_printed(tmp_path):
    done = stouter("run", "tiny", "--out", tmp_path, "-p", "train.n_updates", 2, "--json")
    assert json.loads(done.stdout)["methods"] == load_run(tmp_path).metrics


def test_a_corrected_configuration_takes_over_the_folder(tiny_run, tmp_path):
    wrong = stouter("run", "tiny", "--out", tmp_path, "-p", "data.n_test_periods", 99, check=False)
    assert wrong.returncode == 2 and "data.n_test_periods" in wrong.stderr and (tmp_path / "run.yaml").exists()
    stouter("run", "tiny", "--out", tmp_path)
    assert (tmp_path / "metrics.json").read_bytes() == (tiny_run[0] / "metrics.json").read_bytes()
    other = stouter("run", "tiny", "--out", tmp_path, "-p", "data.n_test_periods", 2, check=False)
    assert other.returncode == 2 and "holds another run (config.data.n_test_periods: 3 there, 2 here)" in other.stderr


def test_results_of_a_run_read_back(tiny_run):
    out, _ = tiny_run
    results, stored = load_run(out), json.loads((out / "metrics.json").read_text())
    assert (results.config, results.seed, results.folder) == (load_config("tiny"), 0, out)
    assert results.metrics == stored["methods"] and list(results.samples)[0] == stored["method"]
    assert len(results.history) == results.config.train.n_updates
    assert len(results.city.traffic.stations) == len(results.embeddings.station_table) == 12
    assert results.trained is results.method  # no distillation
    with pytest.raises(FileNotFoundError, match="no run in .* make one with: stouter run CONFIG"):
        load_run(out.parent)


def test_same_seed_same_bytes_and_other_seed_others(tiny_run, tmp_path):
    "Also without the notebook and its process."
    out, _ = tiny_run
    run(load_config("tiny"), 0, tmp_path / "again")
    assert (tmp_path / "again/metrics.json").read_bytes() == (out / "metrics.json").read_bytes()
    others = run(load_config("tiny"), 1, tmp_path / "other")
    assert others != json.loads((out / "metrics.json").read_text())["methods"]


def test_generate_and_evaluate(tiny_run, tmp_path):
    out, _ = tiny_run
    table = tmp_path / "traffic.parquet"
    done = stouter("generate", out, "--days", "2013-11-08:2013-11-10", "--samples", 3, "--out", table)
    frame = pd.read_parquet(table)
    assert f"{len(frame):,} rows" in done.stdout and len(frame) == 12 * 3 * 72
    assert str(frame.time.dt.tz) == "Europe/Rome" and set(frame.service) == {"internet"} and frame.value.min() >= 0
    assert frame.time.min() == pd.Timestamp("2013-11-08", tz="Europe/Rome")
    evaluated = stouter(
        "evaluate", "--real", out / "traffic.nc", "--generated", table, "--out", tmp_path / "metrics.json"
    )
    row = json.loads((tmp_path / "metrics.json").read_text())["methods"]["generated"]
    assert "generated" in evaluated.stdout and row["mae"] > 0 and 0.5 < row["c2st_auc"] <= 1 and row["moran_mae"] > 0
    assert set(pd.read_parquet(tmp_path / "metrics.parquet").metric) == set(row)
    cube = frame.set_index(["sample", "station", "time"]).value.unstack("time")
    stations = cube.index.unique("station")
    np.savez(
        tmp_path / "traffic.npz",
        values=cube.to_numpy().reshape(3, len(stations), 72),
        stations=stations.to_numpy(),
        start="2013-11-08",
        zone="Europe/Rome",
        service="internet",
    )
    done = stouter("evaluate", "--real", out / "traffic.nc", "--generated", tmp_path / "traffic.npz", "--json")
    assert json.loads(done.stdout)["methods"]["generated"] == row


def test_trained_in_one_city_and_evaluated_in_another(tmp_path):
    fields = {
        "data.protocol": "new_city",
        "data.block_size_km": "0.4",
        "data.target_source": "{kind: simulated, n_stations: 9, n_days: 10, seed: 1}",
    }
    config, out = load_config("tiny", fields), tmp_path / "run"
    run(config, 0, out)
    found = json.loads((out / "metrics.json").read_text())
    assert (found["protocol"], found["stations"]) == ("new_city", 9) and set(found["scale_log_r2"]) == {
        "scale_head",
        "nearest_station",
    }
    assert (
        list(found["methods"])[:3] == ["STOUTER", "nearest stations", "forest pool"]
        and found["methods"]["STOUTER"]["nn_distance_ratio"] > 0
    )
    assert not {"historical average", "bootstrap", "Gaussian"} & set(found["methods"])
    (out / "metrics.json").unlink()  # interrupted before its last stage: the same call goes on, to the same numbers
    run(config, 0, out)
    assert json.loads((out / "metrics.json").read_text()) == found
    write_page([out], tmp_path / "page.html")  # and the page shows the one that is evaluated
    page = (tmp_path / "page.html").read_text()
    assert "another city, of 12 stations" in page and "9 used, of 9 with traffic" in page


@needs_data
def test_two_parts_of_shandong_are_a_real_pair(tmp_path):
    small = {
        "data.source.patch_ids": "[0, 20]",
        "data.target_source.patch_ids": "[21, 32]",
        "graph.n_epochs": "2",
        "train.n_updates": "2",
        "diffusion.n_steps": "5",
        "diffusion.n_sampling_steps": "2",
        "denoiser.base_channels": "4",
        "denoiser.channel_multipliers": "[1]",
        "evaluation.n_samples": "2",
    }
    here, there = (
        load_config("shandong_transfer").data.source.patch_ids,
        load_config("shandong_transfer").data.target_source.patch_ids,
    )
    assert sorted(here + there) == list(range(33))  # every patch that is no copy, once
    run(load_config("shandong_transfer", small), 0, tmp_path)
    stations = [pd.read_parquet(tmp_path / part / "stations.parquet") for part in ("", "target_city")]
    assert [sorted(set(table.index // 16)) for table in stations] == [[0, 20], [21, 32]]
    assert (
        distance_to_nearest_km(pd.concat(stations), np.arange(32), np.arange(32, 64)).min() > 19
    )  # no place of one part is a neighbour of the other's
    assert json.loads((tmp_path / "metrics.json").read_text())["scale_log_r2"].keys() == {
        "scale_head",
        "nearest_station",
    }
    assert [name.rsplit("/")[-1] for name in json.loads((tmp_path / "provenance.json").read_text())["inputs"]] == [
        "uomo_SD.npz"
    ]


def test_simulate_then_ingest(tmp_path):
    stouter("simulate", tmp_path / "city", "--stations", 9, "--days", 3, "--seed", 4)
    city = tmp_path / "city"
    done = stouter(
        "ingest",
        city / "records/*.txt",
        "--grid",
        city / "grid.geojson",
        "--pois",
        city / "pois.geojson",
        "--out",
        tmp_path / "t.nc",
    )
    assert "9 stations x 72 hours x 5 services" in done.stdout
    assert json.loads((tmp_path / "t.json").read_text())


def test_ready_traffic_is_a_source_too(tmp_path):
    city = tmp_path / "city"
    stouter("simulate", city, "--stations", 9, "--days", 4)
    stouter(
        "ingest",
        city / "records",
        "--grid",
        city / "grid.geojson",
        "--pois",
        city / "pois.geojson",
        "--out",
        tmp_path / "own.nc",
        "--cache-dir",
        tmp_path / "kept",
    )
    assert len(list((tmp_path / "kept").iterdir())) == 4
    tree = {
        "name": "own",
        "data": {
            "source": {"kind": "netcdf", "traffic": str(tmp_path / "own.nc")},
            "service": "call",
            "min_coverage": 0.5,
            "n_test_periods": 1,
        },
        "graph": {"n_epochs": 2, "radius_km": 0.3},
        "train": {"n_updates": 2, "batch_size": 4},
        "diffusion": {"n_steps": 5, "n_sampling_steps": 2},
        "denoiser": {"base_channels": 4, "channel_multipliers": [1]},
        "evaluation": {"n_samples": 2},
    }
    (tmp_path / "own.yaml").write_text(json.dumps(tree))
    stouter("run", tmp_path / "own.yaml", "--out", tmp_path / "run")
    assert json.loads((tmp_path / "run/metrics.json").read_text())["service"] == "call"
    assert len(pd.read_parquet(tmp_path / "run/stations.parquet").columns) == 2 + 8


def test_graph_of_a_city(tmp_path):
    city = tmp_path / "city"
    stouter("simulate", city, "--stations", 16, "--days", 1)
    done = stouter(
        "graph",
        city / "grid.geojson",
        "--pois",
        city / "pois.geojson",
        "--radius",
        0.24,
        "--out",
        tmp_path / "graph.safetensors",
        "--json",
    )
    assert json.loads(done.stdout)["directed_edges"] == 2 * 24  # 4 x 4 cells of 235 m: 24 neighbourships
    assert (tmp_path / "graph.png").exists()


@needs_data
def test_ingest_reads_the_real_lines(tmp_path):
    done = stouter(
        "ingest",
        SHARED / "milan_raw/sms-call-internet-mi-2013-11-01.first10000lines.txt",
        "--grid",
        SHARED / "grids/milano-grid.geojson",
        "--out",
        tmp_path / "t.nc",
    )
    assert "26 stations x 24 hours x 5 services" in done.stdout


def updates_done(folder):
    try:
        import torch

        return len(torch.load(folder / "checkpoint.pt", weights_only=True)["history"])
    except FileNotFoundError:
        return 0


def test_kill_minus_nine_during_training_changes_nothing(tiny_run, tmp_path):
    options = (
        "-p",
        "train.n_updates",
        400,
        "-p",
        "train.checkpoint_every",
        20,
        "-p",
        "distillation.n_updates",
        120,
        "-p",
        "distillation.n_teacher_samples",
        1000,
        "-p",
        "distillation.batch_size",
        64,
    )
    whole = tmp_path / "whole"
    stouter("run", "tiny", "--out", whole, *options)
    out = tmp_path / "killed"
    command = [*COMMAND, "run", "tiny", "--out", str(out), *map(str, options)]
    distillation, kills = out / "distillation", []
    moments = [
        (out, lambda: updates_done(out) >= 20),
        (out, lambda: updates_done(out) >= 120),
        (distillation, lambda: len(list((distillation / "teacher_samples").glob("[0-9]*"))) >= 3),
        (distillation, lambda: updates_done(distillation) >= 50),
    ]
    for stage, has_come in moments:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not has_come() and process.poll() is None:
            time.sleep(0.02)
        if process.poll() is None:
            os.killpg(process.pid, 9)
            os.kill(int((out / ".lock").read_text()), 9)  # the kernel of the run's notebook, which is no child group
            if not (stage / "weights.safetensors").exists():
                kills.append(stage)
        process.wait()
    assert set(kills) == {out, distillation}, "the stages ended before they could be killed"
    stouter("run", "tiny", "--out", out, *options)
    assert (out / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes()


def test_one_process_in_a_folder_and_control_c_ends_it_with_one_line(tmp_path):
    out, command = tmp_path / "run", COMMAND
    words = ["run", "tiny", "--out", str(out), "-p", "train.n_updates", "1000000", "-p", "train.checkpoint_every", "20"]
    process = subprocess.Popen(
        [*command, *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while updates_done(out) < 20 and process.poll() is None:
        time.sleep(0.02)
    second = stouter(*words, check=False)
    assert second.returncode == 2 and "is working in this folder" in second.stderr.strip().splitlines()[-1]
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert (
        process.returncode == 130
        and said.strip().splitlines()[-1].startswith("stouter: interrupted; finished stages and the training up to")
        and "Traceback" not in said
    )
    third = stouter(*words, "--seed", 1, check=False)  # the folder is free again, and still that run's
    assert third.returncode == 2 and "holds another run" in third.stderr


def blocks_of_the_readme(*languages):
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / "README.md").read_text(), re.S | re.M)
    return [text for language, text in blocks if language in languages]


def commands_of_the_readme():
    lines = "\n".join(blocks_of_the_readme("", "sh")).splitlines()
    return [line.split("#")[0].strip() for line in lines if line.strip()]


def test_readme_has_commands_and_python():
    assert {line.split()[0] for line in commands_of_the_readme()} == {"make", "stouter", "pip", "python3"}
    assert len(blocks_of_the_readme("python")) == 1


def test_python_of_the_readme_uses_what_exists():
    "Every attribute, keyword and argument of the quick start, without the minutes that it takes."
    tree = ast.parse(blocks_of_the_readme("python")[0])
    kinds = {"stouter": stouter_package, "run": Run, "week": Traffic, "real": Traffic}
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert len(attributes) >= 6
    for node in attributes:
        assert hasattr(kinds[node.value.id], node.attr), ast.unparse(node)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        owner, function = kinds[call.func.value.id], getattr(kinds[call.func.value.id], call.func.attr)
        itself = () if owner is stouter_package else (None,)
        keywords = {word.arg: None for word in call.keywords}
        inspect.signature(function).bind(*itself, *(None for _ in call.args), **keywords)


@pytest.mark.parametrize("line", [line for line in commands_of_the_readme() if line.startswith("make")])
def test_make_targets_of_the_readme_exist(line):
    "Commands of `stouter` are parsed and executed by test_commands."
    assert re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(), re.M)
