"One process and a cluster write the same bytes, a worker may die, and a part that fails is named."

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, stouter

from stouter.data.traffic import open_traffic
from stouter.files import InputError
from stouter.pipeline.cluster import open_cluster
from stouter.pipeline.generate import make_request, write_traffic
from stouter.pipeline.run import load_run
from stouter.pipeline.studies import expand_study
from stouter.pipeline.sweep import sweep
from stouter.pipeline.table_parts import parts_folder
from stouter.stores import as_path

pytest.importorskip("distributed", reason='Dask is not installed: pip install "stouter[dask]"')
WEEK = "2013-12-01:2013-12-07"


@pytest.fixture(scope="module")
def address():
    "Of the scheduler of a cluster with two workers, which see the folder of the tests."
    with open_cluster(None, 2, "stouter.pipeline.generate") as cluster:
        yield cluster.client.scheduler.address


@pytest.fixture(scope="module")
def workers(address):
    with open_cluster(address, None) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    "A small simulated city as records."
    folder = tmp_path_factory.mktemp("city")
    stouter("simulate", folder, "--stations", "16", "--days", "21")
    return folder


class KillingBar:
    "A progress bar that kills a worker as soon as two parts are done."

    def __init__(self, cluster):
        self.pids, self.n = list(cluster.client.run(os.getpid).values()), 0

    def __call__(self, **options):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        "Nothing is open."

    def update(self, n):
        self.n += n
        if self.n == 2:
            os.kill(self.pids[0], signal.SIGKILL)


def request_of(run, joint=False):
    model = load_run(run).model_with(joint=joint)
    return make_request(model, "2014-02-01", "2014-03-31", 3, 0, None)


def test_ingest_writes_the_bytes_of_one_process(city, address, tmp_path):
    "The tables, the traffic and the report; a cluster goes on where one process stopped, and the other way round."
    grid, records = city / "grid.geojson", city / "records"
    for name, option in {"one": [], "many": ["--scheduler", address]}.items():
        words = "--grid", grid, "--out", tmp_path / f"{name}.nc", "--cache-dir", tmp_path / name
        stouter("ingest", records, *words, *option)
    tables = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(tables) == 21 and tables == sorted(path.name for path in (tmp_path / "many").iterdir())
    for name in tables:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()
    assert (tmp_path / "one.nc").read_bytes() == (tmp_path / "many.nc").read_bytes()
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "many.json").read_bytes()
    for name, option in {"one": ["--scheduler", address], "many": []}.items():
        for table in tables[5:]:
            (tmp_path / name / table).unlink()
        words = "--grid", grid, "--out", tmp_path / f"{name}_again.nc", "--cache-dir", tmp_path / name
        stouter("ingest", records, *words, *option)
        assert (tmp_path / f"{name}_again.nc").read_bytes() == (tmp_path / "one.nc").read_bytes()
        assert json.loads((tmp_path / f"{name}_again.json").read_text())["n_cached"] == 5


def test_a_bad_file_is_named_and_the_others_are_read(city, address, tmp_path):
    records = tmp_path / "records"
    records.mkdir()
    for path in sorted((city / "records").iterdir())[:3]:
        (records / path.name).write_bytes(path.read_bytes())
    (records / "bad.txt").write_text("no\trecord\n")
    words = "--grid", city / "grid.geojson", "--out", tmp_path / "a.nc", "--cache-dir", tmp_path / "tables"
    done = stouter("ingest", records, *words, "--scheduler", address, check=False)
    lines = [line for line in done.stderr.split("\n") if line and not line.startswith("\r")]  # beside the progress bar
    assert done.returncode == 2 and len(lines) == 1
    assert "1 of 4 files failed, the others are kept" in done.stderr and "bad.txt" in done.stderr
    assert len(list((tmp_path / "tables").iterdir())) == 3


