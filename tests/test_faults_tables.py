"Tables of traffic that people have: each is read right, or refused in one line that names file, line or field."

import datetime
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from stouter.data.coverage import drop_constant
from stouter.data.dataset import StationScaler
from stouter.data.labels import check_stations
from stouter.data.stations import read_stations
from stouter.data.tabular import read_traffic
from stouter.data.traffic import Traffic, open_traffic, save_traffic
from stouter.files import InputError
from stouter.pipeline.evaluate_tables import evaluate
from stouter.pipeline.traffic_tables import read_traffic_table, to_array

ROME = "Europe/Rome"
STATIONS = pd.DataFrame({"lon": [9.19, 9.20], "lat": [45.46, 45.47]}, index=["A", "B"])
HOURS = pd.date_range("2013-10-26", periods=72, freq="h", tz=ROME)  # with the hour that occurs twice
SHORT = pd.date_range("2013-11-01", periods=3, freq="h", tz=ROME)
ROWS = pd.MultiIndex.from_product([["A", "B"], HOURS, ["net"]], names=["station", "time", "service"])
ROWS = ROWS.to_frame(index=False).assign(value=1.0)
CUBE = np.ones((2, 72, 1))


def spoiled(column, value, row=5, dtype=object):
    "The table of ones with one cell replaced."
    values = ROWS[column].astype(dtype)
    values.iloc[row] = value
    return ROWS.assign(**{column: values})


def total(traffic):
    "Stations, hours and the sum of all volumes."
    sizes = traffic.dataset.sizes
    return sizes["station"], sizes["hour"], float(np.nansum(traffic.dataset.volume))


def from_frame(frame, stations=STATIONS, timezone=ROME):
    return Traffic.from_frame(frame, stations, timezone, "MB")


def from_array(values, stations=STATIONS, hours=HOURS, services=("net",)):
    return Traffic.from_array(values, stations, hours, services, ROME, "MB")


def python_times(zone=None):
    "The times as objects of Python; with a zone of fixed offsets that change, or with the zone itself."
    times = [time.to_pydatetime() for time in ROWS.time]
    if zone is None:
        times = [time.replace(tzinfo=datetime.timezone(time.utcoffset())) for time in times]
    return ROWS.assign(time=pd.Series(times, dtype=object))


def ten_minutes(n=6):
    "Three hours of ten-minute rows of A and B; `n` of them in the last hour."
    times = pd.date_range("2013-11-01", periods=12 + n, freq="10min", tz=ROME)
    keys = pd.MultiIndex.from_product([["A", "B"], times, ["net"]], names=["station", "time", "service"])
    return keys.to_frame(index=False).assign(value=1.0)


def ids(stations, rows):
    "Two stations with these ids in the table of stations and in the rows; ids of the result."
    table = STATIONS.set_axis(stations)
    frame = pd.DataFrame({"station": pd.Series(rows).repeat(3).to_numpy(), "time": [*SHORT, *SHORT], "service": "net"})
    frame["value"] = np.arange(6.0)
    traffic = from_frame(frame, table)
    return traffic.stations.index.tolist(), traffic.values("net").sum(1).tolist()


