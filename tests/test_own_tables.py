"From an operator's table and a map to a run, by the command line; what is said where there are no places of interest."

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import stouter

from stouter.config import NetCDFSource
from stouter.data.map_download import download_area
from stouter.data.pois import read_pois
from stouter.data.requests import RetryPolicy
from stouter.data.traffic import open_traffic
from stouter.files import InputError
from stouter.pipeline.sources import describe_positions, open_saved

QUICK = RetryPolicy(tries=3, backoff=0.01, timeout=1)
STATIONS = pd.DataFrame({"lon": 9.17 + 0.008 * np.arange(6), "lat": 45.46})


class Overpass(BaseHTTPRequestHandler):
    "Plays Overpass: a café at every station; its faults are used up one by one."

    def do_GET(self):
        query = parse_qs(urlsplit(self.path).query)["data"][0]
        self.server.log.append(query)
        s, w, n, e = map(float, query.split("bbox:")[1].split("]")[0].split(","))
        inside = STATIONS[STATIONS.lon.between(w, e) & STATIONS.lat.between(s, n)]
        tag = '<tag k="amenity" v="cafe"/>'
        objects = "".join(
            f'<way id="{k}"><center lat="{row.lat}" lon="{row.lon}"/>{tag}</way>' for k, row in inside.iterrows()
        )
        body = f'<osm version="0.6"><note>ODbL</note><meta osm_base="2026-01-31T00:00:00Z"/>{objects}</osm>'.encode()
        fault = self.server.faults.pop(0) if self.server.faults else None
        if isinstance(fault, int):
            return self.reply(fault, b"<html>")
        self.reply(200, fault(body) if fault else body, length=len(body) if fault is cut else None)

    def reply(self, status, body, length=None):
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *words):
        pass


def cut(body):
    return body[: len(body) // 2]


def out_of_time(body):
    return b'<osm version="0.6"><remark>runtime error: Query timed out in "query"</remark></osm>'


@pytest.fixture
def overpass():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Overpass)
    server.faults, server.log = [], []
    server.base = f"http://127.0.0.1:{server.server_port}/api/interpreter"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


