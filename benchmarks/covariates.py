"""Effects of covariates: put into a simulated city by hand and estimated from generated traffic; and real holidays.

    OMP_NUM_THREADS=1 python benchmarks/covariates.py runs/covariates --part city --compare --updates 1000 \\
        --json nbs/results/covariates.json
    OMP_NUM_THREADS=1 python benchmarks/covariates.py runs/covariates --part city --seeds 1 --updates 2000 \\
        --json nbs/results/covariates.json
    OMP_NUM_THREADS=1 python benchmarks/covariates.py runs/covariates --part milan --json nbs/results/covariates.json
    OMP_NUM_THREADS=1 python benchmarks/covariates.py runs/covariates --part square --json nbs/results/covariates.json

`city`: 64 stations, 84 days from 1 April 2013, the last 14 held out, with four holidays (one of them a Sunday) in
training. Rain, matches and holidays change the traffic by known factors. A network is trained with covariates, and one
without. The effect of rain is the ratio of generated traffic with the recorded rain of the test days and without, in
hours with rain, and so is that of matches near the stadium; that of holidays is the ratio of working days generated as
holidays and as ordinary days, and its true value follows from land use and the factor. Noise is the same in both.

`milan`: Milan-28 with the holidays of IT/MI and without, CRPS of the held-out last week, which has no holiday; and
1 November, the only holiday on a working day, which both networks were trained on.

`square`: one square of Milan, two months, trained to 6 December and tested on the rest, with five holidays. References
are pools of training days: of the same weekday, of its day type, and the Sundays. Finished rows are not computed again.
"""

import argparse
import platform
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from stouter.config_file import load_config
from stouter.data.city_model import LAND_USES, draw_city, effective_weekday, make_rng, service_levels, weekly_activity
from stouter.data.covariates import public_holidays
from stouter.data.simulated_city import SimulatedCity
from stouter.data.traffic import Traffic, save_traffic
from stouter.evaluation.proper_scores import crps
from stouter.files import find_above, read_json, write_json
from stouter.pipeline.generate import generate_traffic, make_request
from stouter.pipeline.run import RunResults, load_run, run

EFFECTS = {"holiday": -0.2, "rain": -0.2, "match": 1.5}
N_STATIONS, N_DAYS, N_TEST, FIRST, N_SAMPLES = 64, 84, 14, "2013-04-01", 8
HOLIDAYS = {"data.covariates.country": "IT", "data.covariates.subdivision": "MI"}


def make_run(name: str, settings: dict, folder: Path, seed: int, like: Path | None = None) -> RunResults:
    "A finished run; pretrained graphs and traffic of another run of the same data are taken over."
    if like and not folder.exists():
        folder.mkdir(parents=True)
        for file in ("traffic.nc", "stations.parquet", "graph_time.safetensors", "graph_space.safetensors"):
            shutil.copy(like / file, folder / file)
    run(load_config(name, settings), seed, folder)
    return load_run(folder)


def generate(results: RunResults, first, last, *tables: pd.DataFrame) -> np.ndarray:
    "Mean of the samples (N, H) with other covariates; the noise does not depend on them."
    request = make_request(results.model_with(covariates=tables), first, last, N_SAMPLES, 0, None)
    return generate_traffic(request).values(results.config.data.service).mean(0)


def true_holiday_ratio(days: pd.DatetimeIndex) -> np.ndarray:  # (N, D)
    "Expected traffic of a holiday over that of the ordinary day, of each station."
    rng = make_rng(0, 0)
    model = draw_city(N_STATIONS, rng)
    levels, activity = service_levels(model, rng)[:, 4], weekly_activity()
    rhythm = levels[:, None] * (model.land_use @ activity).reshape(N_STATIONS, 7, 144).sum(2)
    ordinary = rhythm[:, [effective_weekday(day) for day in days]]
    return (1 + EFFECTS["holiday"]) * rhythm[:, :1] / ordinary, ordinary


def city_settings(folder: Path, updates: int) -> dict:
    "Settings of the simulated city."
    city = SimulatedCity(folder / "city", [], Path(), Path(), Path())
    return {
        "name": "city_with_effects",
        "data.source.n_stations": str(N_STATIONS),
        "data.source.n_days": str(N_DAYS),
        "data.source.first_day": FIRST,
        "data.source.cache_dir": str(city.folder),
        **{f"data.source.{name}_effect": str(size) for name, size in EFFECTS.items()},
        "data.n_test_periods": str(N_TEST),
        "train.n_updates": str(updates),
        "evaluation.n_samples": "16",
    }


def with_tables(folder: Path) -> dict:
    "Settings of its covariates."
    return {**HOLIDAYS, "data.covariates.tables": f"[{folder}/city/weather.csv, {folder}/city/events.csv]"}


