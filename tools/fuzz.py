"""Mutate good files and read them: a reader returns, or raises `InputError` or `FileNotFoundError` with one line.

    python tools/fuzz.py --rounds 10000 --seed 0 --out fuzz_failures

Anything else is a failure: another exception, a message of several lines, a Python warning, output on stderr, an id
that the file does not have, or a round that takes longer than `MAX_SECONDS`. The smallest input of each failure is
written to the folder `--out`, with a text that names the exception. The same seed and round give the same file.
"""

import argparse
import io
import json
import logging
import os
import random
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from stouter.config_file import experiments_folder, load_config
from stouter.data.cdr import ingest_cdr
from stouter.data.pois import read_counts, read_pois
from stouter.data.stations import read_grid, read_stations
from stouter.data.tabular import read_traffic
from stouter.data.traffic import Traffic
from stouter.files import InputError
from stouter.pipeline.traffic_tables import read_traffic_table

MAX_SECONDS = 20  # of one round
N_SHRINK = 150  # readings at most to make a failing input smaller
STATIONS = pd.DataFrame({"lon": [9.1, 9.2], "lat": [45.4, 45.5]}, pd.Index([1, 2], name="station"))
TOKENS = (
    "-1 nan NaN NA null None inf -inf 1e400 1e39 9999999999999999999999 0x1F 1_000 1,234 -0 007 4E2 true 0.1 "
    "1970-01-01 9999-12-31 2013-02-30 2013-10-27T02:00 24:00 é \ufeff \x00 \" ' [ ] { } : , ; \t & * ! < > #"
).split(" ") + ["", " ", "\n", "\r", "a" * 3000, "[" * 500]


def square(number):
    "GeoJSON feature of a polygon of a hundredth of a degree."
    west, south = 9.1 + 0.01 * number, 45.4
    corners = [(0, 0), (0.01, 0), (0.01, 0.01), (0, 0.01), (0, 0)]
    ring = [[round(west + x, 6), round(south + y, 6)] for x, y in corners]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "properties": {"cellId": number + 1}, "geometry": geometry}


def good_grid():
    return json.dumps({"type": "FeatureCollection", "features": [square(0), square(1)]}, indent=0).encode()


def good_places():
    places = [({"amenity": "cafe"}, 9.105), ({"category": "Food"}, 9.106), ({"shop": "bakery"}, 9.115)]
    features = [
        {"type": "Feature", "properties": tags, "geometry": {"type": "Point", "coordinates": [lon, 45.405]}}
        for tags, lon in places
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}, indent=0).encode()


def good_records():
    "Two stations in six hours, more than a hundred lines, so that one bad line is set aside."
    lines = []
    for station in (1, 2):
        for slot in range(60):
            time = 1383260400000 + 600_000 * slot
            lines.append(f"{station}\t{time}\t39\t0.5\t1\t2\t0.25\t{slot}")
    return ("\n".join(lines) + "\n").encode()


def good_header_records():
    lines = ["CellID,datetime,countrycode,smsin,smsout,callin,callout,internet"]
    for station in (1, 2):
        lines += [f"{station},2013-11-01 {hour:02}:00:00,39,1,2,,4,5" for hour in range(24)]
    return ("\n".join(lines) + "\n").encode()


def good_osm():
    return b"""<?xml version="1.0" encoding="UTF-8"?>
<osm version="0.6" generator="test">
<node id="1" version="1" lat="45.405" lon="9.105"><tag k="amenity" v="cafe"/></node>
<node id="10" lat="45.4" lon="9.1"/>
<node id="11" lat="45.4" lon="9.11"/>
<node id="12" lat="45.41" lon="9.11"/>
<node id="13" lat="45.41" lon="9.1"/>
<way id="5"><nd ref="10"/><nd ref="11"/><nd ref="12"/><nd ref="10"/><tag k="shop" v="bakery"/></way>
<way id="6"><nd ref="10"/><nd ref="11"/><nd ref="12"/></way>
<way id="7"><nd ref="12"/><nd ref="13"/><nd ref="10"/></way>
<relation id="8">
<member type="way" ref="6" role="outer"/>
<member type="way" ref="7" role="outer"/>
<tag k="type" v="multipolygon"/>
<tag k="amenity" v="school"/>
</relation>
</osm>
"""


