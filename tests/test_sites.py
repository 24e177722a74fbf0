"Places without a past: nothing measured reaches them, nor does what else is asked for; errors are one line."

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import stouter

from stouter.config_file import load_config
from stouter.data.traffic import Traffic, open_traffic, save_traffic
from stouter.files import InputError
from stouter.pipeline import generate
from stouter.pipeline.generate import generate_traffic, make_request, write_traffic
from stouter.pipeline.places import run_places
from stouter.pipeline.run import load_run, run
from stouter.pipeline.table_parts import parts_folder

DAYS = "2013-12-01", "2013-12-03"
SMALL_CITY = {"n_stations": "9", "n_days": "10"}
SMALL_NETWORK = {
    "graph.n_epochs": "2",
    "graph.radius_km": "0.3",
    "diffusion.n_steps": "50",
    "denoiser.base_channels": "8",
    "denoiser.channel_multipliers": "[1, 2]",
    "train.n_updates": "3",
    "evaluation.n_samples": "2",
    "data.block_size_km": "0.3",
    "data.last_day": "null",
}
HELD_OUT = {"data.protocol": "new_stations", "data.block_size_km": "0.4", "data.test_station_fraction": "0.3"}


def run_on(traffic, folder, words):
    "A tiny run on a file of traffic."
    run(load_config("tiny", {"data.source": {"kind": "netcdf", "traffic": str(traffic)}, **words}), 0, folder)
    return load_run(folder)


@pytest.fixture(scope="module")
def recorded(tiny_run, tmp_path_factory):
    "The traffic of the tiny city as a file of its own."
    path = tmp_path_factory.mktemp("recorded") / "traffic.nc"
    shutil.copy(tiny_run[0] / "traffic.nc", path)
    stations = pd.read_parquet(tiny_run[0] / "stations.parquet")
    traffic = open_traffic(path)
    return Traffic(traffic.dataset.load()), stations.loc[traffic.stations.index]


@pytest.fixture(scope="module")
def held_out(recorded, tmp_path_factory):
    "A run with held-out stations."
    traffic, folder = recorded[0], tmp_path_factory.mktemp("held_out")
    save_traffic(traffic, folder / "traffic.nc")
    return run_on(folder / "traffic.nc", folder / "run", HELD_OUT)


@pytest.fixture(scope="module")
def sites(tiny_run, tmp_path_factory):
    "A file of three sites, without counts, in the tiny city."
    path = tmp_path_factory.mktemp("sites") / "sites.csv"
    centre = pd.read_parquet(tiny_run[0] / "stations.parquet")[["lon", "lat"]].mean()
    rows = [f"{name},{centre.lon + k / 400:.6f},{centre.lat:.6f},120" for k, name in enumerate(("A", "B", "C"))]
    path.write_text("\n".join(["id,lon,lat,radius_m", *rows]))
    return path


def table_of(results, out, **options):
    "The bytes of a table of three days and two samples."
    write_traffic(make_request(results.model_with(**options), *DAYS, 2, 0, None), out)
    return out.read_bytes()


def test_records_of_a_held_out_station_times_a_thousand_change_no_byte(recorded, held_out, tmp_path):
    traffic, test = recorded[0], held_out.data.split.test
    ids = held_out.city.traffic.stations.index[test]
    louder = traffic.to_xarray()
    louder["volume"].loc[{"station": ids.to_numpy()}] *= 1000
    save_traffic(Traffic(louder), tmp_path / "louder.nc")
    other = run_on(tmp_path / "louder.nc", tmp_path / "run", HELD_OUT)
    np.testing.assert_allclose(other.data.scaler.range_[test], 1000 * held_out.data.scaler.range_[test], rtol=1e-4)
    before, after = table_of(held_out, tmp_path / "before.parquet"), table_of(other, tmp_path / "after.parquet")
    assert before == after
    table = pd.read_parquet(tmp_path / "after.parquet")
    predicted = table[table.status == "predicted"]
    assert set(predicted.station) == set(ids) and len(table) == 2 * 72 * 12
    assert predicted.distance_km.gt(0).all() and table[table.status == "known"].distance_km.isna().all()
    copies = [generate_traffic(make_request(r.model, *DAYS, 2, 0, None)).to_xarray() for r in (held_out, other)]
    assert copies[0].identical(copies[1])  # labels and attributes too


def test_stations_keep_their_traffic_beside_predicted_ones(held_out, sites, tmp_path):
    pois = write_pois(tmp_path)
    alone = generate_traffic(make_request(held_out.model, *DAYS, 2, 0, None))
    both = make_request(held_out.model_with(sites, pois), *DAYS, 2, 0, alone.stations.index.astype(str).tolist())
    grown = generate_traffic(both)
    assert grown.stations.index.tolist() == [*alone.stations.index.astype(str), "A", "B", "C"]
    np.testing.assert_array_equal(grown.values("internet")[:, :12], alone.values("internet"))


