"Records that are easily misread: each gives the right numbers, or is counted, or is refused in one line."

import bz2
import gzip
import os
import warnings

import numpy as np
import pandas as pd
import pytest

from stouter.data import cdr
from stouter.data.cdr import find_cdr_files, ingest_cdr
from stouter.files import InputError

MIDNIGHT, SLOT = 1383260400000, 600_000  # 2013-11-01 00:00 in Milan; ten minutes, ms
TWO = pd.DataFrame({"lon": [9.19, 9.20], "lat": [45.46, 45.47]}, index=[1, 2])
HEADING = "datetime,CellID,countrycode,smsin,smsout,callin,callout,internet\n"
TOTAL = 288 * 1.5  # internet of a good day of two stations
HOURLY_TOTAL = 48 * 1.5


def published(stations=(1, 2), factor=1, first=MIDNIGHT, slots=144, country=39, end="\n"):
    "One day as published; `factor` multiplies times."
    return "".join(
        f"{s}\t{int((first + SLOT * t) * factor)}\t{country}\t\t\t\t\t1.5{end}" for s in stations for t in range(slots)
    )


def hourly(time_format="%Y-%m-%d %H:%M:%S", heading=HEADING, stations=(1, 2), day="2013-11-01"):
    "One day summed to hours, times as text."
    hours = pd.date_range(day, periods=24, freq="h")
    return heading + "".join(f"{t.strftime(time_format)},{s},39,,,,,1.5\n" for t in hours for s in stations)


def zoned(zone_format):
    "The same day in UTC or with the offset of Rome."
    hours = pd.date_range(pd.Timestamp(MIDNIGHT, unit="ms", tz="UTC"), periods=24, freq="h")
    hours = hours.tz_convert("Europe/Rome") if zone_format == "offset" else hours
    texts = [t.isoformat() if zone_format == "offset" else t.strftime(zone_format) for t in hours]
    return HEADING + "".join(f"{text},{s},39,,,,,1.5\n" for text in texts for s in (1, 2))


GOOD = published()
SHUFFLED = "".join(np.random.default_rng(0).permutation(GOOD.splitlines(keepends=True)))

