"What a user can get wrong: one line with the place and the way out, exit status 2, no traceback."

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import stouter


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    folder = tmp_path_factory.mktemp("city")
    stouter("simulate", folder, "--stations", 6, "--days", 4)
    return folder


def refused(*words, says):
    "Run the command; it must fail as a user's error fails, with these words."
    done = stouter(*words, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2, done.stderr[-2000:]
    assert "Traceback" not in done.stderr and "Traceback" not in done.stdout
    assert last.startswith("stouter: ")
    for part in says:
        assert part in last, last
    return last


def config(folder, city, **source):
    "A small configuration on the records of the city, with parts of its source replaced."
    source = {"kind": "cdr", "records": str(city / "records"), "grid": str(city / "grid.geojson"), **source}
    tree = {
        "name": "bad",
        "data": {"source": source, "n_test_periods": 1},
        "graph": {"n_epochs": 2},
        "train": {"n_updates": 2, "batch_size": 4},
        "diffusion": {"n_steps": 5, "n_sampling_steps": 2},
        "denoiser": {"base_channels": 4, "channel_multipliers": [1]},
        "evaluation": {"n_samples": 2},
    }
    path = folder / "bad.yaml"
    path.write_text(json.dumps(tree))  # JSON is YAML
    return path


def spoil(city, tmp_path, name, change):
    "A copy of the city with one line list changed."
    copy = tmp_path / "city"
    shutil.copytree(city, copy)
    path = sorted((copy / "records").iterdir())[0] if name == "records" else copy / name
    path.write_text(change(path.read_text()))
    return copy, path


def test_missing_files(tmp_path, city):
    refused(
        "run",
        config(tmp_path, city, grid=str(tmp_path / "none.geojson")),
        "--out",
        tmp_path / "r",
        says=["none.geojson"],
    )
    refused(
        "run", config(tmp_path, city, records=str(tmp_path / "no/*.txt")), "--out", tmp_path / "r2", says=["no/*.txt"]
    )
    refused("run", tmp_path / "none.yaml", says=["none.yaml", "demo"])
    refused(
        "generate", tmp_path, "--days", "2013-11-01", "--out", tmp_path / "x.parquet", says=["no run in", "stouter run"]
    )
    refused("evaluate", "--real", tmp_path / "a.nc", "--generated", tmp_path / "b.parquet", says=["a.nc"])


def test_evaluate_says_which_station_has_no_place(tmp_path):
    hours = pd.date_range("2013-11-01", periods=48, freq="h", tz="Europe/Rome")
    rows = pd.concat(
        [pd.DataFrame({"station": s, "time": hours, "service": "sms", "value": range(48)}) for s in (1, 2)]
    )
    rows.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "places.csv").write_text("id,lon,lat\n1,9.1,45.4\n")
    files = ("evaluate", "--real", tmp_path / "a.parquet", "--generated", tmp_path / "a.parquet")
    refused(*files, "--stations", tmp_path / "places.csv", says=["station 2 is not in the table of 1 positions"])
    refused(*files, "--stations", tmp_path / "none.csv", says=["none.csv"])
    rows.assign(lon=9.1, lat=145.4).to_parquet(tmp_path / "a.parquet")
    refused(*files, says=["a.parquet", "145.4"])
    refused(*files, "--out", tmp_path / "metrics.csv", says=["--out", ".json"])


def test_evaluate_names_the_key_of_an_array_that_does_not_fit(tmp_path):
    whole = {
        "values": np.ones((2, 48)),
        "stations": [1, 2],
        "start": "2013-11-01 00:00",
        "zone": "Europe/Rome",
        "service": "sms",
    }
    np.savez(tmp_path / "real.npz", **whole)
    for change, says in (
        ({"values": np.ones((3, 4, 48))}, ["made.npz", "key stations has shape (2,)", "(3, 4, 48)"]),
        ({"values": np.ones(48)}, ["made.npz", "key values", "(48,)"]),
        ({"stations": [1, 3]}, ["station 3 is not in real"]),
        ({"start": "2013-11-02 00:00"}, ["give the same days"]),
        ({"zone": "Roma"}, ["made.npz", "zone 'Roma'"]),
    ):
        np.savez(tmp_path / "made.npz", **{**whole, **change})
        refused("evaluate", "--real", tmp_path / "real.npz", "--generated", tmp_path / "made.npz", says=says)


def test_records_that_changed_after_the_run_read_them(tmp_path, city):
    copy, path = spoil(city, tmp_path, "records", lambda text: text)
    run = ("run", config(tmp_path, copy), "--out", tmp_path / "r")
    stouter(*run)
    metrics = (tmp_path / "r/metrics.json").read_bytes()
    (tmp_path / "r/metrics.json").unlink()
    lines = path.read_text()
    path.write_text(lines + lines.splitlines(keepends=True)[0])
    refused(*run, says=[path.name, "has changed since the run in", "choose another --out", "restore the file"])
    assert not (tmp_path / "r/metrics.json").exists()
    path.write_text(lines)
    stouter(*run)
    assert (tmp_path / "r/metrics.json").read_bytes() == metrics


def test_few_bad_lines_are_counted_and_many_are_fatal(tmp_path, city):
    def letters(every):
        def change(text):
            lines = text.splitlines()
            for i in range(0, len(lines), every):
                fields = lines[i].split("\t")
                lines[i] = "\t".join([*fields[:3], "abc", *fields[4:]])
            return "\n".join(lines) + "\n"

        return change

    copy, path = spoil(city, tmp_path / "few", "records", letters(500))
    stouter("ingest", copy / "records", "--grid", copy / "grid.geojson", "--out", tmp_path / "few.nc")
    report = (tmp_path / "few.json").read_text()
    assert path.name in report and "abc" in report
    copy, path = spoil(city, tmp_path / "many", "records", letters(20))
    refused(
        "ingest",
        copy / "records",
        "--grid",
        copy / "grid.geojson",
        "--out",
        tmp_path / "many.nc",
        says=[path.name, "line", "abc"],
    )
    assert not (tmp_path / "many.nc").exists()


