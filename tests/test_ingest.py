"Ingest as a whole: equal to a plain reading, kept between runs, unharmed by a kill."

import gzip
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace

import kills
import numpy as np
import pandas as pd
import pytest
from conftest import SHARED, needs_data, stouter

from stouter.data.cdr import find_cdr_files, ingest_cdr
from stouter.data.cdr_format import zstd
from stouter.data.labels import SERVICES
from stouter.data.traffic import open_traffic
from stouter.files import InputError

MIDNIGHT, SLOT, HOUR = 1383260400000, 600_000, 3_600_000  # 2013-11-01 00:00 in Milan; ms
GRID = pd.DataFrame({"lon": 9.19, "lat": 45.46}, index=np.arange(1, 41))
HEADING = "datetime,CellID,countrycode,smsin,smsout,callin,callout,internet\n"


def invented(day=0, stations=40, seed=0):
    "Records of one day, three countries in shuffled order; fields are missing at random, but never all of a line."
    rng = np.random.default_rng((seed, day))
    table = pd.MultiIndex.from_product(
        [range(1, stations + 1), range(144), [39, 46, 33]], names=["station", "slot", "country"]
    ).to_frame(index=False)
    for service, known in zip(SERVICES, (0.5, 0.4, 0.3, 0.2, 0.7)):
        table[service] = np.where(rng.random(len(table)) < known, rng.gamma(0.7, 3, len(table)), np.nan)
    table.insert(1, "time", MIDNIGHT + day * 144 * SLOT + table.pop("slot") * SLOT)
    return table.dropna(subset=SERVICES, how="all").sample(frac=1, random_state=seed)


def write(table, path):
    "In the publisher's format, packed as the name says."
    text = table.to_csv(sep="\t", header=False, index=False).encode()
    path.write_bytes({".gz": gzip.compress, ".zst": zstd.compress}.get(path.suffix, bytes)(text))
    return path