def write_pois(folder, n=40):
    "Shops around the middle of the tiny city."
    rng = np.random.default_rng(0)
    lon, lat = 9.0 + rng.normal(0, 0.01, n), 45.3 + rng.normal(0, 0.01, n)
    pd.DataFrame({"lon": lon, "lat": lat, "shop": "bakery"}).to_csv(folder / "pois.csv", index=False)
    return folder / "pois.csv"


def test_order_and_company_of_sites_change_nothing(held_out, sites, tmp_path):
    pois, lines = write_pois(tmp_path), sites.read_text().splitlines()
    table_of(held_out, tmp_path / "all.parquet", sites=sites, pois=pois)
    keys = ["station", "sample", "time"]
    every = pd.read_parquet(tmp_path / "all.parquet").set_index(keys).value
    for k, rows in enumerate(([3, 1], [2], [2, 3, 1])):
        (tmp_path / f"{k}.csv").write_text("\n".join(lines[row] for row in (0, *rows)))
        table_of(held_out, tmp_path / f"{k}.parquet", sites=tmp_path / f"{k}.csv", pois=pois)
        some = pd.read_parquet(tmp_path / f"{k}.parquet").set_index(keys).value
        pd.testing.assert_series_equal(some, every[some.index], check_exact=True)


def test_an_interrupted_table_of_sites_comes_out_the_same(held_out, sites, tmp_path, monkeypatch):
    pois = write_pois(tmp_path)
    request = make_request(held_out.model_with(sites, pois), "2013-12-01", "2014-01-31", 6, 0, None)
    write_traffic(request, tmp_path / "whole.parquet")

    def stop(*_):
        raise KeyboardInterrupt

    out = tmp_path / "table.parquet"
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(generate, "merge_parts", stop)
        write_traffic(request, out)
    lost = sorted(parts_folder(out).glob("0*.parquet"))[1::2]
    assert len(lost) == 2
    for part in lost:
        part.unlink()
    again = make_request(held_out.model_with(sites, pois), "2013-12-01", "2014-01-31", 6, 0, None)
    write_traffic(again, out)
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_the_scale_differs_between_samples_and_not_between_days(held_out, sites, tmp_path):
    request = make_request(held_out.model_with(sites, write_pois(tmp_path)), *DAYS, 64, 0, None)
    site, sample = np.zeros(64, int), np.arange(64)
    factor = request.places.scale_factors(0, site, sample)
    assert len(set(factor.tolist())) == 64
    spread = np.log(factor).std()
    assert 0.7 < spread / request.places.head.residual_std < 1.3


def test_labels_survive_a_file(held_out, tmp_path):
    traffic = generate_traffic(make_request(held_out.model, *DAYS, 1, 0, None))
    save_traffic(traffic, tmp_path / "made.nc")
    again = open_traffic(tmp_path / "made.nc")
    for name in ("status", "nearest_station", "distance_km"):
        np.testing.assert_array_equal(again.dataset[name], traffic.dataset[name])
    assert again.dataset.attrs["name"] == "tiny"


def test_commands(tiny_run, sites, tmp_path):
    "The command line: sites, a square of the graph by its id, and what is refused in one line."
    out, pois = tmp_path / "sites.parquet", write_pois(tmp_path)
    words = ["generate", tiny_run[0], "--days", "2013-12-01", "--samples", 2, "--out", out]
    done = stouter(*words, "--sites", sites, "--pois", pois)
    assert "144 rows of 3 stations (0 known, 3 predicted) of a simulated city (city: tiny; unit:" in done.stdout
    assert "caution: 3 predicted: level from" in done.stderr
    table = pd.read_parquet(out)
    assert table.status.eq("predicted").all() and table.nearest_station.notna().all() and table.value.ge(0).all()
    city = tmp_path / "masts.yaml"
    city.write_text(f"name: masts\ngrid: {tmp_path}/masts.csv\ncounts: {tmp_path}/masts.csv\ntimezone: Europe/Rome\n")
    (tmp_path / "masts.csv").write_text("id,lon,lat,masts\n1,9.0,45.0,3\n2,9.001,45.0,1\n")
    for options, error in (
        (["--sites", sites], "sites.csv: no column"),
        (["--pois", pois], "places are counted around sites; give --sites FILE too"),
        (["--city", city], "masts.yaml: it counts masts, the first city"),
        (["--station", "77"], "station 77: not in tiny"),
    ):
        refused = stouter(*words[:-1], tmp_path / "no.parquet", *options, check=False)
        assert refused.returncode == 2 and error in refused.stderr and refused.stderr.count("\n") == 1, refused.stderr


