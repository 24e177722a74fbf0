"Bad raw records: each is refused with words that help, or set aside and counted."

import gzip
import os

import numpy as np
import pandas as pd
import pytest

from stouter.data.cdr import find_cdr_files, ingest_cdr
from stouter.data.cdr_format import zstd
from stouter.files import InputError

MIDNIGHT, SLOT = 1383260400000, 600_000  # 2013-11-01 00:00 in Milan, ten minutes
STATIONS = pd.DataFrame({"lon": [9.19, 9.20], "lat": [45.46, 45.47]}, index=[1, 2])
LINES = [f"{s}\t{MIDNIGHT + SLOT * t}\t39\t0.25\t\t\t\t1.5" for s in (1, 2) for t in range(144)]  # one day, 288 lines
GOOD = "\n".join(LINES) + "\n"
HEADING = "datetime,CellID,countrycode,smsin,smsout,callin,callout,internet\n"
HOURLY = [
    f"2013-11-01 {h:02}:00:00,{s},39,0.25,,,,1.5" for h in range(24) for s in range(1, 11)
]  # ten squares, 240 lines
TEN = pd.DataFrame({"lon": 9.19, "lat": 45.46}, index=range(1, 11))


def hourly(text=None, n=1, heading=HEADING, lines=HOURLY):
    "The hourly copy of a good day, `n` of its lines replaced by `text`."
    return (
        heading
        + "\n".join([*lines[:7], *([text] * n if text is not None else lines[7 : 7 + n]), *lines[7 + n :]])
        + "\n"
    )


def spoil(text, n=1):
    "The good day with `n` of its lines replaced by `text`."
    return "\n".join([*LINES[:7], *[text] * n, *LINES[7 + n :]]) + "\n"


def ingest(folder, content, name="day.txt", stations=STATIONS):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return ingest_cdr([path], stations)