BIG = 2**53 + 1
HUGE = 2**63 + 5
GOOD = (2, 72, 144.0)
FRAMES = {  # name: (what is made, the right answer or the words of the refusal)
    "good": (lambda: total(from_frame(ROWS)), GOOD),
    "masked array": (
        lambda: total(from_array(np.ma.masked_equal(np.where(np.arange(72)[:, None] == 3, 777.0, CUBE), 777.0))),
        (2, 72, 142.0),
    ),
    "masked integers": (
        lambda: total(from_array(np.ma.masked_array(CUBE.astype(int), np.arange(72)[:, None] * CUBE == 3))),
        (2, 72, 142.0),
    ),
    "array of text": (lambda: from_array(CUBE.astype(str)), "volumes are text"),
    "array of objects": (lambda: total(from_array(CUBE.astype(object))), GOOD),
    "array with None": (
        lambda: total(from_array(np.where(np.arange(72)[:, None] == 3, None, CUBE))),
        (2, 72, 142.0),
    ),
    "array with pd.NA": (
        lambda: total(from_array(np.where(np.arange(72)[:, None] == 3, pd.NA, CUBE))),
        (2, 72, 142.0),
    ),
    "array of complex": (lambda: from_array(CUBE * 1j), "volumes are complex128"),
    "array of bool": (lambda: from_array(CUBE > 0), "volumes are bool"),
    "services as one word": (lambda: from_array(CUBE, services="net"), r"services.*'net'.*\['net'\]"),
    "service twice": (lambda: from_array(np.ones((2, 72, 2)), services=["net", "net"]), "service net .*twice"),
    "service no text": (lambda: from_array(CUBE, services=[7]), "service 7 is no text"),
    "hours as objects": (
        lambda: total(from_array(CUBE, hours=pd.Index(python_times().time[:72]))),
        GOOD,
    ),
    "hours as text": (lambda: from_array(CUBE, hours=HOURS.astype(str)), "hours: .*text"),
    "hours with NaT": (lambda: from_array(CUBE, hours=HOURS[:71].append(pd.DatetimeIndex([pd.NaT], tz=ROME))), "NaT"),
    "hours of the year 3000": (
        lambda: from_array(CUBE, hours=pd.date_range("3000-01-01", periods=72, freq="h", tz=ROME, unit="us")),
        "hours: .*3000",
    ),
    "offsets that change": (lambda: total(from_frame(python_times())), GOOD),
    "times of Python with a zone": (lambda: total(from_frame(python_times(ROME))), GOOD),
    "times as text": (
        lambda: from_frame(ROWS.assign(time=ROWS.time.astype(str))),
        "column time holds text.*read_traffic",
    ),
    "times as numbers": (lambda: from_frame(ROWS.assign(time=range(144))), "column time holds int64"),
    "no time": (lambda: from_frame(spoiled("time", pd.NaT, dtype=ROWS.time.dtype)), "row 5: no time"),
    "ten minutes": (lambda: from_frame(ten_minutes()), r"row 1: .*00:10.* full hour.*sum"),
    "half hours": (lambda: from_frame(ROWS.assign(time=ROWS.time + pd.Timedelta("30min"))), "full hour"),
    "milliseconds": (lambda: from_frame(ROWS.assign(time=ROWS.time + pd.Timedelta("4ms"))), "full hour"),
    "Kolkata in UTC": (
        lambda: total(from_frame(ROWS.assign(time=ROWS.time + pd.Timedelta("30min")), timezone="Asia/Kolkata")),
        GOOD,
    ),
    "1970 beside 2013": (
        lambda: from_frame(spoiled("time", pd.Timestamp("1970-01-01", tz=ROME), dtype=ROWS.time.dtype)),
        "1970-01-01.*2013-10-26.*no row",
    ),
    "value negative": (lambda: from_frame(spoiled("value", -1.0)), "net of station A at 2013-10-26 05:00.* is -1.0"),
    "value infinite": (lambda: from_frame(spoiled("value", np.inf)), "net of station A at .* is inf"),
    "value as text": (lambda: from_frame(ROWS.assign(value="1.5")), "column value holds text.*'1.5'.*to_numeric"),
    "one value as text": (lambda: from_frame(spoiled("value", "1.5")), "column value holds text.*'1.5'"),
    "values as objects": (lambda: total(from_frame(spoiled("value", Decimal("3")))), (2, 72, 146.0)),
    "value None": (lambda: total(from_frame(spoiled("value", None))), (2, 72, 143.0)),
    "value nullable": (lambda: total(from_frame(spoiled("value", pd.NA, dtype="Int64"))), (2, 72, 143.0)),
    "value nullable float": (lambda: total(from_frame(spoiled("value", pd.NA, dtype="Float64"))), (2, 72, 143.0)),
    "value pyarrow": (lambda: total(from_frame(ROWS.assign(value=ROWS.value.astype("int64[pyarrow]")))), GOOD),
    "value bool": (lambda: from_frame(ROWS.assign(value=True)), "column value holds bool"),
    "value twice": (lambda: from_frame(pd.concat([ROWS, ROWS[["value"]]], axis=1)), "column value stands twice"),
    "value twice by case": (lambda: from_frame(ROWS.assign(Value=2.0)), "columns value and Value"),
    "service categorical": (lambda: total(from_frame(ROWS.assign(service=ROWS.service.astype("category")))), GOOD),
    "no service": (lambda: from_frame(spoiled("service", None)), "row 5: no service"),
    "service with a space": (lambda: total(from_frame(spoiled("service", " net"))), GOOD),
    "sample as text": (lambda: from_frame(ROWS.assign(sample="first")), "column sample.*whole numbers"),
    "no sample": (lambda: from_frame(ROWS.assign(sample=[np.nan, *[0.0] * 143])), "row 0: no sample"),
    "ids with spaces": (lambda: ids(["A", "B"], ["A ", " B"]), (["A", "B"], [3, 12])),
    "spaces in the stations": (lambda: ids([" A", "B "], ["A", "B"]), (["A", "B"], [3, 12])),
    "leading zeros": (lambda: ids(["007", "012"], ["007", "012"]), (["007", "012"], [3, 12])),
    "leading zeros lost": (lambda: ids(["007", "012"], [7, 12]), r"station 7 \(a number\).*'007' \(text\)"),
    "numbers and text": (lambda: ids([7, 12], ["7", "12"]), ([7, 12], [3, 12])),
    "text and numbers": (lambda: ids(["7", "12"], [7, 12]), (["7", "12"], [3, 12])),
    "floats": (lambda: ids([7, 12], [7.0, 12.0]), ([7, 12], [3, 12])),
    "one number, one text": (lambda: ids([7, 12], [7, "12"]), ([7, 12], [3, 12])),
    "beyond 2^53": (lambda: ids([BIG, BIG + 1], [BIG, BIG + 1]), ([BIG, BIG + 1], [3, 12])),
    "floats beyond 2^53": (
        lambda: ids([BIG, BIG + 1], [float(BIG), 12.0]),
        "row 0: expected a station id, .* last digits are lost",
    ),
    "beyond 2^63": (lambda: ids([HUGE, HUGE + 1], [HUGE, HUGE + 1]), ([str(HUGE), str(HUGE + 1)], [3, 12])),
    "beyond 2^63 as text": (lambda: ids([HUGE, 12], [str(HUGE), "12"]), ([str(HUGE), "12"], [3, 12])),
    "NA is an id": (lambda: ids(["NA", "nan"], ["NA", "nan"]), (["NA", "nan"], [3, 12])),
    "4E2 is an id": (lambda: ids(["4E2", "400"], ["4E2", "400"]), (["4E2", "400"], [3, 12])),
    "nullable ids": (
        lambda: ids(pd.array([7, 12], dtype="Int64"), pd.array([7, 12], dtype="Int64")),
        ([7, 12], [3, 12]),
    ),
    "no id": (lambda: from_frame(spoiled("station", None)), "row 5: no station"),
    "empty id": (lambda: from_frame(spoiled("station", " ")), "row 5: no station"),
    "ids that are fractions": (lambda: ids([7, 12], [7.5, 12]), "row 0: expected a station id, 7.5 is neither"),
    "same id twice by space": (
        lambda: from_frame(pd.concat([ROWS, ROWS[:1].assign(station="A ")])),
        "station A at .* stands twice",
    ),
    "unknown id": (lambda: from_frame(spoiled("station", "C")), "station C is not in the table of stations"),
    "stations twice by space": (lambda: from_frame(ROWS, STATIONS.set_axis(["A", "A "])), "station A stands twice"),
    "stations count as text": (
        lambda: check_stations(STATIONS.assign(Food=["1,234", "7"])),
        "Food of station A is '1,234'.*text",
    ),
    "stations count half text": (lambda: check_stations(STATIONS.assign(Food=[3, "x"])), "Food of station B is 'x'"),
    "stations other numbers": (lambda: list(check_stations(STATIONS.assign(height=[3, 4]))), ["lon", "lat"]),
    "stations named counts": (
        lambda: list(check_stations(STATIONS.assign(height=[3, 4], Food=1), ["height"])),
        ["lon", "lat", "height"],
    ),
    "stations named count is not there": (lambda: check_stations(STATIONS, ["Food"]), "no column of numbers 'Food'"),
    "stations with names": (lambda: list(check_stations(STATIONS.assign(name=["Duomo", None]))), ["lon", "lat"]),
    "stations count nullable": (
        lambda: check_stations(STATIONS.assign(Food=pd.array([1, pd.NA], dtype="Int64"))),
        "Food of station B is nan",
    ),
    "stations lon as objects": (
        lambda: check_stations(STATIONS.astype({"lon": object})).lon.tolist(),
        [9.19, 9.20],
    ),
    "stations lon as text": (
        lambda: check_stations(STATIONS.astype({"lon": str})),
        "lon of station A is '9.19'.*text",
    ),
    "stations column twice": (
        lambda: check_stations(pd.concat([STATIONS, STATIONS[["lon"]]], axis=1)),
        "column lon stands twice",
    ),
    "stations column twice by case": (lambda: check_stations(STATIONS.assign(Lon=0.0)), "columns lon and Lon"),
    "stations lon and longitude": (
        lambda: check_stations(STATIONS.assign(longitude=0.0)),
        "columns lon and longitude",
    ),
}

