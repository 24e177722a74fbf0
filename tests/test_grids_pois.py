"Grids, station tables and places: bad files named by file and feature or line, real files counted."

import json

import numpy as np
import pandas as pd
import pytest
import shapefile
import shapely
from conftest import SHARED, needs_data

from stouter.data.pois import (
    CATEGORIES,
    POI_CATEGORIES,
    POI_READERS,
    count_pois,
    read_categories,
    read_counts,
    read_pois,
)
from stouter.data.stations import ASSIGNMENTS, read_grid, read_station_geometry, read_stations
from stouter.files import InputError


def square(x=9.0, y=45.0, side=0.01):
    return {"type": "Polygon", "coordinates": [[[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]]}


def collection(*features):
    return json.dumps(
        {
            "type": "FeatureCollection",
            "features": [{"type": "Feature", "properties": p, "geometry": g} for p, g in features],
        }
    )


def cells(geometry=None, **properties):
    "Three cells; the second has another geometry or other properties."
    rows = [({"cellId": k}, square(9 + k / 100)) for k in (1, 2, 3)]
    rows[1] = (properties or {"cellId": 2}, geometry or square(9.02))
    return collection(*rows)


def polygon(*spots):
    return {"type": "Polygon", "coordinates": [list(map(list, spots))]}


def save(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


GRIDS = {
    "two points": (cells(polygon((9, 45), (9.01, 45))), "feature 1: expected a GeoJSON geometry"),
    "three points in a line": (
        cells(polygon((9, 45), (9.01, 45), (9.02, 45), (9, 45))),
        "feature 1: expected a valid Polygon",
    ),
    "a bow tie": (
        cells(polygon((9, 45), (9.1, 45.1), (9.1, 45), (9, 45.1), (9, 45))),
        "feature 1: expected a valid Polygon, got .*self-crossing",
    ),
    "no geometry": (
        cells().replace(
            '"geometry": {"type": "Polygon", "coordinates": [[[9.02',
            '"other": {"type": "Polygon", "coordinates": [[[9.02',
        ),
        "feature 1: expected a GeoJSON geometry",
    ),
    "a point": (cells({"type": "Point", "coordinates": [9, 45]}), "feature 1: expected a polygon, got a Point"),
    "swapped": (
        cells(square(32.06, 118.78)),
        "feature 1: expected degrees, longitude before latitude, got \\(32.06, 118.78\\); swap",
    ),
    "metres": (cells(square(1_514_000, 5_030_000, 235)), "feature 1: expected degrees"),
    "infinite": (cells(square(float("inf"))), "feature 1: expected a"),
    "number missing": (cells(name="two"), "feature 1: expected a whole number in the property cellId, got None"),
    "number with a fraction": (cells(cellId=2.5), "feature 1: expected a whole number .*got 2.5"),
    "number twice": (cells(cellId=1), "feature 1: station 1 stands twice"),
    "no features": (json.dumps({"type": "FeatureCollection", "features": []}), "expected at least one feature"),
    "a geometry": (json.dumps(square()), "expected a GeoJSON FeatureCollection"),
    "a list": ("[1, 2]", "expected a GeoJSON FeatureCollection"),
    "features of words": (
        json.dumps({"type": "FeatureCollection", "features": ["a"]}),
        "expected a GeoJSON FeatureCollection",
    ),
    "cut": (cells()[:200], "this is not JSON"),
    "empty": ("", "this is not JSON"),
    "not UTF-8": (b'{"type": "FeatureCollection", "name": "Citt\xe0"}', "this is not JSON"),
    "CSV": ("cellId,lon,lat\n1,9,45\n", "this is not JSON"),
}


@pytest.mark.parametrize("content, says", GRIDS.values(), ids=GRIDS)
def test_bad_grid(tmp_path, content, says):
    path = save(tmp_path / "grid.geojson", content)
    with pytest.raises(InputError, match=f"grid.geojson.*{says}") as error:
        read_grid(path)
    assert "\n" not in str(error.value)


STATIONS = {
    "id twice": ("id,lon,lat\n7,9,45\n8,9,45\n7,9,46\n", "line 4: station 7 stands twice, first in line 2"),
    "word twice": ("id,lon,lat\nA,9,45\nA ,9,46\n", "line 3: station A stands"),
    "id missing": ("id,lon,lat\nA,9,45\n,9,46\n", "line 3: no station id"),
    "no id": ("lon,lat\n9,45\n", "expected rows with a column"),
    "no position": ("id,east,north\n1,9,45\n", "line 1: expected columns lon and lat, got id, east, north"),
    "half a position": ("id,lon\n1,9\n", "line 1: expected columns lon and lat.*add lat"),
    "swapped": (
        "id,lon,lat\n1,9,45\n2,32.06,118.78\n",
        "line 3: expected lon, lat in degrees, got 32.06, 118.78; swap",
    ),
    "metres": ("id,lon,lat\n1,1514000,5030000\n", "line 2: expected lon, lat in degrees"),
    "a word": ("id,lon,lat\n1,nine,45\n", "line 2: .*got nine, 45"),
    "not a number": ("id,lon,lat\n1,9,nan\n", "line 2: .*got 9, nan"),
    "infinite": ("id,lon,lat\n1,9,inf\n", "line 2: .*got 9, inf"),
    "decimal comma": ('id,lon,lat\n1,"9,1","45,2"\n', "line 2: .*got 9,1, 45,2"),
    "vertical bars": ("id|lon|lat\n1|9|45\n", "line 1: expected columns lon and lat"),
    "no unit": ("id,lon,lat,radius\n1,9,45,500\n", "rename it to radius_km or radius_m"),
    "radius of nothing": ("id,lon,lat,radius_m\n1,9,45,0\n", "line 2: expected radius_m above 0, got 0"),
    "radius missing": ("id,lon,lat,radius_km\n1,9,45,1\n2,9,45,\n", "line 3: expected radius_km above 0, got nan"),
    "header only": ("id,lon,lat\n", "got 0 rows"),
    "empty": ("", "expected comma-separated"),
    "ragged": ("id,lon,lat\n1,9,45\n2,9,45,1,1\n", "line 3: expected 3 fields as in the header, got 5"),
    "not UTF-8": ("id,lon,lat\nMünchen,11,48\n".encode("latin-1"), "expected comma-separated UTF-8"),
    "zeros": (bytes(100), "expected"),
}


@pytest.mark.parametrize("content, says", STATIONS.values(), ids=STATIONS)
def test_bad_station_table(tmp_path, content, says):
    with pytest.raises(InputError, match=f"towers.csv.*{says}") as error:
        read_stations(save(tmp_path / "towers.csv", content))
    assert "\n" not in str(error.value)


def places(geometry=None, **properties):
    return collection(
        ({"amenity": "cafe"}, {"type": "Point", "coordinates": [9, 45]}),
        (properties or {"shop": "yes"}, geometry or {"type": "Point", "coordinates": [9, 45]}),
    )


PLACES = {
    "unknown category": (
        "p.geojson",
        places(category="Foood"),
        "feature 1: expected a category out of Education.*got 'Foood'",
    ),
    "swapped": (
        "p.geojson",
        places({"type": "Point", "coordinates": [32.06, 118.78]}),
        "feature 1: expected degrees, longitude before latitude",
    ),
    "two points": ("p.geojson", places(polygon((9, 45), (9.01, 45))), "feature 1: expected a GeoJSON geometry"),
    "nothing known": (
        "p.geojson",
        collection(({"emergency": "hydrant"}, {"type": "Point", "coordinates": [9, 45]})),
        "expected places with a category or OpenStreetMap tags",
    ),
    "table: unknown category": (
        "p.csv",
        "lon,lat,category\n9,45,Food\n9,45,Sport\n",
        "line 3: expected a category out of .*'Sport'",
    ),
    "table: no category": ("p.csv", "lon,lat,category\n9,45,\n", "line 2: expected a category out of .*got none"),
    "table: no column": ("p.csv", "lon,lat,name\n9,45,Ugo\n", "line 1: expected a column category or a key"),
    "table: no position": ("p.csv", "x,y,category\n9,45,Food\n", "line 1: expected columns lon and lat"),
    "table: swapped": (
        "p.csv",
        "lon,lat,category\n9,45,Food\n32,118,Food\n",
        "line 3: expected lon, lat in degrees.*swap",
    ),
    "table: not UTF-8": (
        "p.csv",
        "lon,lat,category,name\n9,45,Food,Caffè\n".encode("latin-1"),
        "expected comma-separated UTF-8",
    ),
    "table: header only": ("p.csv", "lon,lat,category\n", "expected places with a category"),
    "parquet that is none": ("p.parquet", b"PAR1 is how they begin", "expected a parquet table"),
    "web page for a map": ("p.osm.pbf", b"<html>404</html>", "expected a whole OpenStreetMap file"),
    "empty map": ("p.osm.pbf", b"", "expected a whole OpenStreetMap file"),
    "shapes alone": ("p.shp", b"\x00\x00\x27\x0a", "expected p.dbf beside it"),
    "another format": ("p.gpkg", b"SQLite", "expected a name that ends in .geojson"),
}


@pytest.mark.parametrize("name, content, says", PLACES.values(), ids=PLACES)
def test_bad_places(tmp_path, name, content, says):
    with pytest.raises(InputError, match=f"{name}.*{says}") as error:
        read_pois(save(tmp_path / name, content))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("read", [read_pois, read_station_geometry, read_grid, read_stations, read_categories])
@pytest.mark.parametrize("name", ["none.geojson", "none.csv"])
def test_no_file(tmp_path, read, name):
    with pytest.raises((FileNotFoundError, InputError), match=name):
        read(tmp_path / name)


def test_every_reader_refuses_a_folder(tmp_path):
    for ending in POI_READERS:
        (tmp_path / f"folder{ending}").mkdir()
        with pytest.raises(FileNotFoundError, match=f"folder{ending}: no such file"):
            read_pois(tmp_path / f"folder{ending}")


def write_shapefile(path, n=50):
    with shapefile.Writer(str(path)) as writer:
        writer.field("fclass", "C", 20)
        for k in range(n):
            writer.point(9 + k / 1000, 45)
            writer.record("cafe")
    return path


@pytest.mark.parametrize(
    "part, keep, says",
    [
        (".dbf", 0.5, "p.shp: expected"),
        (".shp", 0.5, "p.shp: expected"),
        (".dbf", 0, "p.shp: expected"),
        (".shp", 0, "p.shp: expected"),
    ],
)
def test_shapefile_cut_short(tmp_path, part, keep, says):
    path = write_shapefile(tmp_path / "p.shp")
    side = path.with_suffix(part)
    side.write_bytes(side.read_bytes()[: int(keep * side.stat().st_size)])
    with pytest.raises(InputError, match=says):
        read_pois(path)


def test_shapefile_without_an_index(tmp_path):
    path = write_shapefile(tmp_path / "p.shp")
    path.with_suffix(".shx").unlink()
    assert len(read_pois(path)) == 50


def grid_of(n):
    side = 0.002
    corner = [(9 + side * (k % n), 45 + side * (k // n)) for k in range(n * n)]
    areas = np.array([shapely.box(x, y, x + side, y + side) for x, y in corner])
    return pd.DataFrame(
        {"lon": [x + side / 2 for x, _ in corner], "lat": [y + side / 2 for _, y in corner], "area": areas},
        index=pd.RangeIndex(n * n, name="station"),
    )


def scatter(rng, n, width):
    return pd.DataFrame(
        {
            "lon": rng.uniform(9, 9 + width, n),
            "lat": rng.uniform(45, 45 + width, n),
            "category": rng.choice(POI_CATEGORIES, n),
        }
    )


def test_counts_are_those_of_arithmetic():
    grid, pois = grid_of(20), scatter(np.random.default_rng(0), 5_000, 0.04)
    row, column = ((pois.lat - 45) // 0.002).astype(int), ((pois.lon - 9) // 0.002).astype(int)
    expected = pd.crosstab(row * 20 + column, pois.category).reindex(
        index=grid.index, columns=list(POI_CATEGORIES), fill_value=0
    )
    pd.testing.assert_frame_equal(count_pois(pois, grid), expected, check_names=False, check_dtype=False)


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_no_place_is_lost_silently(assignment, caplog):
    stations, pois = grid_of(10).assign(radius_km=0.05), scatter(np.random.default_rng(1), 3_000, 0.04)
    counts = count_pois(pois, stations, assignment)
    row, place = ASSIGNMENTS[assignment](pois.lon.to_numpy(), pois.lat.to_numpy(), stations)
    assert counts.to_numpy().sum() == len(place)
    assert (counts.attrs["assignment"], counts.attrs["n_unassigned"]) == (assignment, len(pois) - len(set(place)))
    assert (
        counts.attrs["n_unassigned"] > 1_000
        and f"{counts.attrs['n_unassigned']} of 3000 places lie beyond every station" in caplog.text
    )


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_order_of_places_and_stations_does_not_matter(assignment):
    stations, pois = grid_of(8).assign(radius_km=0.3), scatter(np.random.default_rng(2), 500, 0.016)
    shuffled = count_pois(pois.sample(frac=1, random_state=0), stations.sample(frac=1, random_state=1), assignment)
    pd.testing.assert_frame_equal(shuffled.sort_index(), count_pois(pois, stations, assignment))


def test_counts_survive_the_join_and_the_disk(tmp_path):
    stations, pois = grid_of(3), scatter(np.random.default_rng(3), 50, 0.006)
    joined = stations[["lon", "lat"]].join(count_pois(pois, stations))
    joined.to_parquet(tmp_path / "places.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "places.parquet"), joined)


def test_own_table_of_categories(tmp_path):
    table = read_categories(
        save(tmp_path / "mine.csv", "key,value,category\namenity,cafe,Entertainment\namenity,*,others\n")
    )
    path = save(tmp_path / "p.csv", "lon,lat,amenity\n9,45,cafe\n9,45,bank\n9,45,\n")
    assert read_pois(path, table).category.tolist() == ["Entertainment", "Others"]
    assert read_pois(path).category.tolist() == ["Food", "Others"]


@pytest.mark.parametrize(
    "content, says",
    [
        ("cellId,shops\n1,2\n1,3\n2,1\n3,1\n", "line 3: station 1 stands twice"),
        ("cellId,shops\n1,2\n2,3\n", "1 have none; station 3"),
        ("shops\n1\n2\n", "got 2 rows"),
        ("cellId,shops\n1,2\n2,\n3,1\n", "nan for cell 2"),
        ("cellId,shops\n1,2\n2,-1\n3,1\n", "-1 for cell 2"),
        ("cellId,name\n1,a\n2,b\n3,c\n", "at least one column of counts"),
        (b"\xff\xfeshops", "UTF-8"),
    ],
)
def test_bad_counts(tmp_path, content, says):
    with pytest.raises(InputError, match=f"counts.csv[:,] .*{says}"):
        read_counts(save(tmp_path / "counts.csv", content), pd.Index([1, 2, 3]))


@needs_data
class TestRealFiles:
    def test_map_cut_in_half(self, tmp_path):
        whole = (SHARED / "osm/Helsinki.osm.pbf").read_bytes()
        for size in (len(whole) // 2, len(whole) - 1, 1000):
            with pytest.raises(InputError, match="half.osm.pbf: expected a whole OpenStreetMap file"):
                read_pois(save(tmp_path / "half.osm.pbf", whole[:size]))

    def test_helsinki(self):
        pois = read_pois(SHARED / "osm/Helsinki.osm.pbf")
        assert len(pois) == 2_242 and set(pois.category) == set(POI_CATEGORIES)
        assert pois.lon.between(24.93, 24.96).all() and pois.lat.between(60.16, 60.18).all()

    def test_jiangxi(self):
        path = SHARED / "osm/jiangxi/gis_osm_pois_free_1.shp"
        pois = read_pois(path)
        with shapefile.Reader(str(path)) as reader:
            classes = [record["fclass"] for record in reader.iterRecords(fields=["fclass"])]
        assert len(pois) == len(classes) == 5_924 and len(set(classes)) == 113
        assert all(("fclass", name) in CATEGORIES for name in classes)

    def test_stops_of_milan(self):
        path = SHARED / "milan_context/public_transport_locations.csv"
        milan, stops = read_grid(SHARED / "grids/milano-grid.geojson"), pd.read_csv(path)
        counts = count_pois(read_pois(path, {("type", "*"): "Traffic"}), milan)
        named = stops.cell_id.astype(int).value_counts()
        assert counts.attrs["n_unassigned"] == 0 and counts.Traffic.sum() == 149
        assert np.minimum(counts.Traffic.reindex(named.index), named).sum() >= 143
        metro = read_pois(path, {("type", "metro"): "Traffic", ("type", "bus"): "Others"})
        assert metro.category.value_counts().to_dict() == {"Traffic": 108, "Others": 22}

    def test_trentino(self):
        grid = read_station_geometry(SHARED / "grids/trentino-grid.geojson")
        assert len(grid) == 6_575 and not set(grid.index) - set(range(1, 117 * 98 + 1))
        centres = grid[["lon", "lat"]].assign(category="Shop")
        counts = count_pois(centres, grid)
        assert (counts.Shop == 1).all() and counts.attrs[
            "n_unassigned"
        ] == 0  # every cell holds its own centre and no other's
        assert (count_pois(centres, grid, "nearest").Shop == 1).all()
