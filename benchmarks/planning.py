"""Decisions made on training days and paid on held-out days: overload, three new sites, sleeping sites.

    for name in milan_28 demo; do stouter run $name --out runs/run/$name/seed0; done
    OMP_NUM_THREADS=1 python benchmarks/planning.py runs/run/{milan_28,demo}/seed0 --json nbs/results/planning.json

Every method sees the training days only and gives scenarios of the test days; capacities follow the rule from the
training days. The held-out days are the payment: what was promised, what was seen, and the regret against a decision
that knows these days. Stations with a missing test or training hour are left out.
"""

import argparse
import platform
from pathlib import Path

import numpy as np
import pandas as pd

from stouter.data.traffic import Traffic
from stouter.files import write_json
from stouter.pipeline.run import RunResults, load_run
from stouter.planning.load import load_table, overload_probability
from stouter.planning.placement import candidate_squares, choose_places, excess_load
from stouter.planning.power import PowerModel
from stouter.planning.reassignment import DemandPoints, demand_points, serve
from stouter.planning.scenarios import Scenarios, capacity_rule, is_overloaded, make_scenarios, pool_groups
from stouter.planning.sleep import oracle_outcome, sleep_outcome, sleep_schedule

TIGHT, ROOMY, ALPHA, N_PLACES = 1.0, 1.2, 0.05, 3  # capacity over the 0.95 quantile of the busy hours; two networks


def split_days(results: RunResults) -> tuple[Traffic, Traffic]:
    "Traffic of the training and of the test days, stations without gaps."
    traffic = results.city.evaluated.traffic
    days = results.data.test_periods.days.tz_localize(None)
    service = traffic.services[0]
    complete = np.isfinite(traffic.values(service)).all(1)
    traffic = traffic.select(stations=list(traffic.stations.index[complete]))
    return traffic.select(last=days[0] - pd.Timedelta(1, "D")), traffic.select(first=days[0], last=days[-1])