def plain_reading(table):
    "The reference: a pandas group-by that shares no line with the package."
    hour = pd.to_datetime(table.time // HOUR * HOUR, unit="ms", utc=True).dt.tz_convert("Europe/Rome").dt.as_unit("ns")
    return table.assign(time=hour).groupby(["station", "time"])[list(SERVICES)].sum(min_count=1)


def assert_equals_reading(traffic, reading):
    wide = traffic.to_frame().pivot(index=["station", "time"], columns="service", values="value")[list(SERVICES)]
    pd.testing.assert_frame_equal(
        wide.reindex(reading.index), reading.astype("float32"), check_names=False, rtol=1e-6, atol=0
    )
    assert wide.notna().sum().sum() == reading.notna().sum().sum()  # nothing where the reference has nothing


@pytest.mark.parametrize("name", ["day.txt", "day.txt.gz", "day.txt.zst"])
def test_equals_a_plain_reading(tmp_path, name):
    table = invented()
    traffic, report = ingest_cdr([write(table, tmp_path / name)], GRID)
    assert_equals_reading(traffic, plain_reading(table))
    assert report.to_dict()["lines"] == len(table) and report.hours_covered == 24


def test_hourly_copy_equals_the_published_one(tmp_path):
    table = invented()
    wall = (
        pd.to_datetime(table.time // HOUR * HOUR, unit="ms", utc=True)
        .dt.tz_convert("Europe/Rome")
        .dt.strftime("%Y-%m-%d %H:%M:%S")
    )
    hourly = (
        table.assign(time=wall).groupby(["time", "station", "country"], as_index=False)[list(SERVICES)].sum(min_count=1)
    )
    (tmp_path / "hourly.csv").write_text(HEADING + hourly.to_csv(header=False, index=False))
    traffic, report = ingest_cdr([tmp_path / "hourly.csv"], GRID)
    assert_equals_reading(traffic, plain_reading(table))
    published, _ = ingest_cdr([write(table, tmp_path / "day.txt")], GRID)
    np.testing.assert_allclose(traffic.dataset["volume"], published.dataset["volume"], rtol=1e-6)
    assert report.files[0].missing_slots == 0


@needs_data
def test_equals_a_plain_reading_of_the_real_month():
    files = find_cdr_files(SHARED / "milan_28cells_30days")
    frames = [pd.read_csv(file, sep="\t", names=["station", "time", "country", *SERVICES]) for file in files]
    grid = pd.DataFrame({"lon": 9.19, "lat": 45.46}, index=np.arange(1, 10_001))
    traffic, report = ingest_cdr(files, grid)
    assert_equals_reading(traffic, plain_reading(pd.concat(frames)))
    assert report.to_dict()["lines"] == sum(map(len, frames))


def test_every_line_is_accounted_for(tmp_path):
    table = invented(stations=45)
    lines = table.to_csv(sep="\t", header=False, index=False).splitlines()
    for place, bad in ((10, "1\tx\t39\t1"), (500, f"2\t{MIDNIGHT}\t39\t-1"), (900, f"3\t{MIDNIGHT + 1}\t39\t1")):
        lines[place] = bad
    (tmp_path / "day.txt").write_text("\n".join(lines))
    traffic, report = ingest_cdr([tmp_path / "day.txt"], GRID, unknown_stations="skip", cache_dir=tmp_path / "kept")
    totals = report.to_dict()
    known = pd.read_parquet(next((tmp_path / "kept").iterdir()))
    assert (
        totals["lines"]
        == len(table)
        == totals["lines_quarantined"] + totals["lines_of_unknown_stations"] + known.lines[known.station <= 40].sum()
    )
    assert totals["lines_quarantined"] == 3 and totals["n_unknown_stations"] == 5
    assert totals["lines_of_unknown_stations"] == table.drop(table.index[[10, 500, 900]]).station.gt(40).sum()
    assert json.loads(json.dumps(totals)) and traffic.stations.index.max() == 40


def test_missing_slots_are_counted(tmp_path):
    table = invented()
    gone = table.time.between(MIDNIGHT + 7 * HOUR, MIDNIGHT + 8 * HOUR + SLOT - 1)  # seven slots of all stations
    alone = (table.station == 5) & (table.time == MIDNIGHT)
    _, whole = ingest_cdr([write(table, tmp_path / "whole.txt")], GRID)
    traffic, report = ingest_cdr([write(table[~gone & ~alone], tmp_path / "gaps.txt")], GRID)
    assert (whole.files[0].missing_slots, report.files[0].missing_slots) == (0, 7)
    assert report.files[0].missing_station_slots >= whole.files[0].missing_station_slots + 1
    assert report.files[0].missing_station_slots == 144 * 40 - len(table[~gone & ~alone].groupby(["station", "time"]))
    assert report.hours_covered == 23 and np.isnan(traffic.values("internet")[:, 7]).all()


class TestKept:
    @pytest.fixture
    def days(self, tmp_path):
        (tmp_path / "raw").mkdir()
        return [write(invented(day), tmp_path / "raw" / f"day{day}.txt") for day in range(3)]

    def test_second_run_reads_nothing(self, tmp_path, days, monkeypatch):
        first, _ = ingest_cdr(days, GRID, cache_dir=tmp_path / "kept")
        monkeypatch.setattr("stouter.data.cdr.read_file", None)  # would be called for any raw line
        second, report = ingest_cdr(days, GRID, cache_dir=tmp_path / "kept")
        assert report.n_cached == 3 and second.dataset.identical(first.dataset)

    def test_another_grid_reads_nothing(self, tmp_path, days, monkeypatch):
        ingest_cdr(days, GRID, cache_dir=tmp_path / "kept")
        monkeypatch.setattr("stouter.data.cdr.read_file", None)
        some, _ = ingest_cdr(days, GRID[:20], cache_dir=tmp_path / "kept", unknown_stations="skip")
        assert len(some.stations) == 20
        with pytest.raises(InputError, match="station 21 in line"):
            ingest_cdr(days, GRID[:20], cache_dir=tmp_path / "kept")

    def test_changed_file_and_other_zone_are_read_anew(self, tmp_path, days):
        ingest_cdr(days, GRID, cache_dir=tmp_path / "kept")
        table = invented(1, seed=9)
        changed, report = ingest_cdr([days[0], write(table, days[1]), days[2]], GRID, cache_dir=tmp_path / "kept")
        assert report.n_cached == 2
        assert_equals_reading(changed.select(first="2013-11-02", last="2013-11-02"), plain_reading(table))
        assert ingest_cdr(days, GRID, timezone="Europe/London", cache_dir=tmp_path / "kept")[1].n_cached == 0

    def test_bad_file_loses_nothing(self, tmp_path, days):
        whole, _ = ingest_cdr(days, GRID)
        good = days[2].read_bytes()
        days[2].write_bytes(good.replace(b"\t39\t", b"\tIT\t"))
        with pytest.raises(InputError, match="day2.txt.*cannot be used"):
            ingest_cdr(days, GRID, cache_dir=tmp_path / "kept")
        days[2].write_bytes(good)
        mended, report = ingest_cdr(days, GRID, cache_dir=tmp_path / "kept")
        assert report.n_cached == 2 and mended.dataset.identical(whole.dataset)

    def test_damaged_table_is_made_anew(self, tmp_path, days):
        whole, before = ingest_cdr(days, GRID, cache_dir=tmp_path / "kept")
        first, second, third = sorted((tmp_path / "kept").iterdir())
        first.write_bytes(first.read_bytes()[:1000])
        second.write_bytes(b"")
        again, report = ingest_cdr(days, GRID, cache_dir=tmp_path / "kept")
        assert report.n_cached == 1 and again.dataset.identical(whole.dataset)
        assert replace(report, n_cached=0) == before

    def test_folder_that_cannot_be_written(self, tmp_path, days):
        (tmp_path / "kept").write_text("a file")
        with pytest.raises(InputError, match="cannot write into"):
            ingest_cdr(days, GRID, cache_dir=tmp_path / "kept")


CHILD = """
import sys
from pathlib import Path
import numpy as np, pandas as pd
from stouter.data.cdr import ingest_cdr
from stouter.data.traffic import save_traffic
grid = pd.DataFrame({"lon": 9.19, "lat": 45.46}, index=np.arange(1, 41))
print("ready", flush=True)
files, kept = sorted(Path(sys.argv[1]).iterdir()), Path(sys.argv[2])
traffic, report = ingest_cdr(files, grid, cache_dir=kept, on_file=lambda done, n: print(done, flush=True))
save_traffic(traffic, sys.argv[3])
print("kept", report.n_cached, flush=True)
"""


def test_killed_at_ten_moments(tmp_path):
    "Kill -9 at random moments; the next run goes on, and the last equals an undisturbed one."
    (tmp_path / "raw").mkdir()
    files = [write(invented(day), tmp_path / "raw" / f"day{day:02}.txt.gz") for day in range(24)]
    start = time.monotonic()
    undisturbed, _ = ingest_cdr(files, GRID)
    length = time.monotonic() - start
    words = [sys.executable, "-c", CHILD, str(tmp_path / "raw"), str(tmp_path / "kept"), str(tmp_path / "traffic.nc")]
    env, chance = {**os.environ, "OMP_NUM_THREADS": "1"}, random.Random(0)
    tables = []
    for _ in range(10):
        child = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.02, length / 6))
        child.kill()
        child.communicate()
        tables.append(len(list((tmp_path / "kept").glob("[!.]*"))) if (tmp_path / "kept").exists() else 0)
    assert 0 < tables[-1] and tables == sorted(tables)  # every run went on from where the last one was killed
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"kept {tables[-1]}"
    assert open_traffic(tmp_path / "traffic.nc").dataset.identical(undisturbed.dataset)


def test_a_kill_a_full_disk_and_two_processes(tmp_path):
    "A short round of `make kills`: the same command finishes, with the bytes of a command that nothing disturbed."
    stouter("simulate", tmp_path / "city", "--stations", 60, "--days", 12)
    job = kills.make_jobs(tmp_path / "city", None)["ingest"]
    counts = {kills.kill_often: 1, kills.full_disks: 1, kills.pairs: 1}
    line, is_equal = kills.campaign("ingest", job, counts, tmp_path, random.Random(0))
    assert is_equal, line
    assert "1 kills" in line and "full disk: 1 x status" in line and "two processes: 1 x status 0 and 0" in line