HEAD = "station,time,service,value,lon,lat\n"
LINES = "7,2013-11-01 00:00,net,1,9.1,45\n7,2013-11-01 01:00,net,2,9.1,45\n"
FILES = {  # name: (name of the file, its content, more arguments, the right sum or the words of the refusal)
    "good": ("a.csv", HEAD + LINES, {}, (1, 2, 3)),
    "semicolons, decimal comma": (
        "a.csv",
        HEAD.replace(",", ";") + "7;2013-11-01 00:00;net;1,5;9,1;45\n7;2013-11-01 01:00;net;2;9,1;45\n",
        {},
        (1, 2, 3.5),
    ),
    "thousands": ("a.csv", HEAD + LINES + '7,2013-11-01 02:00,net,"1,234",9.1,45\n', {}, r"a.csv, line 4: .*'1,234'"),
    "unit in the cell": ("a.csv", HEAD + LINES.replace("net,2", "net,2 MB"), {}, r"line 3: .*'2 MB'"),
    "infinite": ("a.csv", HEAD + LINES.replace("net,2", "net,inf"), {}, "line 3: expected a number from 0 up"),
    "minus one": ("a.csv", HEAD + LINES.replace("net,2", "net,-1"), {}, r"line 3: .*-1.*missing"),
    "true": ("a.csv", HEAD + LINES.replace("net,1", "net,True").replace("net,2", "net,False"), {}, "line 2: .*True"),
    "no value": ("a.csv", HEAD + LINES.replace("net,2", "net,"), {}, (1, 2, 1)),
    "milliseconds since 1970": (
        "a.csv",
        HEAD + LINES.replace("2013-11-01 00:00", "1383260400000").replace("2013-11-01 01:00", "1383264000000"),
        {},
        "expected times, got numbers.*unit='ms'",
    ),
    "seconds and none": ("a.csv", HEAD + LINES.replace("01:00", "01:00:00"), {}, (1, 2, 3)),
    "milliseconds of a second": ("a.csv", HEAD + LINES.replace("01:00", "01:00:00.000"), {}, (1, 2, 3)),
    "T and Z": ("a.csv", HEAD + LINES.replace("1 0", "1T0").replace(":00,", ":00Z,"), {}, (1, 2, 3)),
    "offset of two digits": ("a.csv", HEAD + LINES.replace(":00,", ":00+01,"), {}, (1, 2, 3)),
    "offsets that change": (
        "a.csv",
        HEAD + "7,2013-10-27 02:00+02,net,1,9.1,45\n7,2013-10-27 02:00+01,net,2,9.1,45\n",
        {},
        (1, 2, 3),
    ),
    "UTC in words": ("a.csv", HEAD + LINES.replace(":00,", ":00 UTC,"), {}, (1, 2, 3)),
    "half of them with offset": (
        "a.csv",
        HEAD + LINES.replace("01:00", "01:00+01:00"),
        {},
        "some times have an offset",
    ),
    "hour 24": ("a.csv", HEAD + LINES.replace("01:00", "24:00"), {}, "line 3: .*2013-11-01 24:00"),
    "skipped hour": ("a.csv", HEAD + LINES.replace("2013-11-01 01", "2013-03-31 02"), {}, "line 3: .*does not exist"),
    "ambiguous hour": ("a.csv", HEAD + LINES.replace("2013-11-01 01", "2013-10-27 02"), {}, "line 3: .*occurs twice"),
    "day or month": ("a.csv", HEAD + LINES.replace("2013-11-01", "01/11/2013"), {}, "cannot tell the day"),
    "1970 beside 2013": ("a.csv", HEAD + LINES.replace("2013-11-01 01", "1970-01-01 01"), {}, "1970-01-01.*2013-11-01"),
    "year 3000": ("a.csv", HEAD + LINES.replace("2013", "3000"), {}, "3000"),
    "ten minutes": ("a.csv", HEAD + LINES.replace("01:00", "00:10"), {}, "line 3: 00:10:00 is no full hour.*sum_hours"),
    "value column twice by case": (
        "a.csv",
        HEAD.replace("lat", "lat,Value") + LINES.replace(",45", ",45,9"),
        {},
        "Value",
    ),
    "lon twice": (
        "a.csv",
        HEAD.replace("lat", "lat,longitude") + LINES.replace(",45", ",45,9"),
        {},
        "lon and longitude",
    ),
    "fields too many": (
        "a.csv",
        HEAD + LINES + "7,2013-11-01 02:00,net,1,234,9.1,45\n",
        {},
        "line 4: expected 6 fields",
    ),
    "fields too few": ("a.csv", HEAD + LINES + "7,2013-11-01 02:00,net,3\n", {}, "line 4: expected 6 fields"),
    "line after blank lines": ("a.csv", HEAD + "\n\n" + LINES.replace("net,2", "net,-2"), {}, "a.csv, line 5: .*'-2'"),
    "line after a quoted one of two": (
        "a.csv",
        HEAD.replace("lat", "lat,note") + (LINES.replace(",45", ',45,"two\nlines"')).replace("net,2", "net,x"),
        {},
        "a.csv, line 4: .*'x'",
    ),
    "tabs": ("a.tsv", (HEAD + LINES).replace(",", "\t"), {}, (1, 2, 3)),
    "decimal comma in quotes": ("a.csv", HEAD + LINES.replace("net,2", 'net,"2,5"'), {}, "line 3: .*'2,5'"),
    "decimal point beside semicolons": (
        "a.csv",
        (HEAD + LINES.replace("net,2", "net,2.5")).replace(",", ";"),
        {},
        (1, 2, 3.5),
    ),
    "thousands beside semicolons": (
        "a.csv",
        (HEAD + LINES.replace("net,2", "net,1.234")).replace(",", ";"),
        {},
        "line 3: .*'1.234'.*thousands",
    ),
    "id NA": ("a.csv", HEAD + LINES.replace("7,2", "NA,2"), {}, (1, 2, 3)),
    "a comment": ("a.csv", "# made by hand\n" + HEAD + LINES, {}, "no column 'station'|expected 1 fields"),
    "column twice": ("a.csv", HEAD.replace("lat", "lat,value") + LINES.replace(",45", ",45,9"), {}, "value and value"),
}