# name -> (file name, content, sum of internet, or words of the refusal)
FILES = {
    # the same record twice
    "file twice": ("day.txt", GOOD + GOOD, r"288 of 576 lines repeat.*line 289 reads '1\\t13832604.*as line 1 does"),
    "file twice, shuffled": ("day.txt", SHUFFLED + SHUFFLED, "288 of 576 lines repeat"),
    "file twice, packed": ("day.txt.gz", gzip.compress(2 * GOOD.encode()), "288 of 576 lines repeat"),
    "one line twice": ("day.txt", GOOD + GOOD.splitlines()[7] + "\n", "1 of 289 lines repeat.*line 289.*as line 8"),
    "one line twice, side by side": ("day.txt", GOOD.splitlines()[0] + "\n" + GOOD, "line 2 reads.*as line 1"),
    "same key, another volume": ("day.txt", GOOD + f"2\t{MIDNIGHT}\t39\t\t\t\t\t7\n", "line 289 reads.*as line 145"),
    "same key, another service": ("day.txt", GOOD + f"2\t{MIDNIGHT}\t39\t7\n", "1 of 289 lines repeat"),
    "three times": ("day.txt", GOOD * 3, "576 of 864 lines repeat"),
    "leading zeros hide a repeat": ("day.txt", GOOD + GOOD.replace("1\t", "001\t"), "lines repeat"),
    "another country": ("day.txt", GOOD + published(country=46), 2 * TOTAL),
    "country codes far apart": ("day.txt", GOOD + published(country=97259), 2 * TOTAL),
    "hourly file twice": ("day.csv", hourly() + hourly(heading=""), "48 of 96 lines repeat.*line 50.*as line 2"),
    "a repeat among set-aside lines": ("day.txt", GOOD + 2 * f"1\t{MIDNIGHT}\t39\t\t\t\t\t-1\n", TOTAL),
    # times
    "ISO": ("day.csv", hourly("%Y-%m-%dT%H:%M:%S"), HOURLY_TOTAL),
    "ISO without seconds": ("day.csv", hourly("%Y-%m-%dT%H:%M"), HOURLY_TOTAL),
    "text without seconds": ("day.csv", hourly("%Y-%m-%d %H:%M"), HOURLY_TOTAL),
    "ISO with zero fraction": ("day.csv", hourly("%Y-%m-%dT%H:%M:%S.000"), HOURLY_TOTAL),
    "ISO in UTC": ("day.csv", zoned("%Y-%m-%dT%H:%M:%SZ"), HOURLY_TOTAL),
    "ISO in UTC with zero fraction": ("day.csv", zoned("%Y-%m-%dT%H:%M:%S.000Z"), HOURLY_TOTAL),
    "ISO with offset": ("day.csv", zoned("offset"), HOURLY_TOTAL),
    "space and offset": ("day.csv", zoned("offset").replace("T", " "), HOURLY_TOTAL),
    "day first": ("day.csv", hourly("%d/%m/%Y %H:%M"), r"header is understood, its time '01/11/2013 00:00' is not"),
    "month name": ("day.csv", hourly("%d-Nov-%Y %H:%M:%S"), "header is understood, its time '01-Nov-2013"),
    "only days": ("day.csv", hourly("%Y-%m-%d"), "header is understood, its time '2013-11-01' is not"),
    "24:00": ("day.csv", hourly().replace(" 00:00", " 24:00"), "2 of 48 lines.*not a number|is not"),
    "seconds": ("day.txt", published(factor=0.001), "time 1383260400 looks like seconds, give milliseconds"),
    "microseconds": ("day.txt", published(factor=1000), "time 1383260400000000 looks like microseconds"),
    "nanoseconds": ("day.txt", published(factor=10**6), "looks like nanoseconds, give milliseconds"),
    "seconds under a header": (
        "day.csv",
        HEADING + f"{MIDNIGHT // 1000},1,39,,,,,1\n",
        "time 1383260400 looks like seconds",
    ),
    "seconds beside milliseconds": (
        "day.txt",
        GOOD + published(factor=0.001, first=MIDNIGHT + 144 * SLOT),
        "288 of 576 lines.*time out of range",
    ),
    "every five minutes": (
        "day.txt",
        "".join(f"1\t{MIDNIGHT + 300_000 * t}\t39\t\t\t\t\t1\n" for t in range(288)),
        "144 of 288 lines.*off the 10-minute grid",
    ),
    "off the grid by a second": ("day.txt", published(first=MIDNIGHT + 1000), "off the 10-minute grid|no CDR file"),
    "slot of the next midnight": ("day.txt", published(slots=150), 300 * 1.5),
    "1970 beside 2013": ("day.txt", GOOD + "1\t0\t39\t\t\t\t\t1\n", TOTAL),
    "half the lines in 1970": ("day.txt", GOOD + published(first=0), "288 of 576 lines.*time out of range"),
    "half the lines in 2029": (
        "day.txt",
        GOOD + published(first=1893456000000),
        "records run from 2013-11-01 to 2030-01-02",
    ),
    # ids
    "leading zeros": ("day.txt", published(stations=("001", "002")), TOTAL),
    "two spellings of an id": ("day.txt", published((1,)) + published(("02",)), TOTAL),
    "half a day each spelling": (
        "day.txt",
        published(slots=72) + published(("01", "02"), first=MIDNIGHT + 72 * SLOT, slots=72),
        TOTAL,
    ),
    "spaces around ids": ("day.txt", published(stations=(" 1", "2 ")), TOTAL),
    "hexadecimal id": ("day.txt", GOOD + f"0x1\t{MIDNIGHT + 144 * SLOT}\t39\t\t\t\t\t1\n", TOTAL),
    "id 1e0": ("day.txt", GOOD + f"1e0\t{MIDNIGHT}\t46\t\t\t\t\t1\n", TOTAL),
    "id 1.5": ("day.txt", GOOD + f"1.5\t{MIDNIGHT}\t46\t\t\t\t\t1\n", TOTAL),
    "id 1_0": ("day.txt", GOOD + f"1_0\t{MIDNIGHT}\t46\t\t\t\t\t1\n", TOTAL),
    "ids with a point": ("day.txt", published(stations=("1.0", "2.0")), "no CDR file|cannot be used"),
    "half the ids hexadecimal": ("day.txt", published((1,)) + published(("2e0",)), "144 of 288 lines.*not a number"),
    "id beyond 64 bits": ("day.txt", GOOD + f"{2**63}\t{MIDNIGHT}\t39\t\t\t\t\t1\n", TOTAL),
    # numbers
    "thousands separators": ("day.txt", GOOD.replace("1.5", "1,234.5"), "no CDR file"),
    "some thousands separators": ("day.txt", GOOD.replace("1.5", "1,234.5", 9), "9 of 288 lines.*not a number"),
    "decimal commas": ("day.txt", GOOD.replace("1.5", "1,5"), "no CDR file"),
    "minus one for missing": ("day.txt", GOOD.replace("1.5", "-1", 9), "9 of 288 lines.*negative"),
    "infinite": ("day.txt", GOOD.replace("1.5", "inf", 9), "9 of 288 lines.*not finite"),
    "NA for missing": ("day.txt", GOOD.replace("1.5", "NA", 9), "9 of 288 lines"),
    "NUL in a number": ("day.txt", GOOD.replace("1.5", "1\0.5", 9), "9 of 288 lines"),
    "NULs at the end": ("day.txt", GOOD + "\0" * 512, TOTAL),
    # layout
    "BOM": ("day.txt", "\ufeff" + GOOD, TOTAL),
    "BOM and header": ("day.csv", "\ufeff" + hourly(), HOURLY_TOTAL),
    "CRLF": ("day.txt", GOOD.replace("\n", "\r\n"), TOTAL),
    "CR alone": ("day.txt", GOOD.replace("\n", "\r"), TOTAL),
    "no final newline": ("day.txt", GOOD[:-1], TOTAL),
    "semicolons": ("day.csv", hourly().replace(",", ";"), HOURLY_TOTAL),
    "bars": ("day.csv", hourly().replace(",", "|"), "no CDR file"),
    "a column renamed": ("day.csv", hourly().replace("internet", "data"), "not understood 'data'; missing 'internet'"),
    "a column lacks": ("day.csv", hourly().replace("smsin,", ""), "its header: missing 'sms_in'"),
    "a column twice": ("day.csv", hourly().replace("smsin", "smsout"), "missing 'sms_in'; given twice 'sms_out'"),
    "a column twice, other case": ("day.csv", hourly().replace("smsin", "SMSOUT"), "given twice 'sms_out'"),
    "row numbers": ("day.csv", hourly().replace("datetime", ",datetime"), "its header: not understood ''"),
    "volumes before keys": (
        "day.csv",
        hourly(heading="smsin,smsout,callin,callout,internet,datetime,CellID,countrycode\n"),
        "must be the first three columns",
    ),
    "header only": ("day.csv", HEADING, "nothing follows its header"),
    "tab-separated header": ("day.tsv", hourly().replace(",", "\t"), HOURLY_TOTAL),
    # files
    "truncated gz": ("day.txt.gz", gzip.compress(GOOD.encode())[:-30], "no whole gzip file"),
    "truncated gz in capitals": ("day.TXT.GZ", gzip.compress(GOOD.encode())[:-30], "no whole gzip file"),
    "capitals": ("DAY.TXT", GOOD, TOTAL),
    "packed, capitals": ("DAY.CSV.GZ", gzip.compress(hourly().encode()), HOURLY_TOTAL),
    "bz2": ("day.txt.bz2", bz2.compress(GOOD.encode()), r"day\.txt\.bz2 is packed; unpack it first"),
    "zip": ("day.zip", b"PK\x03\x04" + bytes(99), "is packed; unpack it first"),
    "parquet": ("day.parquet", b"PAR1" + bytes(99), r"\(.parquet\)|no CDR file"),
    "empty": ("day.txt", "", "is empty: no records"),
    "empty gz": ("day.txt.gz", gzip.compress(b""), "is empty: no records"),
}