@pytest.mark.parametrize("joint", [False, True], ids=["independent", "joint"])
def test_generation_survives_a_killed_worker(tiny_run, workers, tmp_path, joint):
    "Also if it goes on in one process after half of the blocks."
    if joint and not (tiny_run[0] / "joint.safetensors").exists():
        joint_run = tmp_path / "run"
        days = ["-p", "data.source.n_days", "20", "-p", "data.n_test_periods", "3"]
        stouter("run", "tiny", "--out", joint_run, *days)
    request = request_of(joint_run if joint else tiny_run[0], joint)
    assert request.n_blocks > 5 and (request.model.field is not None) is joint
    one, many = tmp_path / "one.parquet", tmp_path / "many.parquet"
    rows = write_traffic(request, one)
    bar = KillingBar(workers)
    assert write_traffic(request, many, progress=bar, cluster=workers) == rows
    assert bar.n == request.n_blocks and many.read_bytes() == one.read_bytes()
    assert not parts_folder(many).exists()


def test_a_table_is_begun_on_a_cluster_and_finished_in_one_process(tiny_run, workers, tmp_path, monkeypatch):
    request, whole, out = request_of(tiny_run[0]), tmp_path / "whole.parquet", tmp_path / "table.parquet"
    write_traffic(request, whole)
    with monkeypatch.context() as patch:
        patch.setattr("stouter.pipeline.generate.missing_parts", lambda out, n: list(range(0, n, 2)))
        patch.setattr("stouter.pipeline.generate.read_part", fail)
        with pytest.raises(RuntimeError):
            write_traffic(request, out, cluster=workers)
    made = {path.name: path.stat().st_mtime_ns for path in parts_folder(out).glob("*.parquet")}
    assert len(made) == -(-request.n_blocks // 2)
    with monkeypatch.context() as patch:
        patch.setattr("stouter.pipeline.generate.merge_parts", fail)
        with pytest.raises(RuntimeError):
            write_traffic(request, out)
    kept = {name: (parts_folder(out) / name).stat().st_mtime_ns for name in made}
    assert kept == made  # the parts of the cluster were not made again
    write_traffic(request, out, cluster=workers)
    assert out.read_bytes() == whole.read_bytes()


def fail(*arguments):
    raise RuntimeError("stopped")


@pytest.mark.parametrize("name", ["table.parquet", "table.csv"])
def test_a_store_gets_the_bytes_of_a_disk(tiny_run, workers, tmp_path, monkeypatch, name):
    "Begun by workers at an address, finished in one process; the address has no folder before, and no parts after."
    request, whole, out = request_of(tiny_run[0]), tmp_path / name, as_path(f"file://{tmp_path}/store/{name}")
    rows = write_traffic(request, whole)
    with monkeypatch.context() as patch:
        patch.setattr("stouter.pipeline.generate.missing_parts", lambda out, n: list(range(0, n, 2)))
        patch.setattr("stouter.pipeline.generate.read_part", fail)
        with pytest.raises(RuntimeError):
            write_traffic(request, out, cluster=workers)
    parts = tmp_path / "store" / f"{name}.parts"
    assert len(list(parts.glob("*.parquet"))) == -(-request.n_blocks // 2)
    with pytest.raises(InputError, match="holds parts of another request"):
        write_traffic(replace(request, seed=1), out)
    made = {path.name: path.stat().st_mtime_ns for path in parts.glob("*.parquet")}
    with monkeypatch.context() as patch:
        patch.setattr("stouter.pipeline.generate.merge_parts", fail)
        with pytest.raises(RuntimeError):
            write_traffic(request, str(out))
    assert made == {name: (parts / name).stat().st_mtime_ns for name in made}
    assert write_traffic(request, out, cluster=workers) == rows
    assert {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()} == {
        path.name: path.read_bytes() for path in (whole, tmp_path / f"{name}.json") if path.exists()
    }
    assert write_traffic(request, out) == rows  # finished: nothing to do


def test_generate_at_an_address(tiny_run, tmp_path):
    "The option of the command line."
    words = "generate", tiny_run[0], "--days", WEEK
    stouter(*words, "--out", tmp_path / "week.csv")
    found = json.loads(stouter(*words, "--out", f"file://{tmp_path}/deep/week.csv", "--json").stdout)
    assert found["file"] == f"file://{tmp_path}/deep/week.csv"
    for name in ("week.csv", "week.csv.json"):
        assert (tmp_path / "deep" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_a_worker_that_does_not_see_the_store_is_named(tiny_run, workers):
    "The memory of this process is no store that another one can write to."
    with pytest.raises(
        InputError, match="does not see memory://elsewhere/week.parquet.parts; the folder has to be shared"
    ):
        write_traffic(request_of(tiny_run[0]), as_path("memory://elsewhere/week.parquet"), cluster=workers)


def test_a_store_that_fails_is_named(tiny_run, monkeypatch):
    out = as_path("memory://tables/week.parquet")
    monkeypatch.setattr(out.fs, "put_file", fail)
    with pytest.raises(
        InputError, match="memory://tables/week.parquet.parts/0000000.parquet: the store failed .Runtime"
    ):
        write_traffic(request_of(tiny_run[0]), out)


def test_generate_with_workers_of_its_own(tiny_run, tmp_path):
    "The option of the command line, in a process without Dask before."
    words = "generate", tiny_run[0], "--days", WEEK, "--samples", "2"
    stouter(*words, "--out", tmp_path / "one.parquet")
    found = json.loads(stouter(*words, "--out", tmp_path / "two.parquet", "--workers", "2", "--json").stdout)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert found["rows"] == 12 * 2 * 168


@pytest.fixture(scope="module")
def tables(city, tmp_path_factory):
    "Three weeks of real traffic, and noisy copies of the last."
    folder = tmp_path_factory.mktemp("tables")
    stouter("ingest", city / "records", "--grid", city / "grid.geojson", "--out", folder / "real.nc")
    real = open_traffic(folder / "real.nc").select(services=["internet"]).to_frame()
    last = real[real.time >= real.time.max() - pd.Timedelta(days=7) + pd.Timedelta(hours=1)]
    noise = np.random.default_rng(0).uniform(0.8, 1.2, (3, len(last)))
    copies = [last.assign(sample=s, value=last.value.fillna(0) * noise[s]) for s in range(3)]
    pd.concat(copies).to_parquet(folder / "generated.parquet")
    return folder


def test_evaluation_is_that_of_one_process(tables, address, tmp_path):
    "Its JSON and its table, with a file and without."
    words = "evaluate", "--real", tables / "real.nc", "--generated", tables / "generated.parquet"
    stouter(*words, "--out", tmp_path / "one.json")
    done = stouter(*words, "--out", tmp_path / "many.json", "--scheduler", address)
    assert len(json.loads((tmp_path / "one.json").read_text())["methods"]) > 5 and "generated" in done.stdout
    for ending in (".json", ".parquet"):
        one, many = (tmp_path / f"{name}{ending}" for name in ("one", "many"))
        assert one.read_bytes() == many.read_bytes()
    found = json.loads(stouter(*words, "--scheduler", address, "--json").stdout)
    assert found == json.loads((tmp_path / "one.json").read_text())
    assert not list(tmp_path.glob("*.parts"))


def test_a_sweep_makes_the_runs_of_one_process(workers, tmp_path):
    "A worker is killed in the middle; a run that cannot succeed says why and stops nothing else."
    fields = {"graph.n_epochs": "2", "data.n_stations": "8", "train.n_updates": "6"}
    names = ["concatenation", "GateFu", "WeightFu"]
    one, many = (
        expand_study("633_fusion_variants", tmp_path / name, ["tiny"], [0], names, fields) for name in ("one", "many")
    )
    data = many[2].config.data.model_copy(update={"n_test_periods": 50})
    many[2] = many[2]._replace(config=many[2].config.model_copy(update={"data": data}))
    seen, pids = [], list(workers.client.run(os.getpid).values())

    def on_change(trial, state):
        seen.append((trial.variant, state))
        if len(seen) == 1:
            os.kill(pids[0], signal.SIGKILL)

    failed = sweep(many, on_change=on_change, cluster=workers)
    assert sorted(seen) == [("GateFu", "finished"), ("WeightFu", "failed"), ("concatenation", "finished")]
    assert list(failed) == [many[2].folder] and "cannot hold 50" in failed[many[2].folder]
    assert sweep(one[:2], 2) == {} and sweep(many[:2], cluster=workers) == {}  # the latter does nothing
    for a, b in zip(one[:2], many[:2]):
        for name in ("metrics.json", "metrics.parquet", "weights.safetensors", "samples.safetensors", "traffic.nc"):
            assert (a.folder / name).read_bytes() == (b.folder / name).read_bytes(), name


def test_a_block_that_fails_each_time_is_named(tiny_run, workers, tmp_path):
    "Its place is taken by a folder, so that no worker can write it; the others are there, and the next call ends it."
    request, out = request_of(tiny_run[0]), tmp_path / "table.parquet"
    blocked = parts_folder(out) / "0000001.parquet"

    class BlockingBar(KillingBar):
        def __enter__(self):
            blocked.mkdir()
            (blocked / "file").write_text("")
            return self

    with pytest.raises(InputError, match=f"^1 of {request.n_blocks} blocks failed, the others are kept; block 1: "):
        write_traffic(request, out, progress=BlockingBar(workers), cluster=workers)
    assert len(list(parts_folder(out).glob("0*.parquet"))) == request.n_blocks
    (blocked / "file").unlink()
    blocked.rmdir()
    write_traffic(request, out, cluster=workers)
    write_traffic(request, tmp_path / "one.parquet")
    assert out.read_bytes() == (tmp_path / "one.parquet").read_bytes()


@pytest.mark.parametrize(
    "words, message",
    [
        (["--scheduler", "tcp://127.0.0.1:9", "--workers", "2"], "give one of them"),
        (["--scheduler", "nonsense://"], "no scheduler answers there; start one with: dask scheduler"),
    ],
)
def test_options_that_cannot_be_used(tiny_run, tmp_path, words, message):
    done = stouter("generate", tiny_run[0], "--days", WEEK, "--out", tmp_path / "a.parquet", *words, check=False)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_ingest_on_a_cluster_needs_a_folder_of_tables(city, tmp_path):
    words = "ingest", city / "records", "--grid", city / "grid.geojson", "--out", tmp_path / "a.nc", "--workers", "2"
    done = stouter(*words, check=False)
    assert done.returncode == 2 and "give --cache-dir too" in done.stderr


def test_without_the_option_nothing_of_dask_is_imported(tiny_run, tmp_path):
    "And without the package the option says how to get it. (xarray itself imports `dask` where it is installed.)"
    code = "import sys; from stouter.cli import main\ntry: main()\nfinally: print('distributed' in sys.modules)"
    words = ["generate", tiny_run[0], "--days", "2013-12-01", "--quiet", "--out", tmp_path / "a.parquet"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(call, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False" and (tmp_path / "a.parquet").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "distributed", None)
        done = stouter(*words[:4], "--out", tmp_path / "b.parquet", "--workers", "2", check=False)
    assert done.returncode == 2 and 'pip install "stouter[dask]"' in done.stderr


def test_large_results_are_opened_in_chunks(city, tiny_run, tmp_path):
    "What the tutorial says of results that are larger than the memory."
    import dask.dataframe
    import xarray

    stouter("ingest", city / "records", "--grid", city / "grid.geojson", "--out", tmp_path / "real.nc")
    with xarray.open_dataset(tmp_path / "real.nc", engine="h5netcdf", chunks={"hour": 168}) as traffic:
        assert len(traffic.volume.chunks[1]) == 3
        by_hour = traffic.volume.sel(service="internet").mean("station").compute()
    expected = np.nanmean(open_traffic(tmp_path / "real.nc").values("internet"), axis=0)
    np.testing.assert_allclose(by_hour, expected, rtol=1e-5)  # sums of float32 in another order
    stouter("generate", tiny_run[0], "--days", WEEK, "--samples", "2", "--out", tmp_path / "week.parquet")
    rows = dask.dataframe.read_parquet(tmp_path / "week.parquet")
    total = rows.groupby("station").value.sum().compute().sort_index()
    table = pd.read_parquet(tmp_path / "week.parquet").groupby("station").value.sum()
    np.testing.assert_allclose(total, table, rtol=1e-5)