def saved(tmp_path, change):
    "A ready file, changed."
    save_traffic(from_array(CUBE), tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as opened:
        dataset = opened.load()
    change(dataset).to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    return tmp_path / "b.nc"


def with_volume(value):
    def change(dataset):
        dataset.volume[1, 5, 0] = value
        return dataset

    return change


def drop_attribute(name):
    def change(dataset):
        del dataset.attrs[name]
        return dataset

    return change


SAVED = {
    "good": (lambda dataset: dataset, GOOD),
    "missing": (with_volume(np.nan), (2, 72, 143.0)),
    "negative": (with_volume(-1), "b.nc: net of station B at 2013-10-26 05:00.* is -1.0"),
    "infinite": (with_volume(np.inf), "b.nc: net of station B .* is inf"),
    "stations twice": (lambda d: d.assign_coords(station=["A", "A"]), "b.nc.*station A stands twice"),
    "ids are fractions": (lambda d: d.assign_coords(station=[1.5, 2.5]), "b.nc.*ids"),
    "hours off the grid": (lambda d: d.assign_coords(hour=d.hour + np.timedelta64(10, "m")), "b.nc.*full hour"),
    "hours with a hole": (lambda d: d.isel(hour=[0, 1, 3]), "b.nc.*follows"),
    "hours back to front": (lambda d: d.isel(hour=slice(None, None, -1)), "b.nc.*follows"),
    "hours as numbers": (lambda d: d.assign_coords(hour=np.arange(72)), "b.nc.*hour"),
    "no zone": (drop_attribute("timezone"), "b.nc.*timezone"),
    "unknown zone": (lambda d: d.assign_attrs(timezone="Rome"), "b.nc.*unknown time zone 'Rome'"),
    "zone as a number": (lambda d: d.assign_attrs(timezone=1), "b.nc.*timezone"),
    "no unit": (drop_attribute("unit"), "b.nc.*unit"),
    "unit as a number": (lambda d: d.assign_attrs(unit=1.0), "b.nc.*unit"),
    "position": (lambda d: d.assign_coords(lat=("station", [45.0, 4500.0])), "b.nc.*lat of station B is 4500"),
    "no position": (lambda d: d.assign_coords(lat=("station", [45.0, np.nan])), "b.nc.*lat of station B is nan"),
    "service as a number": (lambda d: d.assign_coords(service=[1]), "b.nc.*service"),
    "volumes as text": (lambda d: d.assign(volume=(d.volume.dims, np.full((2, 72, 1), "1.0"))), "b.nc.*volume"),
    "negative count": (
        lambda d: d.assign_coords(category=["Food"]).assign(count=(("station", "category"), [[1.0], [-1.0]])),
        "b.nc.*Food of station B is -1",
    ),
}

DAYS = pd.date_range("2013-11-01", periods=48, freq="h", tz=ROME)
LONG = pd.DataFrame({"station": np.repeat([1, 2], 48), "time": [*DAYS, *DAYS], "service": "internet", "value": 1.0})
TABLES = {  # tables of `stouter evaluate`
    "good": (LONG, (1, 2, 48, 96.0)),
    "minus one": (
        LONG.assign(value=LONG.value.where(LONG.index != 7, -1)),
        "a.parquet.*station 1 .*07:00.* is -1.0",
    ),
    "infinite": (LONG.assign(value=LONG.value.where(LONG.index != 7, np.inf)), "a.parquet.*is inf"),
    "missing": (LONG.assign(value=LONG.value.where(LONG.index != 7)), (1, 2, 48, 95.0)),
    "text": (LONG.assign(value=LONG.value.astype(str)), "a.parquet.*column value holds text"),
    "nullable": (LONG.astype({"value": "Float64", "station": "Int64"}), (1, 2, 48, 96.0)),
    "float ids": (LONG.astype({"station": float}), (1, 2, 48, 96.0)),
    "no id": (LONG.assign(station=LONG.station.where(LONG.index != 7)), "row 7: no station"),
    "half hours": (LONG.assign(time=LONG.time + pd.Timedelta("30min")), "a.parquet.*full hour"),
    "quarters": (
        pd.concat([LONG.assign(time=LONG.time + pd.Timedelta(minutes=15 * k)) for k in range(4)], ignore_index=True),
        "a.parquet.*00:15.*full hour.*sum",
    ),
    "span": (LONG.assign(time=LONG.time.where(LONG.index != 7, pd.Timestamp(0, tz=ROME))), "1970-01-01.*no row"),
    "no zone": (LONG.assign(time=LONG.time.dt.tz_localize(None)), "time has no zone"),
    "twice": (pd.concat([LONG, LONG[:1]], ignore_index=True), "a.parquet.*stands twice"),
    "case": (LONG.assign(Value=1.0), "columns value and Value"),
    "empty": (LONG[:0], "a.parquet.*0 rows"),
    "sample": (LONG.assign(sample="a"), "a.parquet.*column sample"),
    "sample fraction": (LONG.assign(sample=0.5), "a.parquet.*column sample"),
}

ARRAYS = {
    "good": ({}, (1, 2, 48, 96.0)),
    "negative": ({"values": -np.ones((2, 48))}, "a.npz.*internet of station 1 at .* is -1"),
    "infinite": ({"values": np.full((2, 48), np.inf)}, "a.npz.*is inf"),
    "stations twice": ({"stations": [1, 1]}, "a.npz.*station 1 .*twice"),
    "ids are fractions": ({"stations": [1.5, 2]}, "a.npz.*1.5"),
    "empty id": ({"stations": ["", "b"]}, "a.npz.*no station"),
    "half hour": ({"start": "2013-11-01 00:30"}, "a.npz.*full hour"),
    "no start": ({"start": "NaT"}, "a.npz.*start"),
    "start with an offset": ({"start": "2013-11-01 00:00+01:00"}, (1, 2, 48, 96.0)),
    "start with seconds": ({"start": "2013-11-01T00:00:00"}, (1, 2, 48, 96.0)),
    "ambiguous start": ({"start": "2013-10-27 02:00"}, "a.npz.*2013-10-27 02:00.*offset"),
    "skipped start": ({"start": "2013-03-31 02:00"}, "a.npz.*2013-03-31 02:00"),
    "start far away": ({"start": "9999-01-01"}, "a.npz.*9999"),
    "two services": ({"service": ["a", "b"]}, "a.npz.*service"),
    "no position": ({"lon": [9.1, np.nan], "lat": [45.0, 45.0]}, "a.npz.*lon"),
    "lon without lat": ({"lon": [9.1, 9.2]}, "a.npz.*lat"),
}


def check(make, right):
    "What is made is right, or it is refused in one line with these words; nothing is warned of."
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if not isinstance(right, str):
            assert make() == right
            return
        with pytest.raises(InputError, match=right) as caught:
            make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FRAMES)