def good_traffic():
    lines = ["station,time,service,value,lon,lat"]
    for station in ("A1", "B2"):
        lines += [f"{station},2013-10-27T{hour:02}:00:00+00:00,net,{hour}.5,9.1,45.4" for hour in range(24)]
    return ("\n".join(lines) + "\n").encode()


def good_npz():
    archive = io.BytesIO()
    np.savez(
        archive,
        values=np.arange(48.0).reshape(2, 24),
        stations=np.array([1, 2]),
        start="2013-11-01 00:00",
        zone="Europe/Rome",
        service="sms",
    )
    return archive.getvalue()


def good_yaml():
    return (experiments_folder() / "params" / "tiny.yaml").read_bytes()


CASES = {  # name -> file name, good content, reader
    "records": ("records.txt", good_records, lambda path: ingest_cdr([path], STATIONS)),
    "header": ("records.csv", good_header_records, lambda path: ingest_cdr([path], STATIONS)),
    "grid": ("grid.geojson", good_grid, read_grid),
    "places": ("places.geojson", good_places, read_pois),
    "place_table": ("places.csv", lambda: b"lon,lat,category\n9.1,45.4,Food\n9.2,45.5,Shop\n", read_pois),
    "osm": ("places.osm", good_osm, read_pois),
    "stations": ("stations.csv", lambda: b"id,lon,lat,radius_km\n101,9.1,45.4,0.5\n102,9.2,45.5,1\n", read_stations),
    "counts": ("counts.csv", lambda: b"id,shops,cafes\n1,3,4\n2,5,6\n", lambda path: read_counts(path, STATIONS.index)),
    "traffic": ("traffic.csv", good_traffic, lambda path: read_traffic(path, "Europe/Rome")),
    "npz": ("traffic.npz", good_npz, read_traffic_table),
    "yaml": ("config.yaml", good_yaml, load_config),
}


def mutate_bytes(content, rng):
    "One byte changed, removed or doubled, a piece cut out, or the end cut off."
    place = rng.randrange(len(content) + 1)
    end = min(len(content), place + rng.choice([1, 1, 2, 8, 64]))
    new = rng.choice([b"", bytes([rng.randrange(256)]), 2 * content[place:end], rng.choice(TOKENS).encode()])
    return content[:place] if rng.random() < 0.05 else content[:place] + new + content[end:]


def mutate_lines(content, rng):
    "A line removed, doubled, moved or left empty."
    lines = content.splitlines(keepends=True) or [b""]
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.choice(["remove", "double", "swap", "blank"])
    if kind == "swap":
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines[at : at + 1] = {"remove": [], "double": [lines[at]] * 2, "blank": [b"\n", lines[at]]}[kind]
    return b"".join(lines)


def mutate_field(content, rng):
    "A word or number replaced by another one of the file, or by a token that readers get wrong."
    separators = b",;\t\n\"'<>=:{}[] "
    starts = [0] + [i + 1 for i, byte in enumerate(content) if byte in separators]
    start = rng.choice(starts)
    end = next((i for i in range(start, len(content)) if content[i] in separators), len(content))
    other = rng.choice(starts)
    other_end = next((i for i in range(other, len(content)) if content[i] in separators), len(content))
    new = content[other:other_end] if rng.random() < 0.2 else rng.choice(TOKENS).encode()
    return content[:start] + new + content[end:]


def mutate(content, rng):
    "One to four mutations."
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        content = rng.choice([mutate_bytes, mutate_lines, mutate_field, mutate_field])(content, rng)
    return content


class TooSlow(BaseException):
    "Raised by the alarm; not an `Exception`, so that no reader catches it."


def raise_too_slow(*_):
    raise TooSlow(f"longer than {MAX_SECONDS} seconds")


def last_place(error):
    "Innermost line of the package in a traceback, which tells failures apart."
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/stouter/" in frame.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "outside"