REFUSED = {
    "empty": ("day.txt", b"", "is empty"),
    "empty gz": ("day.txt.gz", gzip.compress(b""), "is empty"),
    "zero bytes gz": ("day.txt.gz", b"", "is empty"),
    "blank lines only": ("day.txt", b"\n\r\n\n", "no records"),
    "header and nothing": ("day.csv", HEADING.encode(), "no CDR file: it begins .*datetime"),
    "bars": (
        "day.csv",
        hourly().replace(",", "|").encode(),
        "no CDR file: it begins .*datetime.CellID.*commas or semicolons",
    ),
    "header lacks a column": ("day.csv", hourly().replace("internet", "data").encode(), "no CDR file"),
    "header says a column twice": ("day.csv", hourly().replace("smsout", "smsin").encode(), "no CDR file"),
    "commas without header": ("day.csv", hourly(heading="").encode(), "no CDR file.*or a header"),
    "day before month": ("day.csv", hourly().replace("2013-11-01", "01/11/2013").encode(), "no CDR file"),
    "text times with the name of a zone": (
        "day.csv",
        hourly().replace(":00:00,", ":00:00 CET,").encode(),
        "no CDR file",
    ),
    "text times of another zone's clock": (
        "day.csv",
        hourly().replace("2013-11-01", "2014-03-30").encode(),
        "10 of 240 lines.*skipped or repeated by the clock.*'2014-03-30 02:00",
    ),
    "clock set back": (
        "day.csv",
        hourly().replace("2013-11-01", "2013-10-27").encode(),
        "10 of 240 lines.*skipped or repeated by the clock",
    ),
    "decimal commas in a comma file": (
        "day.csv",
        hourly().replace("0.25", "0,25").replace("1.5", "1,5").encode(),
        "no CDR file|cannot be used",
    ),
    "truncated zst": ("day.txt.zst", zstd.compress(GOOD.encode())[:-10], "no whole zstd file"),
    "damaged zst": (
        "day.txt.zst",
        zstd.compress(GOOD.encode(), options={zstd.CompressionParameter.checksum_flag: 1})[:-1] + b"?",
        "no whole zstd file",
    ),
    "zero bytes zst": ("day.txt.zst", b"", "is empty"),
    "plain named zst": ("day.txt.zst", GOOD.encode(), "no whole zstd file"),
    "zst named plain": ("day.txt", zstd.compress(GOOD.encode()), r"name it day\.txt\.zst"),
    "bomb of blank lines": ("day.txt.gz", gzip.compress(b"\n" * 30_000_000), "no records"),
    "bomb behind good lines": (
        "day.txt.gz",
        gzip.compress(GOOD.encode() + b"\n" * 30_000_000),
        "unpacks to more than 200 times",
    ),
    "one line without end": ("day.txt.gz", gzip.compress(b"1" * 10_000_000), "no CDR file: it begins|unpacks to more"),
    "header only": ("day.txt", b"CellID\tdatetime\tcountrycode\tsmsin\n", "no CDR file: it begins .*CellID"),
    "PDF": (
        "day.txt",
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\n" + bytes(range(256)) * 40,
        "no CDR file: it begins .*%PDF",
    ),
    "zeros": ("day.txt", bytes(100_000), "no CDR file"),
    "JSON": ("day.txt", b'{"status": "ERROR", "message": "not found"}', "no CDR file"),
    "HTML": ("day.txt", b"<!DOCTYPE html>\n<html><body>503 Service Unavailable</body></html>", "no CDR file.*DOCTYPE"),
    "commas": ("day.txt", GOOD.replace("\t", ",").encode(), "no CDR file.*tabs between"),
    "UTF-16": ("day.txt", GOOD.encode("utf-16"), "no CDR file"),
    "seconds": ("day.txt", GOOD.replace("00000\t39", "00\t39").encode(), "no CDR file.*UTC, ms"),
    "truncated gz": ("day.txt.gz", gzip.compress(GOOD.encode())[:-30], "no whole gzip file"),
    "damaged gz": ("day.txt.gz", gzip.compress(GOOD.encode())[:-8] + b"\0" * 8, "no whole gzip file: CRC"),
    "plain named gz": ("day.txt.gz", GOOD.encode(), "no whole gzip file"),
    "gz named plain": ("day.txt", gzip.compress(GOOD.encode()), r"name it day\.txt\.gz"),
    "letters above 1 %": (
        "day.txt",
        spoil("1\tyesterday\t39\t1", 5).encode(),
        r"5 of 288 lines.*not a number.*line 8 reads '1\\tyesterday.*expected 4 to 8",
    ),
    "short above 1 %": ("day.txt", spoil("1\t1383260400000", 5).encode(), "5 of 288 lines.*not 4 to 8 fields"),
    "negative above 1 %": (
        "day.txt",
        spoil(LINES[7].replace("0.25", "-0.25"), 5).encode(),
        "5 of 288 lines.*negative.*line 8 ",
    ),
    "unknown cell": (
        "day.txt",
        spoil(f"77\t{MIDNIGHT}\t39\t1").encode(),
        "station 77 in line 8 is not among the 2 stations",
    ),
    "two periods": ("day.txt", f"1\t{MIDNIGHT}\t39\t1\n1\t{MIDNIGHT * 2}\t39\t1\n".encode(), "from 2013-11-01 to 2057"),
}


@pytest.mark.parametrize("name, content, words", REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path, name, content, words):
    with pytest.raises(InputError, match=words) as caught:
        ingest(tmp_path, content, name, TEN if name == "day.csv" else STATIONS)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value) or "from 2013" in words  # that one is about all files


QUARANTINED = {
    "letters": ("1\t1383260400000\tItaly\t1", "not a number"),
    "letters in the last field": (LINES[7] + "x", "not a number"),
    "decimal comma": (LINES[7].replace("0.25", "0,25"), "not a number"),
    "quoted": (LINES[7].replace("0.25", '"0.25"'), "not a number"),
    "open quote": (LINES[7].replace("0.25", '"0.25'), "not a number"),
    "one field": ("1", "not 4 to 8 fields"),
    "three fields": ("1\t1383260400000\t39", "not 4 to 8 fields"),
    "no station": ("\t1383260400000\t39\t1", "not 4 to 8 fields"),
    "nine fields": (LINES[7] + "\t9", "not 4 to 8 fields"),
    "no activity": ("1\t1383260400000\t39\t\t\t\t\t", "not 4 to 8 fields"),
    "negative": (LINES[7].replace("0.25", "-0.25"), "negative"),
    "negative country": (LINES[7].replace("39", "-39"), "negative"),
    "NaN": (LINES[7].replace("0.25", "NaN"), "not finite"),
    "inf": (LINES[7].replace("0.25", "inf"), "not finite"),
    "minus infinity": (LINES[7].replace("0.25", "-Infinity"), "negative"),
    "1e308": (LINES[7].replace("0.25", "1e308"), "not finite"),
    "off grid": (LINES[7].replace("00000\t", "00001\t"), "time off the 10-minute grid"),
    "1970": ("1\t0\t39\t1", "time out of range"),
    "before 1970": ("1\t-600000\t39\t1", "time out of range"),
    "9999": ("1\t253370764800000\t39\t1", "time out of range"),
    "a line of five million signs": ("1" * 5_000_000, "not a number"),
    "a digit slipped": (LINES[7].replace("1383", "1893"), "stray day"),
    "the next year": (f"1\t{MIDNIGHT + 365 * 144 * SLOT}\t39\t1", "stray day"),
}