def test_frames(name):
    check(*FRAMES[name])


@pytest.mark.parametrize("name", FILES)
def test_files(name, tmp_path):
    file, text, arguments, right = FILES[name]
    (tmp_path / file).write_text(text)
    check(lambda: total(read_traffic(tmp_path / file, ROME, **arguments)), right)


@pytest.mark.parametrize("name", SAVED)
def test_saved(name, tmp_path):
    change, right = SAVED[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = saved(tmp_path, change)
    check(lambda: total(open_traffic(path)), right)


def sizes(path):
    values = to_array(read_traffic_table(path), path.name)[0]
    return *values.shape, float(np.nansum(values))


@pytest.mark.parametrize("name", TABLES)
def test_tables(name, tmp_path):
    frame, right = TABLES[name]
    frame.to_parquet(tmp_path / "a.parquet")
    check(lambda: sizes(tmp_path / "a.parquet"), right)


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name, tmp_path):
    changed, right = ARRAYS[name]
    arrays = {"values": np.ones((2, 48)), "stations": [1, 2], "start": "2013-11-01", "zone": ROME}
    np.savez(tmp_path / "a.npz", **{**arrays, "service": "internet", **changed})
    check(lambda: sizes(tmp_path / "a.npz"), right)


def test_samples_of_a_saved_file(tmp_path):
    save_traffic(from_array(np.ones((3, 2, 72, 1))), tmp_path / "a.nc")
    assert sizes(tmp_path / "a.nc") == (3, 2, 72, 432)