def failure_of(name, content, folder):
    "Read the content; one line about what is wrong with the outcome, empty if nothing is."
    (file_name, _, reader), result = CASES[name], None
    path = folder / file_name
    path.write_bytes(content)
    signal.alarm(MAX_SECONDS)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            result = reader(path)
    except (InputError, FileNotFoundError) as error:
        if "\n" in str(error) or not str(error):
            return f"{type(error).__name__} of several lines at {last_place(error)}"
    except (Exception, TooSlow) as error:
        return f"{type(error).__name__} at {last_place(error)}: {' '.join(str(error).split())[:100]}"
    finally:
        signal.alarm(0)
    if (new_id := unknown_id(result, content)) is not None:
        return f"an id that the file does not have: {new_id!r}"
    return f"{warned[0].category.__name__}: {str(warned[0].message)[:100]}" if warned else ""


def unknown_id(result, content):
    "An id of stations that were read that is not in the content as text; None if there is none."
    stations = result.stations if isinstance(result, Traffic) else result
    if not isinstance(stations, pd.DataFrame) or stations.index.name != "station":
        return None
    text = content.decode("utf-8", "replace")
    return next((name for name in stations.index.astype(str) if name not in text), None)


def kind_of(failure):
    "What two failures of one cause have in common."
    return failure.split(": ")[0]


def shrink(name, content, failure, folder):
    "Remove lines, then bytes, as long as the failure stays; at most `N_SHRINK` readings."
    left = N_SHRINK
    for split in (
        lambda text: text.splitlines(keepends=True),
        lambda text: [text[i : i + 1] for i in range(len(text))],
    ):
        parts = split(content)
        size = len(parts) // 2
        while size and left:
            start = 0
            while start < len(parts) and left:
                rest = parts[:start] + parts[start + size :]
                left -= 1
                if kind_of(failure_of(name, b"".join(rest), folder)) == kind_of(failure):
                    parts = rest
                else:
                    start += size
            size //= 2
        content = b"".join(parts)
    return content


class Stderr:
    "What is written to stderr by anything in this process, libraries in C too."

    def __enter__(self):
        sys.stderr.flush()
        self.file, self.saved = tempfile.TemporaryFile(), os.dup(2)
        os.dup2(self.file.fileno(), 2)
        return self

    def read(self):
        sys.stderr.flush()
        self.file.seek(0)
        text = self.file.read()
        self.file.seek(0)
        self.file.truncate()
        return text.decode("utf-8", "replace").strip()

    def __exit__(self, *_):
        os.dup2(self.saved, 2)
        os.close(self.saved)
        self.file.close()


def fuzz(n_rounds, seed, out, names=tuple(CASES)):
    "Run the rounds; failure -> (name, round, smallest content). Inputs of failures are written to `out`."
    signal.signal(signal.SIGALRM, raise_too_slow)
    logging.getLogger("stouter").addHandler(logging.NullHandler())  # what was left out is logged, which is no failure
    logging.getLogger("stouter").propagate = False
    goods = {name: CASES[name][1]() for name in names}
    failures = {}
    with tempfile.TemporaryDirectory() as folder, Stderr() as stderr:
        folder = Path(folder)
        for number in range(n_rounds):
            name = names[number % len(names)]
            content = mutate(goods[name], random.Random(f"{seed} {number}"))
            failure = failure_of(name, content, folder)
            if (said := stderr.read()) and not failure:
                failure = f"stderr: {said[:100]}"
            key = name, kind_of(failure)
            if failure and key not in failures:
                content = shrink(name, content, failure, folder)
                stderr.read()
                failures[key] = failure, number, content
                write_failure(Path(out), len(failures), name, failures[key])
    return failures


def write_failure(out, index, name, found):
    "The input and what happened, in two files."
    failure, number, content = found
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{index:03}_{CASES[name][0]}").write_bytes(content)
    (out / f"{index:03}_{CASES[name][0]}.why").write_text(f"{name}, round {number}: {failure}\n")


def main():
    parser = argparse.ArgumentParser(description="Mutate good files and read them.")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("fuzz_failures"), help="folder of the inputs that fail")
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES), help="kinds of files")
    options = parser.parse_args()
    failures = fuzz(options.rounds, options.seed, options.out, tuple(options.only))
    for (name, _), (failure, number, content) in failures.items():
        print(f"{name}, round {number}: {failure}; {len(content)} bytes: {content[:80]!r}")
    print(f"{options.rounds} rounds, {len(failures)} failures" + (f" in {options.out}" if failures else ""))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