def read(path, content, **options):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return ingest_cdr([path], TWO, **options)


@pytest.mark.parametrize("name, content, right", FILES.values(), ids=FILES)
def test_one_file(tmp_path, name, content, right):
    if isinstance(right, str):
        with pytest.raises(InputError, match=right) as caught:
            read(tmp_path / name, content)
        assert "\n" not in str(caught.value)
        assert str(tmp_path / name) in str(caught.value) or "the records run" in right or "from 2013" in right
        return
    traffic, report = read(tmp_path / name, content)
    assert np.nansum(traffic.values("internet")) == right
    assert traffic.hours[0].isoformat() == "2013-11-01T00:00:00+01:00"
    file = report.files[0]
    assert file.lines * 1.5 == right + 1.5 * sum(file.quarantined.values())  # every line is read or counted
    assert ("set aside" in report.summary()) == bool(file.quarantined)


def test_ids_beyond_the_doubles(tmp_path):
    "Two ids of 2^53 and more that are one number as doubles, beside a line without a station."
    ids = [2**53, 2**53 + 1, 2**62 + 1]
    table = pd.DataFrame({"lon": 9.19, "lat": 45.46}, index=ids)
    text = published(stations=ids) + f"\t{MIDNIGHT}\t39\t1\n"
    (tmp_path / "day.txt").write_text(text)
    traffic, report = ingest_cdr([tmp_path / "day.txt"], table)
    assert traffic.stations.index.tolist() == ids and report.files[0].quarantined == {"not 4 to 8 fields": 1}
    assert np.nansum(traffic.values("internet")) == 432 * 1.5


