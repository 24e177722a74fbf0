"A long generation that is killed, starved of disk or asked for something else: what must stay true."

import json
import multiprocessing
import random
import resource
import shutil
import time
from types import SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import stouter

from stouter.files import InputError
from stouter.pipeline.generate import generate_traffic, make_request, write_traffic
from stouter.pipeline.run import load_run
from stouter.pipeline.table_parts import parts_folder

FIRST, LAST = pd.Timestamp("2014-02-01"), pd.Timestamp("2014-04-30")  # 89 days; on one of them the clocks change
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["stouter.pipeline.generate", "h5netcdf", "pytest"]
)  # each job is a fork of a process that has imported these


def make(run, out, last=LAST, n_samples=6, seed=0, stations=None):
    results = load_run(run)
    request = make_request(results.model, FIRST, last, n_samples, seed, stations)
    return write_traffic(request, out, results.config.n_threads)


def peak_memory(run, out, last, n_samples, queue):
    "Megabytes of a process that does nothing else."
    make(run, out, last, n_samples)
    queue.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


@pytest.fixture(scope="module")
def undisturbed(tiny_run, tmp_path_factory):
    "The bytes of a table that is written without an interruption, and its number of rows."
    out = tmp_path_factory.mktemp("whole") / "table.parquet"
    rows = make(tiny_run[0], out)
    return out.read_bytes(), rows


def test_the_table_is_whole(tiny_run, tmp_path, undisturbed):
    (tmp_path / "table.parquet").write_bytes(undisturbed[0])
    table = pd.read_parquet(tmp_path / "table.parquet")
    assert len(table) == undisturbed[1] == 12 * 6 * (89 * 24 - 1)
    assert not table.duplicated(["station", "sample", "time"]).any() and table.value.ge(0).all()


def test_the_table_holds_what_is_generated_in_memory(tiny_run, tmp_path):
    make(tiny_run[0], tmp_path / "table.parquet", FIRST + pd.Timedelta(days=2))
    request = make_request(load_run(tiny_run[0]).model, "2014-02-01", "2014-02-03", 6, 0, None)
    traffic = generate_traffic(request)
    order = ["sample", "station", "time"]
    tables = [
        table.sort_values(order).reset_index(drop=True)[[*order, "value"]]
        for table in (pd.read_parquet(tmp_path / "table.parquet"), traffic.to_frame())
    ]
    pd.testing.assert_frame_equal(*tables, check_dtype=False, rtol=0, atol=0)


def test_twenty_kills_at_random_moments(tiny_run, tmp_path, undisturbed):
    "Nothing that was written is lost, and the table comes out the same to the last byte."
    out, chance, kills, seen, counts = tmp_path / "table.parquet", random.Random(0), 0, set(), []
    while kills < 20:
        process = CONTEXT.Process(target=make, args=(tiny_run[0], out))
        process.start()
        had = len(seen)
        while kills % 4 and process.is_alive() and len(parts_of(out)) == had:
            time.sleep(0.002)  # until this life has made a part
        process.join(chance.uniform(0.0, 0.15))
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
        assert process.exitcode in (0, -9)
        if out.exists():  # through, or killed between moving the table and tidying up
            assert out.read_bytes() == undisturbed[0]
            out.unlink()
            shutil.rmtree(parts_folder(out), ignore_errors=True)
            seen = set()
        else:
            assert seen <= (seen := set(parts_of(out)))
            counts.append(len(seen))
    assert len(set(counts)) >= 5  # the kills fell at different stages
    make(tiny_run[0], out)
    assert out.read_bytes() == undisturbed[0]
    assert [p.name for p in tmp_path.iterdir()] == ["table.parquet"]


def parts_of(out):
    return [p.name for p in parts_folder(out).glob("0*.parquet")]


def test_a_kill_while_joining_or_tidying_up(tiny_run, tmp_path, undisturbed, monkeypatch):
    out = tmp_path / "table.parquet"
    for name, stopped in {"os": SimpleNamespace(replace=stop), "remove_folder": stop}.items():
        with monkeypatch.context() as m:
            m.setattr(f"stouter.pipeline.table_parts.{name}", stopped)
            with pytest.raises(Stopped):
                make(tiny_run[0], out)
        assert out.exists() is (name == "remove_folder") and len(parts_of(out)) == 26
    stamp = out.stat().st_mtime_ns
    make(tiny_run[0], out)  # finds the table and only tidies up
    assert out.read_bytes() == undisturbed[0] and out.stat().st_mtime_ns == stamp
    assert [p.name for p in tmp_path.iterdir()] == ["table.parquet"]