def test_samples(results: RunResults, stations: pd.Index) -> np.ndarray:
    "The run's own samples of the test days, (S, N, H) in physical units."
    row = results.data.test.condition.station.numpy()
    known = results.city.traffic.stations.index[row[:: len(row) // results.data.test.n_stations]]
    position = known.get_indexer(stations)
    x = results.samples["STOUTER"].numpy()
    volumes = results.data.scaler.inverse_transform(x, row).reshape(len(x), len(known), -1)
    return volumes[:, position]


def past_days(train: Traffic, test: Traffic, n_samples: int, seed: int) -> dict[str, np.ndarray]:
    "Scenarios (S, N, H) without a network: mean of the training days, and whole city days, both by day type."
    past = train.values(train.services[0]).reshape(len(train.stations), -1, 24)
    is_weekend, is_test_weekend = (t.hours[::24].day_of_week >= 5 for t in (train, test))
    generator = np.random.default_rng(seed)
    average, city_days = [], []
    for kind in is_test_weekend:
        pool = np.flatnonzero(is_weekend == kind)
        average.append(past[:, pool].mean(1)[None])
        city_days.append(past[:, generator.choice(pool, n_samples)].swapaxes(0, 1))
    return {"historical average": np.concatenate(average, 2), "bootstrap": np.concatenate(city_days, 2)}


def pay_load(planned_on: Scenarios, real: Scenarios, link: pd.Series) -> dict[str, float]:
    "Rate of overloaded hours of sites and of the sum of all: promised and seen; Brier score of the sites."
    promised = overload_probability(planned_on)["probability"].to_numpy()
    seen = is_overloaded(real.load, real.sites)[0].ravel()
    row = {"promised_rate": promised.mean(), "seen_rate": seen.mean(), "brier": ((promised - seen) ** 2).mean()}
    told_sum, real_sum = (pool_groups(s, ["city"] * len(s.sites), link) for s in (planned_on, real))
    row |= {"promised_sum_hours": load_table(told_sum)["expected_hours"].iloc[0]}
    return row | {"seen_sum_hours": load_table(real_sum)["expected_hours"].iloc[0]}


def pay_places(planned_on: Scenarios, real: Scenarios, points: DemandPoints) -> dict[str, float]:
    "Traffic above capacity that the chosen sites avoid: promised, seen, and that of a choice that knows the days."

    def relief(scenarios: Scenarios, chosen: pd.DataFrame) -> float:
        places = pd.concat([scenarios.sites, chosen[["lon", "lat", "capacity"]]])
        after, _ = serve(scenarios, points, places, np.ones(len(places), bool))
        return float((excess_load(scenarios.load, scenarios.sites) - excess_load(after.load, places)).mean())

    squares = candidate_squares(planned_on.sites, points.reach_km / 2)
    chosen, best = (choose_places(s, squares, N_PLACES, points) for s in (planned_on, real))
    row = {"promised": relief(planned_on, chosen), "seen": relief(real, chosen), "oracle": relief(real, best)}
    row["excess_seen"] = float(excess_load(real.load, real.sites)[0])
    return row | {"regret": 1 - row["seen"] / row["oracle"], "places": list(chosen.index), "best": list(best.index)}


def pay_sleep(planned_on: Scenarios, real: Scenarios, points: DemandPoints) -> dict[str, float]:
    "Energy saved and hours with an overload: promised, seen, and those of an oracle that knows the days."
    power = PowerModel()
    asleep = sleep_schedule(planned_on, power, ALPHA, points)
    row = {}
    for name, scenarios in {"promised": planned_on, "seen": real}.items():
        all_on = sleep_outcome(scenarios, np.zeros_like(asleep), power, points)
        planned = sleep_outcome(scenarios, asleep, power, points)
        saved = (all_on.energy_kwh - planned.energy_kwh).sum(1)
        caused = planned.overload & ~all_on.overload
        is_used = asleep.any(0)
        row |= {
            f"{name}_saved": saved.mean() / all_on.energy_kwh.sum(1).mean(),
            f"{name}_rate": planned.overload[:, is_used].mean() if is_used.any() else 0.0,
            f"{name}_caused": caused.sum(1).mean(),
        }
    oracle = oracle_outcome(real, asleep, power, points)
    row["oracle_saved"] = float(1 - oracle.energy_kwh.sum() / all_on.energy_kwh.sum())
    row |= {"hours_with_sleep": int(is_used.sum()), "site_hours_asleep": asleep.mean()}
    return row | {"seen_saved_days": (saved_by_day(all_on.energy_kwh[0], planned.energy_kwh[0])).round(5).tolist()}


def saved_by_day(all_on: np.ndarray, planned: np.ndarray) -> np.ndarray:
    "Fraction of the energy that is saved on each day, from energies (H,)."
    return 1 - planned.reshape(-1, 24).sum(1) / all_on.reshape(-1, 24).sum(1)


def run_rows(folder: Path, seed: int) -> list[dict]:
    "All decisions of all methods for one run."
    results = load_run(folder)
    train, test = split_days(results)
    sites, service = test.stations[["lon", "lat"]], test.services[0]
    samples = test_samples(results, sites.index)
    loads = {"STOUTER": samples, **past_days(train, test, len(samples), seed)}
    past = train.values(service)[None].astype(float)
    capacity = capacity_rule(past, train.hours, factor=TIGHT)
    link = pd.Series({"city": capacity_rule(past.sum(1, keepdims=True), train.hours, factor=TIGHT)[0]})
    points, rows = demand_points(sites), []
    for method, load in loads.items():
        row = {"data": results.config.name, "method": method, "n_samples": len(load), "seed": seed}
        for factor in (TIGHT, ROOMY):
            known = sites.assign(capacity=factor * capacity)
            real = make_scenarios(test, known, service)
            planned_on = real._replace(load=np.asarray(load, float))
            if factor == TIGHT:
                row |= {f"load_{k}": v for k, v in pay_load(planned_on, real, link).items()}
                row |= {f"place_{k}": v for k, v in pay_places(planned_on, real, points).items()}
            else:
                row |= {f"sleep_{k}": v for k, v in pay_sleep(planned_on, real, points).items()}
        rows.append({k: float(v) if isinstance(v, np.floating) else v for k, v in row.items()})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = [row for folder in arguments.runs for row in run_rows(folder, arguments.seed)]
    settings = {"alpha": ALPHA, "factor_load_place": TIGHT, "factor_sleep": ROOMY, "n_places": N_PLACES}
    if arguments.json:
        write_json(arguments.json, {"settings": settings, "machine": platform.machine(), "rows": rows})


if __name__ == "__main__":
    main()