def test_offsets_that_change(tmp_path):
    "The night when summer time ends, with offsets: 25 hours, none ambiguous."
    hours = pd.date_range("2013-10-27", periods=25, freq="h", tz="Europe/Rome")
    text = HEADING + "".join(f"{t.isoformat()},1,39,,,,,{k + 1}\n" for k, t in enumerate(hours))
    traffic, _ = read(tmp_path / "day.csv", text)
    assert traffic.values("internet")[0].tolist() == list(range(1, 26))


ZONES = {
    "Sao Paulo, no midnight": ("America/Sao_Paulo", "2013-10-20 01:00", 23),
    "Beirut, no midnight": ("Asia/Beirut", "2013-03-31 01:00", 23),
    "Havana, two midnights": ("America/Havana", "2013-11-03 00:00", 25),
    "Sao Paulo, two last hours": ("America/Sao_Paulo", "2014-02-15 00:00", 25),
    "Kathmandu, 45 minutes": ("Asia/Kathmandu", "2013-11-01 00:00", 24),
}


@pytest.mark.parametrize("zone, start, hours", ZONES.values(), ids=ZONES)
def test_days_without_a_midnight(tmp_path, zone, start, hours):
    "A day of the clock's change is read whole, or refused in a line that names the zone."
    first = pd.Timestamp(start).tz_localize(zone, ambiguous=True).timestamp() * 1000
    first = int(-(-first // SLOT) * SLOT)
    try:
        traffic, _ = read(
            tmp_path / "day.txt", published(stations=(1,), first=first, slots=6 * hours - 1), timezone=zone
        )
    except InputError as error:
        assert zone in str(error) and "\n" not in str(error)
        return
    assert traffic.values("internet").shape == (1, hours)
    assert np.nansum(traffic.values("internet")) == 1.5 * (6 * hours - 1)


@pytest.mark.parametrize("zone, day", [("Australia/Lord_Howe", "2013-10-06"), ("America/Caracas", "2016-05-01")])
def test_offsets_that_change_by_half_an_hour(tmp_path, zone, day):
    first = int(pd.Timestamp(day, tz=zone).timestamp() * 1000)
    with pytest.raises(InputError, match=f"off the hours of {zone}"):
        read(tmp_path / "day.txt", published(first=first), timezone=zone)


def test_file_under_two_names(tmp_path):
    (tmp_path / "a.txt").write_text(GOOD)
    (tmp_path / "b.txt").symlink_to(tmp_path / "a.txt")
    os.link(tmp_path / "a.txt", tmp_path / "c.txt")
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress(GOOD.encode()))
    for other, sharded, words in (
        ("a.txt", False, "one file that was given twice"),
        ("b.txt", False, "one file that was given twice"),
        ("c.txt", True, "one file that was given twice"),
        ("d.txt.gz", True, "give each shard once"),
        ("d.txt.gz", False, "both hold 2013-11-01; give each day once.*--sharded.*sharded=True"),
    ):
        with pytest.raises(InputError, match=words):
            ingest_cdr([tmp_path / "a.txt", tmp_path / other], TWO, sharded=sharded)


def test_files_by_cell(tmp_path):
    for station in (1, 2):
        (tmp_path / f"{station}.txt").write_text(published(stations=(station,)))
    with pytest.raises(InputError, match="--sharded on the command line, sharded=True in Python"):
        ingest_cdr(find_cdr_files(tmp_path), TWO)
    traffic, _ = ingest_cdr(find_cdr_files(tmp_path), TWO, sharded=True)
    assert traffic.values("internet").sum() == TOTAL


def test_shards_of_unknown_stations(tmp_path):
    for station in (1, 77, 78):
        (tmp_path / f"{station}.txt").write_text(published(stations=(station,)))
    traffic, report = ingest_cdr(find_cdr_files(tmp_path), TWO, sharded=True, unknown_stations="skip")
    assert traffic.values("internet").sum() == TOTAL / 2
    assert "288 lines of 2 stations that the table lacks" in report.summary()


def test_advice_for_unknown_stations_names_both_doors(tmp_path):
    with pytest.raises(InputError, match="station 9 in line 1 .*--unknown-stations skip.*unknown_stations="):
        read(tmp_path / "day.txt", published(stations=("09",)))


def test_files_that_are_left_out(tmp_path):
    names = ["a.TXT", "b.csv.GZ", "c.tsv", "d.txt.bz2", "e.dat", "f.txt.zip"]
    days = pd.date_range("2013-11-01", periods=6)
    for name, day in zip(names, days):
        text = hourly(day=str(day.date())).encode()
        packed = {"GZ": gzip.compress, "bz2": bz2.compress}.get(name.split(".")[-1], bytes)(text)
        (tmp_path / name).write_bytes(packed)
    (tmp_path / "sub.txt").mkdir()
    files, left_out = find_cdr_files(tmp_path), cdr.find_left_out(tmp_path)
    assert [file.name for file in files] == names[:3] and [file.name for file in left_out] == names[3:]
    traffic, report = ingest_cdr(files, TWO, left_out=left_out)
    assert np.nansum(traffic.values("internet")) == 3 * HOURLY_TOTAL
    assert report.to_dict()["left_out"] == [str(path) for path in left_out] or report.left_out
    assert "left out:" in report.summary() and "d.txt.bz2" in report.summary() and "\n" not in report.summary()


def test_files_that_a_pattern_leaves_out(tmp_path):
    for name in ("day-1.txt", "day-2.TXT", "day-3.txt.gz", "night-1.txt", "day-4.md"):
        (tmp_path / name).write_text(GOOD)
    assert [file.name for file in find_cdr_files(tmp_path / "day-*.txt")] == ["day-1.txt"]
    left_out = [file.name for file in cdr.find_left_out(tmp_path / "day-*.txt")]
    assert left_out == ["day-2.TXT", "day-3.txt.gz", "day-4.md"]
    assert cdr.find_left_out([tmp_path / "day-1.txt"]) == []


def test_folder_of_other_files_only(tmp_path):
    (tmp_path / "day.txt.bz2").write_bytes(b"")
    with pytest.raises(InputError, match=r"no records at .*there are \['day.txt.bz2'\]"):
        find_cdr_files(tmp_path)


def test_summary_has_three_lines_at_most(tmp_path):
    text = GOOD * 1 + f"1\t{MIDNIGHT}\t39\t-1\n77\t{MIDNIGHT}\t39\t1\n"
    (tmp_path / "day.txt").write_text(text)
    _, report = ingest_cdr([tmp_path / "day.txt"], TWO, unknown_stations="skip", left_out=[tmp_path / "x.bz2"] * 5)
    lines = report.summary().splitlines()
    assert len(lines) == 3 and "1 of 290 lines, 1 of them negative" in lines[0] and "line 289" in lines[0]
    assert "1 lines of 1 stations" in lines[1] and "station 77" in lines[1] and "and 2 more" in lines[2]


def test_directory_in_place_of_a_file(tmp_path):
    (tmp_path / "day.txt").mkdir()
    with pytest.raises(InputError, match="cannot be read: Is a directory; give files of records, or the folder"):
        ingest_cdr([tmp_path / "day.txt"], TWO)


def test_lines_that_stand_in_two_shards(tmp_path):
    lines = published().splitlines(keepends=True)
    (tmp_path / "a.txt").write_text("".join(lines[:200]))
    (tmp_path / "b.txt").write_text("".join(lines[190:]))
    traffic, report = ingest_cdr(find_cdr_files(tmp_path), TWO, sharded=True)
    assert report.lines_in_two_shards == report.to_dict()["lines_in_two_shards"] == 10
    assert f"{tmp_path / 'a.txt'} and {tmp_path / 'b.txt'}" in report.example_in_two_shards
    assert "counted twice: 10 lines stand in two shards with the same values, the first: station" in report.summary()
    (tmp_path / "b.txt").write_text("".join(lines[200:]))
    _, report = ingest_cdr(find_cdr_files(tmp_path), TWO, sharded=True)
    assert report.lines_in_two_shards == 0 and report.summary() == ""
    by_country = [published(stations=(1, 2)), published(stations=(1, 2), slots=100, country=40)]
    for name, text in zip("ab", by_country):
        (tmp_path / f"{name}.txt").write_text(text)
    _, report = ingest_cdr(find_cdr_files(tmp_path), TWO, sharded=True)
    assert report.lines_in_two_shards == 0