def test_large_file_is_checked_when_read(tmp_path, monkeypatch):
    monkeypatch.setattr("stouter.data.traffic.MAX_SUMMARY_BYTES", 0)
    traffic = open_traffic(saved(tmp_path, with_volume(-1)))
    for read in (lambda: traffic.values("net"), traffic.to_frame, traffic.to_xarray):
        with pytest.raises(InputError, match="net of station B at 2013-10-26 05:00.* is -1.0"):
            read()


def test_sum_hours():
    places = STATIONS.rename_axis("station")
    frame = ten_minutes()
    assert total(read_traffic(frame, ROME, places, sum_hours=True)) == (2, 3, 36)
    frame = ten_minutes(5)  # the last hour lacks a row, so it is missing
    assert total(read_traffic(frame, ROME, places, sum_hours=True)) == (2, 3, 24)
    frame = ten_minutes().assign(value=np.arange(36) != 7)
    frame["value"] = frame.value.where(frame.value).astype(float)
    assert total(read_traffic(frame, ROME, places, sum_hours=True)) == (2, 3, 30)
    frame = ten_minutes().iloc[[0, 1, 2, 4]].assign(time=lambda f: f.time + pd.Timedelta("7min"))
    with pytest.raises(InputError, match="sum_hours.*divides"):
        read_traffic(frame, ROME, places, sum_hours=True)