@pytest.mark.parametrize("line, fault", QUARANTINED.values(), ids=QUARANTINED)
@pytest.mark.parametrize("name", ["day.txt", "day.txt.gz", "day.txt.zst"])
def test_quarantined(tmp_path, name, line, fault):
    text = spoil(line).encode()
    pack = {".gz": gzip.compress, ".zst": zstd.compress}.get(name[-4:].lstrip("t"), bytes)
    traffic, report = ingest(tmp_path, pack(text), name)
    file = report.files[0]
    assert file.quarantined == {fault: 1} and file.lines == 288
    assert file.examples[fault] == (8, line[:80])
    assert report.to_dict()["lines_quarantined"] == report.to_frame()[fault].sum() == 1
    assert traffic.values("internet").shape == (2, 24)
    assert np.isclose(np.nansum(traffic.values("internet")), 287 * 1.5)  # the other lines are all there


def test_quarantined_bytes_that_are_no_text(tmp_path):
    _, report = ingest(tmp_path, GOOD.encode().replace(b"0.25", b"0.2\xe9", 1))
    assert report.files[0].quarantined == {"not a number": 1}
    assert report.files[0].examples["not a number"][0] == 1


QUARANTINED_HOURLY = {
    "letters": ("2013-11-01 00:00:00,1,Italy,1,,,,", "not a number"),
    "no such day": ("2013-11-31 00:00:00,1,39,1,,,,", "not a number"),
    "T between": ("2013-11-01T00:00:00,1,39,1,,,,", "not a number"),
    "quoted": ('"2013-11-01 00:00:00",1,39,1,,,,', "not a number"),
    "off grid": ("2013-11-01 00:00:30,1,39,1,,,,", "time off the 10-minute grid"),
    "before 2000": ("1970-01-01 00:00:00,1,39,1,,,,", "time out of range"),
    "another year": ("2016-11-01 00:00:00,1,39,1,,,,", "stray day"),
    "skipped hour": ("2013-03-31 02:00:00,1,39,1,,,,", "hour skipped or repeated by the clock"),
    "negative": ("2013-11-01 00:00:00,1,39,-1,,,,", "negative"),
    "1e308": ("2013-11-01 00:00:00,1,39,1e308,,,,", "not finite"),
    "no activity": ("2013-11-01 00:00:00,1,39,,,,,", "not 4 to 8 fields"),
    "nine fields": ("2013-11-01 00:00:00,1,39,1,,,,1,9", "not 4 to 8 fields"),
    "header again": (HEADING.strip(), "not a number"),
}


@pytest.mark.parametrize("line, fault", QUARANTINED_HOURLY.values(), ids=QUARANTINED_HOURLY)
def test_quarantined_in_the_hourly_copy(tmp_path, line, fault):
    traffic, report = ingest(tmp_path, hourly(line), "day.csv", TEN)
    file = report.files[0]
    assert file.quarantined == {fault: 1} and file.lines == 240
    assert file.examples[fault] == (9, line[:80])  # the header is line 1
    assert np.isclose(np.nansum(traffic.values("internet")), 239 * 1.5)


def test_quarantined_header_of_other_names(tmp_path):
    _, report = ingest(tmp_path, "a\tb\tc\td\te\tf\tg\th\n" + GOOD)
    assert report.files[0].quarantined == {"not a number": 1}
    assert report.files[0].examples["not a number"][0] == 1