FAULTS = {
    "busy": [429, 429],
    "gateway": [504, 502],
    "cut": [cut, cut],
    "out of time": [out_of_time],
    "busy, in the second tile": [None, 429],
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_overpass_recovers(overpass, tmp_path, faults):
    overpass.faults[:] = faults
    note = download_area(STATIONS, tmp_path / "pois.osm", overpass.base, tile_km=3, retry=QUICK)
    assert overpass.faults == [] and len(set(overpass.log)) == len(overpass.log) - sum(f is not None for f in faults)
    pois = read_pois(tmp_path / "pois.osm")
    assert len(pois) == note["objects"] == len(STATIONS) and set(pois.category) == {"Food"}
    assert "Open Database Licence" in note["termsOfUse"] and "OpenStreetMap contributors" in note["attribution"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pois.osm", "pois.osm.json"]


@pytest.mark.parametrize(
    "fault, says", [(504, "answered 504"), (out_of_time, "Query timed out"), (400, "answered 400")]
)
def test_overpass_gives_up_keeps_tiles_and_resumes(overpass, tmp_path, fault, says):
    overpass.faults[:] = [None, *[fault] * 3]
    with pytest.raises(InputError, match=f"tile 2 of .*{says}.*--tile-km") as error:
        download_area(STATIONS, tmp_path / "pois.osm", overpass.base, tile_km=3, retry=QUICK)
    assert "\n" not in str(error.value) and not (tmp_path / "pois.osm").exists()
    overpass.faults.clear()
    first = overpass.log[0]
    overpass.log.clear()
    download_area(STATIONS, tmp_path / "pois.osm", overpass.base, tile_km=3, retry=QUICK)
    assert overpass.log and first not in overpass.log  # the first tile was kept
    overpass.log.clear()
    (tmp_path / "pois.osm").write_bytes((tmp_path / "pois.osm").read_bytes()[:-1])
    with pytest.raises(InputError, match="pois.osm: there is such a file, and it is not this area"):
        download_area(STATIONS, tmp_path / "pois.osm", overpass.base, tile_km=3, retry=QUICK)
    assert overpass.log == []


def write_export(folder):
    "Files of an operator: two weeks with the change of the clock, a column for each service."
    rng = np.random.default_rng(0)
    hours = pd.date_range("2025-10-20", "2025-11-03", freq="h", tz="Europe/Rome", inclusive="left")
    cells = STATIONS.assign(**{"Cell Name": [f"MI{k:02}" for k in range(len(STATIONS))]})
    volume = (1.2 - np.cos(hours.hour.to_numpy() / 12 * np.pi)) * rng.gamma(20, 1, (len(cells), len(hours)))
    times = hours.strftime("%d/%m/%Y %H:%M")
    rows = pd.MultiIndex.from_product([cells["Cell Name"], times], names=["Cell Name", "Time"])
    table = pd.DataFrame({"Down (GB)": volume.ravel(), "Up (GB)": 0.1 * volume.ravel()}, rows).round(3)
    table.reset_index().to_csv(folder / "week.csv", index=False, sep=";", decimal=",")
    cells.to_csv(folder / "cells.csv", index=False)
    return volume


def settings(traffic):
    return {
        "name": "own",
        "data": {
            "source": {"kind": "netcdf", "traffic": str(traffic)},
            "service": "Down (GB)",
            "n_test_periods": 2,
            "first_day": "2025-10-21",
            "last_day": "2025-11-01",
        },
        "graph": {"n_epochs": 2},
        "train": {"n_updates": 2, "batch_size": 4},
        "diffusion": {"n_steps": 5, "n_sampling_steps": 2},
        "denoiser": {"base_channels": 4, "channel_multipliers": [1]},
        "evaluation": {"n_samples": 2},
    }


def test_from_a_table_to_a_run_that_says_what_it_lacks(overpass, tmp_path):
    volume, folder = write_export(tmp_path), tmp_path / "run"
    words = ["ingest", "week.csv", "--stations", "cells.csv", "--columns", "value=Down (GB),value=Up (GB)"]
    done = stouter(*words, "--timezone", "Europe/Rome", "--unit", "GB", "--out", "own.nc", cwd=tmp_path)
    assert "6 stations x 337 hours x 2 services -> own.nc" in done.stdout  # 14 days and the hour that is there twice
    np.testing.assert_allclose(open_traffic(tmp_path / "own.nc").values("Down (GB)"), volume.round(3), rtol=1e-6)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(settings(tmp_path / "own.nc")))
    done = stouter("run", "own.yaml", "--out", folder, cwd=tmp_path)
    metadata = json.loads((folder / "metrics.json").read_text())
    caution = metadata["caution"]
    assert caution.startswith("CAUTION: NO PLACES OF INTEREST")
    assert caution in " ".join(done.stdout.split())
    assert ", 2025-10-21 to 2025-11-01 (data.first_day, data.last_day)" in done.stdout
    notebook = json.loads((folder / "run.ipynb").read_text())
    outputs = [output.get("data", {}) for cell in notebook["cells"] for output in cell.get("outputs", [])]
    shown = ["".join(data.get("text/markdown", "")) for data in outputs]
    assert sum(caution in text for text in shown) == 2
    stouter("report", folder, "--out", "page.html", cwd=tmp_path)
    assert "CAUTION: NO PLACES OF INTEREST" in (tmp_path / "page.html").read_text()
    assert pd.read_parquet(folder / "metrics.parquet").shape[0] > 10
    described = stouter("describe", folder, "own.nc", "--json", cwd=tmp_path)
    assert [row["city"] for row in json.loads(described.stdout)] == ["own"] * 4

    # the same table with places of a map: nothing to say
    stouter("download", "pois", "--grid", "cells.csv", "--base", overpass.base, "--out", "pois.osm", cwd=tmp_path)
    stouter(*words, "--pois", "pois.osm", "--timezone", "Europe/Rome", "--out", "counted.nc", cwd=tmp_path)
    assert open_traffic(tmp_path / "counted.nc").counts.Food.tolist() == [1] * 6
    counted = open_saved(NetCDFSource(traffic=tmp_path / "counted.nc"), tmp_path, None)[1]
    assert describe_positions(NetCDFSource(traffic=tmp_path / "counted.nc"), counted, "log_counts") == ""


def test_a_day_outside_the_data_is_one_line(tmp_path):
    write_export(tmp_path)
    words = ["ingest", "week.csv", "--stations", "cells.csv", "--columns", "value=Down (GB)", "--out", "own.nc"]
    stouter(*words, "--timezone", "Europe/Rome", cwd=tmp_path)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(settings(tmp_path / "own.nc")))
    done = stouter("run", "own.yaml", "-p", "data.last_day", "2026-01-01", check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "data.last_day: 2026-01-01 is outside the data, which run from 2025-10-20 to 2025-11-02" in done.stderr