def test_constant_stations():
    values = np.stack([np.arange(48.0).reshape(2, 24), np.full((2, 24), 7), np.zeros((2, 24))])
    with pytest.raises(ValueError, match="2 stations .* constant.*B, C"):
        StationScaler.fit(values, pd.Index(["A", "B", "C"]))
    stations = pd.DataFrame({"lon": 9.0, "lat": 45.0}, index=["A", "B", "C"])
    traffic = from_array(values.reshape(3, 48, 1), stations, HOURS[:48])
    kept, dropped = drop_constant(traffic, "net")
    assert (kept.stations.index.tolist(), dropped) == (["A"], ["B", "C"])
    with pytest.raises(InputError, match="net .*constant"):
        drop_constant(traffic.select(stations=["B"]), "net")


def test_numbers_that_are_no_counts_are_named_once(tmp_path, caplog):
    "Heights of masts and mean traffic are no counts of places, whatever the door."
    places = pd.DataFrame({"Cell": ["A", "B"], "lon": 9.1, "lat": [45.4, 45.5], "height": [30, 25], "Shop": [1, 2]})
    rows = pd.DataFrame({"station": "A", "time": ["2013-11-01 00:00"], "value": 1.0})
    places.to_csv(tmp_path / "masts.csv", index=False)
    traffic = read_traffic(rows.rename(columns={"station": "Cell"}), ROME, tmp_path / "masts.csv", station="Cell")
    assert list(traffic.counts) == ["Shop"]
    assert [record.message for record in caplog.records] == [
        "stations table: height not used; counts have the names of the eight categories of places, or are named: "
        "counts=['height'] in Python, --counts FILE on the command line"
    ]
    named = read_traffic(
        rows.rename(columns={"station": "Cell"}), ROME, tmp_path / "masts.csv", station="Cell", counts=["height"]
    )
    assert named.counts.height.tolist() == [30, 25]