SAME = {
    "CRLF": GOOD.replace("\n", "\r\n").encode(),
    "mixed line ends": GOOD.replace("\n", "\r\n", 100).encode(),
    "BOM": b"\xef\xbb\xbf" + GOOD.encode(),
    "blank lines": ("\n" + GOOD.replace("\n", "\n\n", 20)).encode(),
    "no last line end": GOOD.rstrip("\n").encode(),
    "two gzip members": gzip.compress(GOOD[: GOOD.index("\n2\t") + 1].encode())
    + gzip.compress(GOOD[GOOD.index("\n2\t") + 1 :].encode()),
    "one more tab": GOOD.replace("\n", "\t\n").encode(),
    "header with tabs": ("CellID\tdatetime\tcountrycode\tsmsin\tsmsout\tcallin\tcallout\tinternet\n" + GOOD).encode(),
    "header with commas": (
        "GridID,TimeInterval,countrycode,smsin,smsout,callin,callout,internet\n" + GOOD.replace("\t", ",")
    ).encode(),
    "columns in another order": (
        "time_interval,country code,Square ID,internet,callout,callin,smsout,smsin\n"
        + "".join(",".join([f[1], f[2], f[0], *f[:2:-1]]) + "\n" for f in (line.split("\t") for line in LINES))
    ).encode(),
    "zstd": zstd.compress(GOOD.encode()),
    "two zstd frames": zstd.compress(GOOD[: GOOD.index("\n2\t") + 1].encode())
    + zstd.compress(GOOD[GOOD.index("\n2\t") + 1 :].encode()),
}
MAGIC = {b"\x1f\x8b": "day.txt.gz", b"\x28\xb5": "day.txt.zst"}


SAME_HOURLY = {
    "CRLF": hourly().replace("\n", "\r\n").encode(),
    "BOM": b"\xef\xbb\xbf" + hourly().encode(),
    "text times with an offset": hourly().replace(":00:00,", ":00:00+01:00,").encode(),
    "semicolons": hourly().replace(",", ";").encode(),
    "quoted header": hourly(
        heading='"datetime","CellID","countrycode","smsin","smsout","callin","callout","internet"\n'
    ).encode(),
    "blank lines before the header": ("\n\n" + hourly()).encode(),
    "shuffled": hourly(lines=HOURLY[::-1]).encode(),
}


@pytest.mark.parametrize("content", SAME_HOURLY.values(), ids=SAME_HOURLY)
def test_same_traffic_from_the_hourly_copy(tmp_path, content):
    traffic, report = ingest(tmp_path, content, "day.csv", TEN)
    assert report.files[0].lines == 240 and not report.files[0].quarantined
    assert traffic.values("internet").shape == (10, 24) and (traffic.values("internet") == 1.5).all()
    assert traffic.hours[0].isoformat() == "2013-11-01T00:00:00+01:00"


@pytest.mark.parametrize("content", SAME.values(), ids=SAME)
def test_same_traffic(tmp_path, content):
    expected, _ = ingest(tmp_path, GOOD, "plain.txt")
    traffic, report = ingest(tmp_path, content, MAGIC.get(content[:2], "day.txt"))
    assert report.files[0].lines == 288 and not report.files[0].quarantined
    assert traffic.dataset.identical(expected.dataset)


def test_trailing_tabs_stripped(tmp_path):
    full = GOOD.replace("\t1.5\n", "\t\n")
    expected, _ = ingest(tmp_path, full, "full.txt")
    stripped, report = ingest(tmp_path, "".join(line.rstrip("\t") + "\n" for line in full.splitlines()))
    assert stripped.dataset.identical(expected.dataset) and not report.files[0].quarantined
    assert np.isnan(stripped.values("internet")).all()


@pytest.mark.parametrize("name", ["o'clock.txt", "day [1].txt", "a*b?.txt", "käse tag.txt", "day.dat"])
def test_any_file_name(tmp_path, name):
    traffic, _ = ingest(tmp_path, GOOD, name)
    assert np.isclose(traffic.values("internet").sum(), 288 * 1.5)