def test_a_csv_has_the_rows_of_the_parquet_and_resumes(tiny_run, tmp_path, monkeypatch):
    last = FIRST + pd.Timedelta(days=9)
    table, text = tmp_path / "table.parquet", tmp_path / "table.csv"
    make(tiny_run[0], table, last)
    with monkeypatch.context() as m, pytest.raises(Stopped):
        m.setattr("stouter.pipeline.table_parts.os", SimpleNamespace(replace=stop))
        make(tiny_run[0], text, last)
    assert not text.exists() and len(parts_of(text)) > 1
    make(tiny_run[0], text, last)
    expected, found = pd.read_parquet(table), pd.read_csv(text, parse_dates=["time"])
    assert (found.time.dt.tz_convert("UTC") == expected.time.dt.tz_convert("UTC")).all()
    names = ["station", "sample", "service", "status"]
    assert (found[names].astype(str) == expected[names].astype(str)).all(axis=None)
    assert (found.value.astype("float32") == expected.value).all()
    note = json.loads((tmp_path / "table.csv.json").read_text())
    assert note["content"] == "generated traffic, trained on a simulated city" and note["run"] == "tiny, seed 0"
    assert note["unit"] == json.loads(pq.read_schema(table).metadata[b"stouter"])["unit"]
    stamp = text.stat().st_mtime_ns
    make(tiny_run[0], text, last)  # complete: nothing is made again
    assert text.stat().st_mtime_ns == stamp and not parts_folder(text).exists()


class Stopped(Exception):
    pass


def stop(*_):
    raise Stopped


def test_half_the_bits_resume_to_the_same_bytes_and_stay_near(tiny_run, tmp_path, monkeypatch):
    run = shutil.copytree(tiny_run[0], tmp_path / "run")
    manifest = yaml.safe_load((run / "run.yaml").read_text())
    manifest["config"]["diffusion"]["sampling_dtype"] = "bfloat16"
    (run / "run.yaml").write_text(yaml.safe_dump(manifest))
    tables = {name: tmp_path / f"{name}.parquet" for name in ("single", "half", "resumed")}
    for name, folder in {"single": tiny_run[0], "half": run}.items():
        make(folder, tables[name], FIRST + pd.Timedelta(days=9))
    with monkeypatch.context() as m, pytest.raises(Stopped):
        m.setattr("stouter.pipeline.generate.merge_parts", stop)
        make(run, tables["resumed"], FIRST + pd.Timedelta(days=9))
    for name in parts_of(tables["resumed"])[1::2]:
        (parts_folder(tables["resumed"]) / name).unlink()
    make(run, tables["resumed"], FIRST + pd.Timedelta(days=9))
    assert tables["resumed"].read_bytes() == tables["half"].read_bytes()
    single, half = (pd.read_parquet(tables[name]).value for name in ("single", "half"))
    assert 0 < (half - single).abs().median() < 0.02 * single.std()
    assert half.mean() == pytest.approx(single.mean(), rel=0.005) and half.std() == pytest.approx(
        single.std(), rel=0.005
    )


def test_a_full_disk_keeps_the_parts(tiny_run, tmp_path, undisturbed):
    "The operating system cuts every file at 100 kB: parts fit, the whole table does not."
    out, limits = tmp_path / "table.parquet", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(
            InputError,
            match="merged.parquet: could not be written .*"
            "files written before are complete: free some space and run again",
        ):
            make(tiny_run[0], out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not out.exists() and len(parts_of(out)) == 26
    make(tiny_run[0], out)
    assert out.read_bytes() == undisturbed[0]


def test_parts_of_another_request_are_refused(tiny_run, tmp_path):
    out = tmp_path / "table.parquet"
    stouter("generate", tiny_run[0], "--days", "2014-02-01:2014-04-30", "--samples", 6, "--out", out)
    parts_folder(out).mkdir()
    (parts_folder(out) / "request.json").write_bytes(
        pq.read_schema(out).metadata[b"stouter"]
    )  # as if the table were not finished
    out.unlink()
    for words, says in (
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"stations": ["3"]}, "stations: '12 known, 0 predicted .* there, '1 known"),
        ({"n_samples": 7}, "samples: 6 there, 7 here"),
    ):
        with pytest.raises(InputError, match=f"holds parts of another request .{says}"):
            make(tiny_run[0], out, **words)
    with pytest.raises(InputError, match="days: '2014-02-01:2014-04-30' there, '2014-02-01:2014-02-01' here"):
        make(tiny_run[0], out, last=FIRST)
    refused = stouter("generate", tiny_run[0], "--days", "2014-02-01", "--out", out, check=False)
    assert refused.returncode == 2 and "finish that one, choose another --out or delete the folder" in refused.stderr


def test_memory_does_not_grow_with_the_request(tiny_run, tmp_path):
    "Four times the station-days, within 25 MB, which row groups need; the larger table in memory would be 50 MB more."
    peaks, queue = [], CONTEXT.Queue()
    for k, (last, n_samples) in enumerate([(LAST, 6), (LAST, 24)]):
        process = CONTEXT.Process(
            target=peak_memory, args=(tiny_run[0], tmp_path / f"{k}.parquet", last, n_samples, queue)
        )
        process.start()
        peaks.append(queue.get(timeout=120))
        process.join()
    assert peaks[1] < peaks[0] + 25, peaks