def test_a_file_that_is_no_cdr(tmp_path, city):
    (tmp_path / "page.txt").write_text("<!doctype html>\n<html><body>404</body></html>\n")
    refused(
        "ingest", tmp_path / "page.txt", "--grid", city / "grid.geojson", "--out", tmp_path / "x.nc", says=["page.txt"]
    )
    refused(
        "run", config(tmp_path, city, records=str(tmp_path / "page.txt")), "--out", tmp_path / "r", says=["page.txt"]
    )


def test_configuration(tmp_path, city):
    path = config(tmp_path, city)
    refused("run", path, "-p", "train.n_step", 5, says=["bad.yaml", "train.n_step", "unknown key", "n_updates"])
    refused("run", path, "-p", "diffusion.n_steps", -5, says=["bad.yaml", "diffusion.n_steps", "greater than 0", "-5"])
    refused("run", path, "-p", "graph.temporal_encoder", "gni", says=["graph.temporal_encoder", "gin"])
    refused("run", path, "-p", "data.service", "fax", "--out", tmp_path / "r", says=["data.service", "fax", "internet"])
    refused("run", path, "-p", "data.n_test_periods", 9, "--out", tmp_path / "r2", says=["data.n_test_periods"])
    path.write_text("name: [x\n")
    refused("run", path, says=["bad.yaml", "line", "not valid YAML"])


def test_grid(tmp_path, city):
    copy, _ = spoil(city, tmp_path / "a", "grid.geojson", lambda text: text.replace("cellId", "number"))
    refused("run", config(tmp_path, copy), "--out", tmp_path / "r", says=["grid.geojson", "cellId"])

    def drop_last(text):
        grid = json.loads(text)
        grid["features"].pop()
        return json.dumps(grid)

    copy, _ = spoil(city, tmp_path / "b", "grid.geojson", drop_last)
    refused("run", config(tmp_path, copy), "--out", tmp_path / "r2", says=["6"])


@pytest.mark.parametrize("word", ["file", "proc"])
def test_output_folder_that_cannot_be_written(tmp_path, word):
    (tmp_path / "file").write_text("")
    out = {"file": tmp_path / "file" / "run", "proc": "/proc/run"}[word]
    refused("run", "tiny", "--out", out, says=[str(out), "choose another output folder"])


@pytest.mark.parametrize(
    "words",
    [
        ("run", "tiny", "--out", "s3://bucket/run"),
        ("tune", "tiny", "--out", "s3://bucket/tune"),
        ("simulate", "s3://bucket/city", "--stations", "4", "--days", "2"),
        ("sweep", "633_fusion_variants", "--datasets", "tiny", "--out", "s3://bucket/runs"),
    ],
    ids=lambda words: words[0],
)
def test_an_address_is_no_output_folder(words, tmp_path, monkeypatch):
    "`pathlib` would take it for a folder named `s3:`."
    monkeypatch.chdir(tmp_path)
    refused(*words, says=["s3:/bucket", "an address, which only stouter generate writes to"])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("nosuch://bucket/week.parquet", "Unsupported filesystem: 'nosuch'; give a file, or an address of s3://"),
        ("s3://bucket/week.nc", "the file's name must end in .parquet or .csv"),
    ],
)
def test_an_address_that_cannot_be_written(out, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("upath.implementations.cloud.S3Path.fs", None)  # its package need not be installed
    refused("generate", "--pretrained", "demo", "--days", "2013-11-22", "--out", out, says=[out, words])
    assert not any(tmp_path.iterdir())


def test_checkpoint_cut_in_half(tiny_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(tiny_run[0], copy)
    for name in ("weights.safetensors", "samples.safetensors", "metrics.json"):
        (copy / name).unlink()
    whole = (copy / "checkpoint.pt").read_bytes()
    (copy / "checkpoint.pt").write_bytes(whole[: len(whole) // 2])
    refused("run", "tiny", "--out", copy, says=["checkpoint.pt", "not a whole checkpoint", "delete the file"])
    (copy / "checkpoint.pt").unlink()
    stouter("run", "tiny", "--out", copy)
    assert (copy / "metrics.json").read_bytes() == (tiny_run[0] / "metrics.json").read_bytes()


def test_torn_weights(tiny_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(tiny_run[0], copy)
    os.truncate(copy / "weights.safetensors", 1000)
    refused(
        "generate",
        copy,
        "--days",
        "2013-12-01",
        "--out",
        tmp_path / "x.parquet",
        says=["weights.safetensors", "damaged"],
    )


def test_folder_of_another_run(tiny_run):
    refused("run", "tiny", "--out", tiny_run[0], "--seed", 5, says=["holds another run", "seed: 0 there, 5 here"])
    refused("run", "tiny", "--out", tiny_run[0], "-p", "train.lr", "0.1", says=["train.lr", "choose another --out"])


def test_generate_words(tiny_run, tmp_path):
    base = ("generate", tiny_run[0], "--out", tmp_path / "x.parquet", "--days")
    refused(*base, "tomorrow", says=["tomorrow", "YYYY-MM-DD"])
    refused(*base, "2013-12-05:2013-12-01", says=["before the first"])
    refused(*base, "2013-12-05", "--station", 77, says=["station 77: not in tiny, whose 12 stations are "])