def test_same_day_twice(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(GOOD)
    with pytest.raises(InputError, match=r"b\.txt and .*a\.txt both hold 2013-11-01"):
        ingest_cdr(find_cdr_files(tmp_path), STATIONS)


def test_same_file_twice_and_a_copy_among_shards(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(GOOD)
    with pytest.raises(InputError, match=r"a\.txt and .*a\.txt both hold 2013-11-01"):
        ingest_cdr([tmp_path / "a.txt", tmp_path / "a.txt"], STATIONS)
    with pytest.raises(InputError, match=r"b\.txt and .*a\.txt both hold 2013-11-01; give each shard once"):
        ingest_cdr(find_cdr_files(tmp_path), STATIONS, sharded=True)


def test_overlapping_days(tmp_path):
    shifted = "".join(f"{s}\t{MIDNIGHT + SLOT * t}\t39\t1\n" for s in (1, 2) for t in range(138, 282))
    (tmp_path / "first.txt").write_text(GOOD)
    (tmp_path / "second.txt").write_text(shifted)
    with pytest.raises(InputError, match=r"second\.txt and .*first\.txt both hold 2013-11-01"):
        ingest_cdr(find_cdr_files(tmp_path), STATIONS)


def test_two_days_in_one_file(tmp_path):
    both = GOOD + "".join(f"{s}\t{MIDNIGHT + SLOT * (144 + t)}\t39\t1\n" for s in (1, 2) for t in range(144))
    traffic, report = ingest(tmp_path, both)
    assert report.hours_covered == 48 and not report.files[0].quarantined
    assert np.isfinite(traffic.values("sms_in")).all()


def test_unknown_cells_counted_when_asked(tmp_path):
    (tmp_path / "day.txt").write_text(spoil(f"77\t{MIDNIGHT}\t39\t1"))
    traffic, report = ingest_cdr([tmp_path / "day.txt"], STATIONS, unknown_stations="skip")
    assert (
        report.files[0].unknown_stations == {77: 1}
        and report.to_dict()["lines_of_unknown_stations"] == report.to_frame().lines_of_unknown_stations.sum() == 1
    )
    assert np.isclose(np.nansum(traffic.values("internet")), 287 * 1.5)


def test_duplicate_cells_in_the_table(tmp_path):
    (tmp_path / "day.txt").write_text(GOOD)
    with pytest.raises(InputError, match="station 1 stands twice"):
        ingest_cdr([tmp_path / "day.txt"], STATIONS.set_axis([1, 1]))


def test_day_of_25_hours_in_another_zone(tmp_path):
    start = 1383451200000  # 3 November 2013, 00:00 in New York, where summer ends
    lines = "".join(f"1\t{start + SLOT * t}\t1\t1\n" for t in range(150))
    (tmp_path / "day.txt").write_text(lines)
    traffic, report = ingest_cdr([tmp_path / "day.txt"], STATIONS, timezone="America/New_York")
    assert traffic.values("sms_in").tolist() == [[6.0] * 25] and report.hours_covered == report.hours == 25


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"no records at .*absent\.txt"):
        find_cdr_files(tmp_path / "absent.txt")
    with pytest.raises(InputError, match=r"absent\.txt cannot be read: No such file"):
        ingest_cdr([tmp_path / "absent.txt"], STATIONS)


def test_folder_without_files(tmp_path):
    (tmp_path / "notes.md").write_text("nothing")
    (tmp_path / ".hidden.txt").write_text(GOOD)
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(InputError, match="no records at"):
        find_cdr_files(tmp_path)


def test_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        ingest_cdr([tmp_path], STATIONS)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(tmp_path):
    path = tmp_path / "day.txt"
    path.write_text(GOOD)
    path.chmod(0)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        ingest_cdr([path], STATIONS)


@pytest.mark.parametrize(
    "files, stations, words",
    [
        ([], STATIONS, "got 0 files"),
        (["day.txt"], STATIONS.set_axis(["a", "b"]), "whole numbers as ids"),
        (["day.txt"], STATIONS.drop(columns="lon"), "'lon'"),
        (["day.txt"], STATIONS.assign(lat=[45.46, 4547]), "lat of station 2"),
    ],
)
def test_wrong_arguments(tmp_path, files, stations, words):
    (tmp_path / "day.txt").write_text(GOOD)
    with pytest.raises(InputError, match=words):
        ingest_cdr([tmp_path / name for name in files], stations)


def test_unknown_zone(tmp_path):
    (tmp_path / "day.txt").write_text(GOOD)
    with pytest.raises(InputError, match="unknown time zone 'Europe/Milan'"):
        ingest_cdr([tmp_path / "day.txt"], STATIONS, timezone="Europe/Milan")