def test_a_city_without_records(tiny_run, recorded, tmp_path):
    stations = recorded[1].reset_index()
    stations.to_csv(tmp_path / "grid.csv", index=False)
    city = tmp_path / "porto.yaml"
    city.write_text(f"name: porto\ngrid: {tmp_path}/grid.csv\ncounts: {tmp_path}/grid.csv\ntimezone: Europe/Lisbon\n")
    results = load_run(tiny_run[0])
    traffic = generate_traffic(make_request(results.model_with(city=city), *DAYS, 2, 0, None))
    assert (traffic.timezone, traffic.dataset.attrs["name"], len(traffic.stations)) == ("Europe/Lisbon", "porto", 12)
    assert set(traffic.dataset["status"].values) == {"predicted"} and np.isnan(traffic.dataset["distance_km"]).all()
    write_traffic(make_request(results.model_with(city=city), *DAYS, 2, 0, None), tmp_path / "porto.parquet")
    assert pd.read_parquet(tmp_path / "porto.parquet").nearest_station.isna().all()
    simulated = tiny_run[0] / "city"
    files = f"grid: {simulated}/grid.geojson\npois: {simulated}/pois.geojson"
    city.write_text(f"name: twin\n{files}\ntimezone: Europe/Rome\n")
    twin = make_request(results.model_with(city=city), *DAYS, 2, 0, None).places
    own = make_request(results.model, *DAYS, 2, 0, None).places
    np.testing.assert_allclose(twin.embedding, own.embedding, rtol=1e-4, atol=1e-5)  # counted from the same map


def test_a_new_city_run_generates_the_other_city(recorded, tmp_path):
    traffic = recorded[0]
    there = traffic.to_xarray().isel(station=slice(0, 9)).assign_attrs(timezone="Europe/Lisbon")
    for name, part in (("here", traffic), ("there", Traffic(there))):
        save_traffic(part, tmp_path / f"{name}.nc")
    target = {"kind": "netcdf", "traffic": str(tmp_path / "there.nc")}
    results = run_on(
        tmp_path / "here.nc", tmp_path / "run", {"data.protocol": "new_city", "data.target_source": target}
    )
    generated = generate_traffic(make_request(results.model, *DAYS, 1, 0, None))
    assert generated.stations.index.tolist() == there["station"].values.tolist()
    assert generated.timezone == "Europe/Lisbon" and generated.dataset.attrs["name"] == "target city of tiny"
    assert set(generated.dataset["status"].values) == {"predicted"}


def test_milan_to_trentino_in_miniature(tmp_path):
    "The shipped configuration on two simulated cities, small ones, and the name that records would give."
    small = {f"data.{city}.{key}": value for city in ("source", "target_source") for key, value in SMALL_CITY.items()}
    config = load_config("milan_to_trentino", {**small, **SMALL_NETWORK}, simulated=True)
    metrics = run(config, 0, tmp_path / "run")
    assert np.isfinite(metrics["STOUTER"]["crps"])
    results = load_run(tmp_path / "run")
    write_traffic(make_request(results.model, "2013-11-11", "2013-11-12", 2, 0, None), tmp_path / "there.csv")
    said = json.loads((tmp_path / "there.csv.json").read_text())
    assert said["city"] == "target city of simulated_milan_to_trentino" and "simulated city" in said["content"]
    assert said["stations"].startswith("0 known, 9 predicted")
    assert len(pd.read_csv(tmp_path / "there.csv")) == 9 * 2 * 48
    measured = load_config("milan_to_trentino")
    named = run_places(config.model_copy(update={"data": measured.data}), *results_of(results))
    assert named.city == "trentino"


def results_of(results):
    "What places need of a run besides its configuration."
    return results.city, results.embeddings, results.data, results.seed


def test_a_run_that_knows_positions_takes_sites_and_no_other_city(recorded, tmp_path):
    "As Nanjing, which has no places of interest; Shandong counts 22 kinds of them."
    traffic = recorded[0]
    save_traffic(Traffic(traffic.dataset.drop_vars(["count", "category"])), tmp_path / "bare.nc")
    results = run_on(tmp_path / "bare.nc", tmp_path / "run", {})
    centre = traffic.stations[["lon", "lat"]].mean()
    (tmp_path / "sites.csv").write_text(f"id,lon,lat\nA,{centre.lon:.6f},{centre.lat:.6f}\n")
    request = make_request(results.model_with(tmp_path / "sites.csv"), *DAYS, 1, 0, None)
    assert any("knows a predicted place by its position alone" in line for line in generate.describe_request(request))
    assert generate_traffic(request).dataset["status"].values.tolist() == ["predicted"]
    recorded[1].reset_index().to_csv(tmp_path / "grid.csv", index=False)
    city = tmp_path / "shandong.yaml"
    city.write_text(
        json.dumps(
            {"name": "shandong", "timezone": "Asia/Shanghai"}
            | {k: str(tmp_path / "grid.csv") for k in ("grid", "counts")}
        )
    )
    with pytest.raises(InputError, match="shandong.yaml: it counts .*, the first city nothing; count the same"):
        results.model_with(city=city)
    with pytest.raises(InputError, match="describes stations by position and counts no places; leave it out"):
        results.model_with(tmp_path / "sites.csv", write_pois(tmp_path))