def test_evaluate_leaves_out_constant_stations(tmp_path):
    hours = pd.date_range("2013-11-01", periods=21 * 24, freq="h", tz=ROME)
    wave = pd.DataFrame({"time": hours, "service": "net", "value": 5 + np.sin(np.arange(504) / 4), "sample": 0})
    real = pd.concat([wave.assign(station="A"), wave.assign(station="B", value=5.0)])
    made = real[real.time >= hours[-168]]
    found, alone = evaluate(real, made), evaluate(real[real.station == "A"], made[made.station == "A"])
    assert found.methods == alone.methods and found.label["stations"] == 1
    assert any("1 stations with traffic that never changes" in note and "(B)" in note for note in found.left_out)


@pytest.fixture
def write_book(tmp_path):
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed; stouter reads .xlsx if it is")

    def write(rows, sheets=1):
        book = openpyxl.Workbook()
        for row in rows:
            book.active.append(row)
        for number in range(sheets - 1):
            book.create_sheet(f"notes {number}")
        book.save(tmp_path / "table.xlsx")
        return tmp_path / "table.xlsx"

    return write


def test_excel(write_book):
    "Ids as text and numbers, dates, blank rows at the end."
    head = ["station", "time", "value", "lon", "lat"]
    hours = [datetime.datetime(2013, 11, 1, hour) for hour in range(3)]
    rows = [["007", hour, 1.5 + hour.hour, 9.1, 45.4] for hour in hours]
    traffic = read_traffic(write_book([head, *rows, [None] * 5]), ROME)
    assert traffic.stations.index.tolist() == ["007"] and traffic.values("value").sum() == 7.5
    stations = read_stations(write_book([["id", "lon", "lat"], [7, 9.1, 45.4], ["8", 9.2, 45.5]]))
    assert stations.index.tolist() == [7, 8] and stations.lon.tolist() == [9.1, 9.2]


@pytest.mark.parametrize(
    "rows, sheets, words",
    [
        ([["id", "lon", "lat"], [7, 9.1, 45.4]], 2, "2 sheets, Sheet, notes 0; save the one"),
        ([["id", "lon", "lat"], [7, "=9+0.1", 45.4]], 1, "cell B2: a formula without a value"),
        ([["id", "lon", "lat"], [1234567890123456, 9.1, 45.4]], 1, "row 2: Excel keeps 15 digits"),
        ([["id", "lon", "Lon"], [7, 9.1, 45.4]], 1, "row 1: expected unique names of columns, got lon and Lon"),
        ([["id", "lon", "lat"], [7, 9.1, 45.4], [8, "east", 45.4]], 1, "row 3: .* got east"),
        ([["id", "lon", "lat"], [None, 9.1, 45.4]], 1, "row 2: no station id"),
        ([], 1, "expected a workbook of Excel, got something else .an empty sheet"),
    ],
)
def test_wrong_workbooks(write_book, rows, sheets, words):
    with pytest.raises(InputError, match=f"table.xlsx.*{words}"):
        read_stations(write_book(rows, sheets))


def test_excel_needs_its_reader(tmp_path, monkeypatch):
    (tmp_path / "table.xlsx").write_bytes(b"PK")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="table.xlsx: reading .xlsx needs openpyxl: pip install openpyxl; or save"):
        read_stations(tmp_path / "table.xlsx")
