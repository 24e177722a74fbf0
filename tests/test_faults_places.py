"Station tables, grids, counts and places: each input is read right, counted as left out, or refused in one line."

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import stouter

from stouter.data.patches import load_patches
from stouter.data.pois import count_pois, describe_left_out, read_counts, read_pois
from stouter.data.stations import read_grid, read_stations, to_local_km
from stouter.files import InputError


def tag(key, value):
    return f'<tag k="{key}" v="{value}"/>'


def node(number, lat=45.0, lon=9.0, tags="", more='version="1"'):
    return f'<node id="{number}" {more} lat="{lat}" lon="{lon}">{tags}</node>\n'


def way(number, refs, tags="", more='version="1"'):
    return f'<way id="{number}" {more}>' + "".join(f'<nd ref="{ref}"/>' for ref in refs) + f"{tags}</way>\n"


def relation(number, ways, tags):
    members = "".join(f'<member type="way" ref="{way}" role="outer"/>' for way in ways)
    return f'<relation id="{number}" version="1">{members}{tag("type", "multipolygon")}{tags}</relation>\n'


def square(x=9.0, y=45.0, side=0.01):
    return {"type": "Polygon", "coordinates": [[[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]]}


def point(lon=9.0, lat=45.0):
    return {"type": "Point", "coordinates": [lon, lat]}


def collection(*features, **more):
    rows = [{"type": "Feature", "properties": tags, "geometry": shape, **rest} for tags, shape, *(rest,) in features]
    return json.dumps({"type": "FeatureCollection", "features": rows, **more})


def grid(*cells, **more):
    return collection(*(({"cellId": cell}, square(9 + k / 100), {}) for k, cell in enumerate(cells)), **more)


def osm(*parts):
    return '<?xml version="1.0" encoding="UTF-8"?>\n<osm version="0.6">\n' + "".join(parts) + "</osm>\n"


CAFE, SCHOOL, PARK = tag("amenity", "cafe"), tag("amenity", "school"), tag("leisure", "park")
CORNERS = [node(10, 45.46, 9.19), node(11, 45.46, 9.191), node(12, 45.461, 9.191), node(13, 45.461, 9.19)]
RING = [10, 11, 12, 13, 10]
NEGATIVE = [corner.replace('id="', 'id="-') for corner in CORNERS]


def ids(content, name="stations.csv"):
    return name, content, lambda path: read_stations(path).index.tolist()


def cells(content):
    return "grid.geojson", content, lambda path: read_grid(path).index.tolist()


def places(content, name="map.osm"):
    def read(path):
        pois = read_pois(path)
        return sorted(pois.category), pois.attrs.get("left_out", {})

    return name, content, read


def counts(content, stations=(1, 2), name="counts.csv", **options):
    def read(path):
        table = read_counts(path, pd.Index(list(stations)), **options)
        return {name: table[name].tolist() for name in table}, table.attrs["left_out"]

    return name, content, read


MILAN = "9.19,45.46\n"
TABLES = {
    "trailing comma": (ids("id,lon,lat,h\n1,9.19,45.46,30,\n2,9.2,45.47,25,\n"), [1, 2]),
    "trailing comma in the header too": (ids("id,lon,lat,\n1,9.19,45.46,\n"), [1]),
    "one trailing comma": (ids(f"id,lon,lat\n1,{MILAN}2,9.2,45.47,,\n"), [1, 2]),
    "a field too many": (ids(f"id,lon,lat\n1,{MILAN}\n2,9.2,45.47,8\n"), "line 4: expected 3 fields .* got 4"),
    "a field too few": (ids(f"id,lon,lat,h\n1,9,45,3\n2,{MILAN}"), "line 3: expected 4 fields .* got 3"),
    "words that look like powers": (ids(f"id,lon,lat\n4E2,{MILAN}4E3,{MILAN}1E4,{MILAN}"), ["4E2", "4E3", "1E4"]),
    "leading zeros": (ids(f"id,lon,lat\n007,{MILAN}7,{MILAN}"), ["007", "7"]),
    "the id NA": (ids(f"id,lon,lat\nNA,{MILAN}null,{MILAN}"), ["NA", "null"]),
    "the id True": (ids(f"id,lon,lat\nTrue,{MILAN}False,{MILAN}"), ["True", "False"]),
    "beyond 2^53": (ids(f"id,lon,lat\n{2**53 + 1},{MILAN}{2**53},{MILAN}"), [2**53 + 1, 2**53]),
    "beyond 2^63": (ids(f"id,lon,lat\n{2**63},{MILAN}{2**63 + 1},{MILAN}"), [str(2**63), str(2**63 + 1)]),
    "beyond 2^64": (ids(f"id,lon,lat\n{2**64},{MILAN}{2**64 + 1},{MILAN}"), [str(2**64), str(2**64 + 1)]),
    "spaces": (ids(f"id,lon,lat\n 7 ,{MILAN} A ,{MILAN}"), ["7", "A"]),
    "7 and 7.0": (ids(f"id,lon,lat\n7,{MILAN}7.0,{MILAN}"), "line 3: station 7 stands twice, first in line 2"),
    "whole numbers with a point": (ids(f"id,lon,lat\n7.0,{MILAN}8.0,{MILAN}"), [7, 8]),
    "blank lines": (
        ids(f"id,lon,lat\n1,{MILAN}\n\n2,{MILAN}\n3,nine,45\n"),
        "line 7: expected lon, lat .* got nine, 45",
    ),
    "blank lines first": (ids(f"\n\nid,lon,lat\n1,{MILAN}2,9,99\n"), "line 5: expected lon, lat"),
    "a line break in quotes": (ids('id,lon,lat,owner\n1,9,45,"a\nb"\n2,9,99,c\n'), "line 4: expected lon, lat"),
    "an open quote": (ids(f'id,lon,lat\n"1,{MILAN}2,{MILAN}'), "line 2: expected 3 fields .* got 1"),
    "two columns of one name": (ids("id,lon,LON,lat\n1,9,8,45\n"), "line 1: expected unique names .* lon and LON"),
    "two names of one column": (
        ids("id,lon,lng,lat\n1,9,8,45\n"),
        "line 1: columns lon and lng are names of one thing",
    ),
    "two names that agree": (ids("id,lon,lng,lat\n1,9,9,45\n"), [1]),
    "tabs": (ids("id\tlon\tlat\n1\t9\t45\n"), [1]),
    "tabs, .tsv": (ids("id\tlon\tlat\n1\t9\t45\n", "stations.tsv"), [1]),
    "the column ID": (ids("ID,lon,lat\n01,9,45\n"), ["01"]),
    "a missing position": (ids("id,lon,lat\n1,,45\n"), "line 2: expected lon, lat in degrees"),
    "an empty file": (ids(""), "expected comma-separated UTF-8 text"),
    "blank lines alone": (ids("\n\n"), "expected comma-separated UTF-8 text"),
    "grid: long ids": (cells(grid(460001234567890123, 460001234567890187)), [460001234567890123, 460001234567890187]),
    "grid: beyond 2^63": (cells(grid(2**63 + 1, 1)), [str(2**63 + 1), "1"]),
    "grid: leading zeros": (cells(grid("007", "7")), ["007", "7"]),
    "grid: whole numbers of three kinds": (cells(grid(7, "8", 9.0)), [7, 8, 9]),
    "grid: 7 and 7.0": (cells(grid(7, 7.0)), "feature 1: station 7 stands twice, first in feature 0"),
    "grid: digits lost": (cells(grid(4.6e17)), "feature 0: expected a station id, .* digits are lost"),
    "grid: text": (cells(grid("8a1fb46622dffff")), ["8a1fb46622dffff"]),
    "grid: true": (cells(grid(True)), "feature 0: expected a whole number .* got True"),
    "grid: empty text": (cells(grid(" ")), "feature 0: expected a whole number"),
    "grid: another system": (
        cells(grid(1, crs={"type": "name", "properties": {"name": "EPSG:32632"}})),
        "expected degrees .* crs reads 'EPSG:32632'",
    ),
    "grid: WGS84 by name": (cells(grid(1, crs={"properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}})), [1]),
    "counts: a thousands separator": (
        counts('cellId,shops\n1,"1,234"\n2,200\n'),
        "line 2: .* numbers in shops, got '1,234'",
    ),
    "counts: all with separators": (counts('cellId,shops\n1,"1,234"\n2,"2,345"\n'), "line 2: .* in shops"),
    "counts: a word": (counts("cellId,shops\n1,5\n2,many\n"), "line 3: .* in shops, got 'many'"),
    "counts: a point among decimal commas": (counts("cellId;shops\n1;1.234\n2;200\n"), "line 2: .* got '1.234'"),
    "counts: a column of text": (counts("cellId,shops,note\n1,5,a\n2,6,b\n"), ({"shops": [5, 6]}, {"note": "text"})),
    "counts: named columns": (
        counts("cellId,shops,floor\n1,5,0\n2,6,1\n", columns=["shops"]),
        ({"shops": [5, 6]}, {"floor": "not asked for"}),
    ),
    "counts: a name that is not there": (counts("cellId,shops\n1,5\n2,6\n", columns=["food"]), "no column food"),
    "counts: CELLID": (counts("CELLID,shops\n2,6\n1,5\n"), ({"shops": [5, 6]}, {})),
    "counts: another id": (counts("grid_id,shops\n2,6\n1,5\n"), "is grid_id the id of the cells"),
    "counts: leading zeros": (
        counts("cellId,shops\n01,5\n02,6\n"),
        "station 1 .a number. is not in this table, which has '01'",
    ),
    "counts: 7.0 in a table, 7 in a grid": (counts("cellId,shops\n1.0,5\n2.0,6\n"), ({"shops": [5, 6]}, {})),
    "counts: long ids": (
        counts(f"cellId,shops\n{2**62 + 1},5\n{2**62},6\n", (2**62, 2**62 + 1)),
        ({"shops": [6, 5]}, {}),
    ),
    "counts: an id is missing": (counts("cellId,shops\n1,5\n,6\n"), "line 3: no station id"),
    "counts: a trailing comma": (counts("cellId,shops\n1,5,\n2,6,\n"), ({"shops": [5, 6]}, {})),
    "counts: cells beyond the grid": (
        counts("cellId,shops\n1,5\n2,6\n3,7\n"),
        ({"shops": [5, 6]}, {"row of a cell that the grid does not have": 1}),
    ),
}
THREE = node(1, 45.46, 9.19, CAFE)
MAPS = {
    "ways before their nodes": (
        places(osm(way(100, RING, SCHOOL), THREE, *CORNERS)),
        (["Education", "Food"], {}),
    ),
    "ways before nodes without tags": (places(osm(way(100, RING, SCHOOL), *CORNERS)), (["Education"], {})),
    "relation first": (places(osm(relation(7, [5], PARK), way(5, RING), *CORNERS)), (["Entertainment"], {})),
    "ways not by id": (
        places(osm(*CORNERS, way(9, RING, SCHOOL), way(5, RING), relation(7, [5], PARK))),
        (["Education", "Entertainment"], {}),
    ),
    "negative ids": (
        places(osm(*NEGATIVE, way(-5, [-n for n in RING], SCHOOL), relation(-7, [-5], PARK))),
        (["Education", "Entertainment"], {}),
    ),
    "a new way of an editor": (places(osm(*NEGATIVE, way(5, [-n for n in RING], SCHOOL))), (["Education"], {})),
    "an open ring": (
        places(osm(THREE, *CORNERS, way(5, RING[:3]), relation(7, [5], PARK))),
        (["Food"], {"relation whose outline is not closed": 1}),
    ),
    "members that are missing": (
        places(osm(THREE, relation(7, [5], PARK))),
        (["Food"], {"relation with members that are not in the file": 1}),
    ),
    "a way without nodes": (
        places(osm(THREE, way(5, RING, SCHOOL))),
        (["Food"], {"way without a node in the file": 1}),
    ),
    "a node off the earth": (
        places(osm(THREE, node(2, 99, 9, CAFE))),
        (["Food"], {"node without a position": 1}),
    ),
    "an invisible object": (
        places(osm(THREE, node(2, 45, 9, CAFE, 'version="2" visible="false"'))),
        (["Food"], {"deleted object": 1}),
    ),
    "deleted in an editor": (
        places(osm(THREE, node(2, 45, 9, CAFE, 'version="2" action="delete"'))),
        (["Food"], {"deleted object": 1}),
    ),
    "an object twice": (places(osm(THREE, THREE)), (["Food"], {"repetition of an object": 1})),
    "two versions": (
        places(osm(THREE, node(1, 45, 9, tag("shop", "yes"), 'version="2"'))),
        (["Shop"], {"repetition of an object": 1}),
    ),
    "the centre of a server": (
        places(osm(THREE, f'<way id="100"><center lat="45.4605" lon="9.1905"/>{SCHOOL}</way>\n')),
        (["Education", "Food"], {}),
    ),
    "the box of a server": (
        places(osm(f'<way id="100"><bounds minlat="45" minlon="9" maxlat="45.1" maxlon="9.1"/>{SCHOOL}</way>\n')),
        (["Education"], {}),
    ),
    "a route with a centre": (
        places(osm(THREE, f'<relation id="1"><center lat="45" lon="9"/>{tag("public_transport", "stop")}</relation>')),
        (["Food"], {}),
    ),
    "a centre without numbers": (places(osm(f'<way id="100"><center/>{SCHOOL}</way>')), "has no numbers"),
    "a server that gave up": (
        places(osm(THREE, "<remark> runtime error: Query timed out</remark>")),
        "expected a whole answer of Overpass, its remark reads 'runtime error: Query timed out'",
    ),
    "several values": (places(osm(node(1, tags=tag("amenity", "cafe;bar")))), (["Food"], {})),
    "spaces": (places(osm(node(1, tags=tag("amenity", " cafe ; x ")))), (["Food"], {})),
    "no shop": (
        places(osm(THREE, node(2, tags=tag("shop", "no")), node(3, tags=tag("shop", "vacant")))),
        (["Food"], {"object whose tag says no": 2}),
    ),
    "no map": (places(osm()), "expected places with a category or OpenStreetMap tags, got none"),
    "tag values of GeoJSON": (
        places(
            collection(
                *(({key: value}, point(), {}) for key, value in [("amenity", "cafe"), ("amenity", "cafe;bar")]),
                *(
                    ({key: value}, point(), {})
                    for key, value in [("shop", "no"), ("shop", "vacant"), ("amenity", "no")]
                ),
            ),
            "p.geojson",
        ),
        (["Food", "Food"], {"feature whose tag says no": 3}),
    ),
    "a feature twice": (
        places(collection(*[({"shop": "yes"}, point(), {"id": "node/1"})] * 2), "p.geojson"),
        (["Shop"], {"repetition of a feature": 1}),
    ),
    "one id of two features": (
        places(collection(*(({"shop": word}, point(), {"id": 1}) for word in ("books", "wine"))), "p.geojson"),
        (["Shop", "Shop"], {}),
    ),
    "a feature without a position": (
        places(collection(({"shop": "yes"}, point(), {}), ({"shop": "yes"}, None, {})), "p.geojson"),
        (["Shop"], {"feature without a position": 1}),
    ),
    "a position that is no number": (
        places(collection(({"shop": "yes"}, point(float("nan")), {})), "p.geojson"),
        "feature 0: expected",
    ),
    "JSON of Overpass": (places(json.dumps({"elements": []}), "p.json"), "the JSON of Overpass; ask it for"),
    "a table of tags": (
        places("lon,lat,shop\n9,45,books; wine\n9,45,no\n9,45,NA\n9,45,False\n", "p.csv"),
        (["Shop"], {"row whose tag says no": 2}),
    ),
    "a table of tags, one field too many": (places("lon,lat,shop\n9,45,a,b\n", "p.csv"), "line 2: expected 3 fields"),
    "the column Category": (places("lon,lat,Category\n9,45, food \n", "p.csv"), (["Food"], {})),
    "blank lines": (places("lon,lat,category\n9,45,Food\n\n9,45,Sport\n", "p.csv"), "line 4: expected a category"),
}
FAULTS = TABLES | MAPS


@pytest.mark.parametrize("made, right", FAULTS.values(), ids=FAULTS)
def test_read_right_or_refused_in_one_line(tmp_path, made, right):
    name, content, read = made
    (tmp_path / name).write_text(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if not isinstance(right, str):
            assert read(tmp_path / name) == right
            return
        with pytest.raises(InputError, match=f"{name}.*{right}") as error:
            read(tmp_path / name)
    assert "\n" not in str(error.value)


def test_what_was_left_out_is_said(tmp_path, caplog):
    (tmp_path / "map.osm").write_text(osm(THREE, way(5, RING, SCHOOL)))
    pois = read_pois(tmp_path / "map.osm")
    assert describe_left_out(pois).endswith("map.osm: left out 1 x way without a node in the file")
    assert describe_left_out(pois) in caplog.text
    stations = pd.DataFrame({"lon": [9.19], "lat": [45.46]}, index=pd.Index([1], name="station"))
    assert describe_left_out(count_pois(pois, stations)) == describe_left_out(pois)


@pytest.mark.parametrize("east", [-179.995, 180.005])
def test_a_cell_on_the_180th_meridian(tmp_path, east):
    corners = [[179.995, 0], [east, 0], [east, 0.01], [179.995, 0.01], [179.995, 0]]
    shape = {"type": "Polygon", "coordinates": [corners]}
    (tmp_path / "grid.geojson").write_text(collection(({"cellId": 1}, shape, {})))
    cell = read_grid(tmp_path / "grid.geojson")
    np.testing.assert_allclose([abs(cell.lon[1]), cell.lat[1]], [180, 0.005])
    pois = pd.DataFrame({"lon": [179.999, -179.999, 0.0], "lat": 0.005, "category": "Shop"})
    assert count_pois(pois, cell).Shop.tolist() == [2]
    np.testing.assert_allclose(np.ptp(to_local_km([179.9, -179.9], [0, 0])[:, 0]), 22.24, atol=0.01)


def test_stations_at_one_position_are_counted(tmp_path):
    (tmp_path / "s.csv").write_text("id,lon,lat\n1,9,45\n2,9,45\n3,9,46\n")
    assert read_stations(tmp_path / "s.csv").attrs == {"n_same_position": 1}


def test_parquet_ids(tmp_path):
    table = pd.DataFrame({"lon": 9.0, "lat": 45.0}, index=range(2))
    for values, right in (([7.0, 8.0], [7, 8]), (["007", "8"], ["007", "8"]), ([2**62 + 1, 1], [2**62 + 1, 1])):
        table.assign(id=values).to_parquet(tmp_path / "s.parquet")
        assert read_stations(tmp_path / "s.parquet").index.tolist() == right
    for values in ([7.0, np.nan], [1.0, 2.0**60]):
        table.assign(id=values).to_parquet(tmp_path / "s.parquet")
        with pytest.raises(InputError, match="s.parquet, row 2: (no|expected a) station id"):
            read_stations(tmp_path / "s.parquet")


PATCHES = {"traffic": np.ones((1, 2, 2, 24)), "users": np.ones((1, 2, 2, 24)), "poi": np.ones((1, 3, 2, 2))}


@pytest.mark.parametrize(
    "change, says",
    [
        ({"poi": np.full((1, 3, 2, 2), -1)}, "expected counts from 0 up in poi, patch 0, kind 0"),
        ({"poi": np.full((1, 3, 2, 2), np.nan)}, "expected counts from 0 up in poi"),
        ({"poi": np.full((1, 3, 2, 2), "many")}, "expected arrays of numbers"),
        ({"users": np.ones((2, 2, 2, 24))}, "expected an .npz with arrays traffic, users and poi"),
    ],
)
def test_patches_with_wrong_arrays(tmp_path, change, says):
    np.savez(tmp_path / "p.npz", **{**PATCHES, **change})
    with pytest.raises(InputError, match=says):
        load_patches(tmp_path / "p.npz")


@pytest.mark.parametrize("keep", [0, 0.5, 0.9])
def test_patches_cut_short(tmp_path, keep):
    np.savez(tmp_path / "p.npz", **PATCHES)
    whole = (tmp_path / "p.npz").read_bytes()
    (tmp_path / "p.npz").write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(InputError, match="p.npz: expected an .npz with arrays"):
        load_patches(tmp_path / "p.npz")


def test_places_left_out_are_in_the_report_and_in_the_summary_of_graph(tmp_path):
    record = "\n".join(f"{station}\t1383260400000\t39\t\t\t\t\t1" for station in (1, 2))
    (tmp_path / "day.txt").write_text(record + "\n")
    (tmp_path / "masts.csv").write_text("id,lon,lat,radius_km\n1,9,45,1\n2,9.1,45,1\n")
    (tmp_path / "pois.csv").write_text("lon,lat,amenity,shop\n9,45,cafe,\n9,45,,vacant\n19,45,cafe,\n")
    words = ("--grid", tmp_path / "masts.csv", "--pois", tmp_path / "pois.csv", "--out", tmp_path / "a.nc")
    done = stouter("ingest", tmp_path / "day.txt", *words)
    line = f"{tmp_path / 'pois.csv'}: left out 1 x row whose tag says no, 1 x place beyond every station"
    assert json.loads((tmp_path / "a.json").read_text())["places_left_out"] == line
    assert done.stderr.count(line) == 1 and "places lie beyond" not in done.stderr
    words = (tmp_path / "masts.csv", "--pois", tmp_path / "pois.csv", "--out", tmp_path / "g.safetensors", "--json")
    assert json.loads(stouter("graph", *words).stdout)["places_left_out"] == line
    (tmp_path / "zeros.csv").write_text("id,lon,lat\n007,9,45\n2,9.1,45\n")
    words = ("--grid", tmp_path / "zeros.csv", "--out", tmp_path / "b.nc")
    done = stouter("ingest", tmp_path / "day.txt", *words, check=False)
    assert done.returncode == 2 and "station '007' (text); records have whole numbers" in done.stderr