def relative_error(estimate: float, truth: float) -> dict[str, float]:
    "An effect, its true size and the error relative to it."
    return {"estimate": float(estimate), "truth": float(truth), "error": float((estimate - truth) / abs(truth))}


def effects_of(results: RunResults, folder: Path) -> dict[str, dict[str, float]]:
    "Estimated and true effects of rain, matches and holidays on the test days."
    days = results.data.test_periods.days.tz_localize(None)
    span, hours = (days[0], days[-1]), results.data.test_periods.hours
    encoder, stations = results.data.covariates, results.city.traffic.stations
    values = np.broadcast_to(encoder.covariates.values(hours, stations), (len(stations), len(hours), 3))
    holiday, rain, match = np.moveaxis(values, -1, 0) > 0
    assert encoder.covariates.columns == ("holiday", "rain", "match") and not holiday.any()
    dry = pd.DataFrame({"day": days, "rain": 0.0})
    no_match = pd.DataFrame({"day": days, "station": stations.index[0], "match": 0.0})
    no_match = pd.concat([no_match.assign(station=station) for station in stations.index])
    festive = pd.DataFrame({"day": days, "holiday": 1.0})
    recorded = generate(results, *span)
    rows = {}
    for name, is_on, table in (("rain", rain, dry), ("match", match, no_match)):
        without = generate(results, *span, table)
        rows[name] = relative_error(recorded[is_on].sum() / without[is_on].sum() - 1, EFFECTS[name])
        other = ~is_on & (is_on.any(0) if name == "match" else True)
        rows[name]["elsewhere"] = float(recorded[other].sum() / without[other].sum() - 1)
    ratio, ordinary = true_holiday_ratio(days)
    daily = [v.reshape(len(stations), -1, 24).sum(2) for v in (generate(results, *span, festive), recorded)]
    working = days.day_of_week < 5
    use = pd.read_csv(folder / "city/truth.csv", index_col="station")[list(LAND_USES)]
    groups = {"all stations": np.ones(len(stations), bool)}
    for kind in ("office", "residential"):
        groups[f"{kind} stations"] = (use[kind].rank(ascending=False) <= N_STATIONS // 4).to_numpy()
    for name, group in groups.items():
        here = np.ix_(group, working)
        truth = (ratio * ordinary)[here].sum() / ordinary[here].sum() - 1
        rows[f"holiday, {name}"] = relative_error(daily[0][here].sum() / daily[1][here].sum() - 1, truth)
    return rows


def held_out(results: RunResults, is_on: dict[str, np.ndarray]) -> dict[str, float]:
    "CRPS of the held-out days, and in some of their hours."
    real, samples = results.data.test.x.numpy(), results.samples["STOUTER"].numpy()
    whole = {"all hours": np.ones(real.shape, bool), **is_on}
    return {name: crps(real[on][:, None], samples[:, on][..., None]) for name, on in whole.items()}


def city_rows(folder: Path, seed: int, updates: int, compare: bool) -> dict:
    "Effects, and scores with covariates and, if `compare`, without."
    settings, plain = city_settings(folder, updates), None
    if compare:
        plain = make_run("demo", settings, folder / f"city_without{seed}", seed)
    like = plain and plain.folder
    told = make_run("demo", settings | with_tables(folder), folder / f"city_with{seed}", seed, like)
    numbers = told.data.test.condition.covariates.numpy()
    hours = {"hours with rain": numbers[..., 1] > 0, "hours of a match, near it": numbers[..., 2] > 0}
    scores = {name: held_out(r, hours) for name, r in (("with", told), ("without", plain)) if r}
    return {"effects": effects_of(told, folder), "crps": scores, "updates": updates}


def day_scores(results: RunResults, day: str, tables: dict[str, list[pd.DataFrame]]) -> dict[str, float]:
    "CRPS of one day of all stations, scaled by the training range, with several tables of covariates."
    scaler, rows = results.data.scaler, np.arange(len(results.city.traffic.stations))
    service = results.config.data.service
    real = scaler.transform(results.city.traffic.select(first=day, last=day).values(service), rows)
    scores = {}
    for name, given in tables.items():
        request = make_request(results.model_with(covariates=given), day, day, 32, 0, None)
        samples = generate_traffic(request).values(service)
        samples = scaler.transform(samples.reshape(-1, *samples.shape[-1:]), np.tile(rows, len(samples)))
        scores[name] = crps(real, samples.reshape(-1, *real.shape).astype(np.float32))
    return scores


def milan_rows(folder: Path, seed: int) -> dict:
    "Held-out CRPS of Milan-28 with and without holidays, and 1 November."
    plain = make_run("milan_28", {}, folder / f"milan_without{seed}", seed)
    told = make_run("milan_28", HOLIDAYS, folder / f"milan_with{seed}", seed, plain.folder)
    day, kinds = "2013-11-01", {"as a holiday": 1.0, "as an ordinary Friday": 0.0}
    tables = {name: [pd.DataFrame({"day": [day], "holiday": [value]})] for name, value in kinds.items()}
    scores = day_scores(told, day, tables) | {"without covariates": day_scores(plain, day, {"x": []})["x"]}
    periods = told.data.train_periods
    scaled = told.data.scaler.transform(periods.values.swapaxes(0, 1), np.arange(len(periods.station)))
    real, weekday = scaled[periods.days.strftime("%Y-%m-%d") == day][0], periods.days.day_of_week
    is_other = periods.days.strftime("%Y-%m-%d") != day
    for name, pool in {"pool of Sundays": weekday == 6, "pool of other Fridays": (weekday == 4) & is_other}.items():
        scores[name] = crps(real.astype(np.float32), scaled[pool].astype(np.float32))
    held = {name: r.metrics["STOUTER"]["crps"] for name, r in (("with", told), ("without", plain))}
    return {"held_out": held, "1 November": scores}


def square_traffic(path: Path) -> None:
    "Two months of one square as hourly traffic, written to a file."
    table = pd.read_csv(find_above("shared/data") / "milan_context/ts_full_square_4159.csv")
    time = pd.to_datetime(table["time_ms"], unit="ms", utc=True).dt.tz_convert("Europe/Rome")
    volume = table.groupby(time.dt.floor("h"))["internet"].sum()
    stations = pd.DataFrame({"lon": [9.18], "lat": [45.46]}, index=pd.Index([4159], name="station"))
    hours = pd.DatetimeIndex(volume.index)
    values = volume.to_numpy(np.float32)[None, :, None]
    save_traffic(Traffic.from_array(values, stations, hours, ("internet",), "Europe/Rome", "unknown"), path)


def square_rows(folder: Path, seed: int) -> dict:
    "CRPS of each kind of held-out day of one square."
    if not (path := folder / "square.nc").exists():
        folder.mkdir(parents=True, exist_ok=True)
        square_traffic(path)
    settings = {"name": "square_4159", "data.source": f"{{kind: netcdf, traffic: {path}}}", "train.n_updates": "300"}
    settings |= {"data.n_test_periods": "26", "evaluation.n_samples": "32", "graph.n_epochs": "5"}
    plain = make_run("demo", settings, folder / f"square_without{seed}", seed)
    told = make_run("demo", settings | HOLIDAYS, folder / f"square_with{seed}", seed)
    test, train = told.data.test_periods, told.data.train_periods
    days = test.days.tz_localize(None)
    names = public_holidays(days[0], days[-1], "IT", "MI")
    kinds = {day: name for day, name in names.items()}
    scaled = [told.data.scaler.transform(p.values.swapaxes(0, 1), np.arange(1))[:, 0] for p in (train, test)]
    samples = {name: r.samples["STOUTER"].numpy() for name, r in (("with", told), ("without", plain))}
    weekday, rows = train.days.day_of_week, {}
    for k, day in enumerate(days):
        own, same = day.day_of_week, (weekday >= 5) == (day.day_of_week >= 5)
        pools = {"pool of the weekday": weekday == own, "pool of the day type": same, "pool of Sundays": weekday == 6}
        ensembles = {name: x[:, k] for name, x in samples.items()}
        ensembles |= {name: scaled[0][pool] for name, pool in pools.items()}
        real = scaled[1][k : k + 1].astype(np.float32)
        scores = {name: crps(real, x[:, None].astype(np.float32)) for name, x in ensembles.items()}
        rows[str(day.date())] = {"holiday": kinds.get(day, ""), "weekday": day.day_name(), **scores}
    return {"days": rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--part", choices=["city", "milan", "square"], required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--updates", type=int, default=1500, help="of the networks of the simulated city")
    parser.add_argument("--compare", action="store_true", help="also train on the simulated city without covariates")
    options = parser.parse_args()
    functions = {
        "city": lambda seed: city_rows(options.folder, seed, options.updates, options.compare),
        "milan": lambda seed: milan_rows(options.folder, seed),
        "square": lambda seed: square_rows(options.folder, seed),
    }
    for seed in options.seeds:
        stored = read_json(options.json, {}) or {"effects": EFFECTS, "parts": {}}
        part = stored["parts"].setdefault(options.part, {})
        if str(seed) in part:
            continue
        part[str(seed)] = functions[options.part](seed)
        machine = {"processor": platform.machine(), "torch": torch.__version__, "threads": torch.get_num_threads()}
        write_json(options.json, {**stored, "machine": machine})
        print(options.part, seed, part[str(seed)], flush=True)


if __name__ == "__main__":
    main()
