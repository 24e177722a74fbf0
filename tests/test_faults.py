"""`faults.csv` has one line for each input and its right answer; to add a case, add a line.

Columns: `name`, unique; `kind`, what goes wrong; `reader`, one of `READERS`; `content` of the file, with the escapes
\\n, \\t, \\r, \\xNN and @square0, @square1, ... for polygons side by side; `expected`, which is
`ok: fact=value fact=value`, or `refused: words ... words` for an `InputError` of one line that names the file and has
these words in this order, or both with ` or ` between.
"""

import csv
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from stouter.config_file import load_config
from stouter.data.cdr import ingest_cdr
from stouter.data.pois import read_counts, read_pois
from stouter.data.stations import read_grid, read_stations
from stouter.data.tabular import read_traffic
from stouter.files import InputError

TABLE = Path(__file__).with_name("faults.csv")
KINDS = ("ids", "tables", "time", "values", "places", "records", "runs", "found")  # found: by a property or by fuzzing
TWO_STATIONS = pd.DataFrame({"lon": [9.1, 9.2], "lat": [45.4, 45.5]}, pd.Index([1, 2], name="station"))


def squares(match):
    "GeoJSON of a polygon of a hundredth of a degree, the others to its west."
    west, south = 9.1 + 0.01 * int(match[1]), 45.4
    corners = [(0, 0), (0.01, 0), (0.01, 0.01), (0, 0.01), (0, 0)]
    ring = [[round(west + x, 6), round(south + y, 6)] for x, y in corners]
    return json.dumps({"type": "Polygon", "coordinates": [ring]})


def to_bytes(content):
    "The content of a file from a field of the table."
    text = re.sub(r"@square(\d)", squares, content)
    plain = {"n": b"\n", "t": b"\t", "r": b"\r", "\\": b"\\"}
    parts = re.split(r"\\(n|t|r|\\|x[0-9a-f]{2})", text)
    for position in range(1, len(parts), 2):
        escape = parts[position]
        parts[position] = bytes([int(escape[1:], 16)]) if escape[0] == "x" else plain[escape]
    return b"".join(part if isinstance(part, bytes) else part.encode() for part in parts)


def join(values):
    return "|".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in values)


def station_facts(path, read):
    table = read(path)
    facts = {name: join(table[name].tolist()) for name in ("lon", "lat", "radius_km") if name in table}
    return facts | {"ids": join(table.index), "n": len(table)}


def count_facts(path):
    table = read_counts(path, TWO_STATIONS.index)
    return {"columns": join(table), "sum": float(table.to_numpy().sum()), "ids": join(table.index)}


def traffic_facts(path):
    traffic = read_traffic(path, "Europe/Rome")
    volume = traffic.dataset["volume"].values
    return {
        "ids": join(traffic.stations.index),
        "hours": len(traffic.hours),
        "first": traffic.hours[0].isoformat(),
        "services": join(traffic.services),
        "sum": float(np.nansum(volume)),
        "missing": int(np.isnan(volume).sum()),
    }


def record_facts(path):
    traffic, report = ingest_cdr([path], TWO_STATIONS)
    totals = report.to_dict()
    return {
        "ids": join(traffic.stations.index),
        "sum": float(np.nansum(traffic.dataset["volume"].values)),
        "covered": report.hours_covered,
        "first": traffic.hours[0].isoformat(),
        "lines": totals["lines"],
        "quarantined": totals["lines_quarantined"],
    }


def poi_facts(path):
    pois = read_pois(path)
    counts = pois.category.value_counts().sort_index()
    return {"n": len(pois), "categories": join(f"{name}:{count}" for name, count in counts.items())}


class ConfigFacts:
    "Values of a configuration by dotted names."

    def __init__(self, path):
        self.config = load_config(path)

    def __getitem__(self, name):
        value = self.config
        for part in name.split("."):
            value = getattr(value, part)
        return value


READERS = {
    "stations": ("stations.csv", lambda path: station_facts(path, read_stations)),
    "grid": ("grid.geojson", lambda path: station_facts(path, read_grid)),
    "counts": ("counts.csv", count_facts),
    "traffic_csv": ("traffic.csv", traffic_facts),
    "records": ("records.txt", record_facts),
    "pois": ("pois", poi_facts),
    "yaml": ("config.yaml", ConfigFacts),
}


def write_input(folder, reader, content):
    "A file with the content; places are a table, GeoJSON or OpenStreetMap by their first letter."
    name = READERS[reader][0]
    if reader == "pois":
        name += {"<": ".osm", "{": ".geojson"}.get(content[:1], ".csv")
    path = folder / name
    path.write_bytes(to_bytes(content))
    return path


def wrong_facts(facts, words):
    "What differs from `name=value name=value`; empty if nothing does."
    for word in words.split():
        name, _, value = word.partition("=")
        found = facts[name]
        is_equal = found == pytest.approx(float(value)) if isinstance(found, float) else str(found) == value
        if not is_equal:
            return f"{name} is {found}, expected {value}"
    return ""


def wrong_words(message, words):
    "A message without `words ... words`; empty if it has them."
    is_match = re.search(".*".join(re.escape(part) for part in words.split(" ... ")), message)
    return "" if is_match else f"{message!r} does not say {words!r}"


def check_row(folder, row):
    "Read the content of a row and compare with what is expected."
    path = write_input(folder, row["reader"], row["content"])
    answers = [re.split(": ?", part, maxsplit=1) for part in re.split(" or (?=ok:|refused:)", row["expected"])]
    assert {answer for answer, _ in answers} <= {"ok", "refused"}, row["expected"]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            found, facts = "ok", READERS[row["reader"]][1](path)
        except InputError as error:
            found, facts = "refused", str(error)
            assert "\n" not in facts and path.name in facts, f"no message of one line that names the file: {facts}"
    same = [words for answer, words in answers if answer == found]
    assert same, f"{found}, expected {row['expected']}: {facts}"
    faults = [wrong_facts(facts, words) if found == "ok" else wrong_words(facts, words) for words in same]
    assert "" in faults, " and ".join(faults)
    assert not warned, [str(warning.message) for warning in warned]


def rows():
    with open(TABLE, encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    return [pytest.param(row, id=row["name"]) for row in table]


@pytest.mark.parametrize("row", rows())
def test_input_has_its_right_answer(row, tmp_path):
    check_row(tmp_path, row)


def test_the_table_is_well_formed():
    table = [param.values[0] for param in rows()]
    names = [row["name"] for row in table]
    assert len(names) == len(set(names)) >= 60, "at least 60 rows, each with a name of its own"
    assert {row["kind"] for row in table} == set(KINDS) and {row["reader"] for row in table} == set(READERS)
    assert all(None not in row and None not in row.values() for row in table), "every row has five fields"


def test_two_hundred_rounds_of_fuzzing(tmp_path):
    "The inputs of failures are in the folder that the message names; `make fuzz` tries 10,000."
    command = [sys.executable, "tools/fuzz.py", "--rounds", "200", "--seed", "2", "--out", str(tmp_path / "failures")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
