"""Decisions made on training days and paid on held-out days: overload, three new sites, sleeping sites.

    for name in milan_28 demo; do stouter run $name --out runs/run/$name/seed0; done
    OMP_NUM_THREADS=1 python benchmarks/planning.py runs/run/milan_28/seed0 --json nbs/results/planning.json
    OMP_NUM_THREADS=1 python benchmarks/planning.py runs/run/demo/seed0 --samples 32 --json nbs/results/planning.json

Every method sees the training days only and gives scenarios of the test days; capacities follow the rule from the
training days. `STOUTER, independent` and `STOUTER, joint` are the same network and sampler, with white noise and with
noise of the run's latent field. Each method gives twice the number of samples: a decision is made on the first half;
`promised` is its outcome there, `fresh` that on the second half, `seen` that on the held-out days. From promised to
fresh is what choosing on few samples costs, from fresh to seen what is wrong with the samples. Regret is against a
decision that knows the held-out days. Stations with a missing test or training hour are left out.
"""

import argparse
import platform
from pathlib import Path

import numpy as np
import pandas as pd

from stouter.data.traffic import Traffic
from stouter.files import read_json, write_json
from stouter.joint.calibration import generate_joint
from stouter.joint.field import white_field
from stouter.joint.inversion import noise_size
from stouter.pipeline.run import RunResults, load_run
from stouter.planning.load import load_table, overload_probability
from stouter.planning.placement import candidate_squares, choose_places, excess_load
from stouter.planning.power import PowerModel
from stouter.planning.reassignment import DemandPoints, demand_points, neighbours_of, serve
from stouter.planning.scenarios import Scenarios, capacity_rule, is_overloaded, make_scenarios, pool_groups
from stouter.planning.sleep import oracle_outcome, sleep_outcome, sleep_schedule

TIGHT, ROOMY, ALPHA, N_PLACES = 1.0, 1.2, 0.05, 3  # capacity over the 0.95 quantile of the busy hours; two networks
MARGINS = (0.0, 0.1, 0.2, 0.3)  # fractions of every capacity that a sleep schedule keeps free
N_TOGETHER = 5  # a station and its nearest others, whose sum is compared


def split_days(results: RunResults) -> tuple[Traffic, Traffic]:
    "Traffic of the training and of the test days, stations without gaps."
    traffic = results.city.evaluated.traffic
    days = results.data.test_periods.days.tz_localize(None)
    service = traffic.services[0]
    complete = np.isfinite(traffic.values(service)).all(1)
    traffic = traffic.select(stations=list(traffic.stations.index[complete]))
    return traffic.select(last=days[0] - pd.Timedelta(1, "D")), traffic.select(first=days[0], last=days[-1])


def network_samples(results: RunResults, stations: pd.Index, n_samples: int) -> dict[str, np.ndarray]:
    "Samples (S, N, H) of the test days in physical units, with independent noise and with that of the run's field."
    data, known = results.data, results.city.traffic.stations
    row, day = data.test.condition.station.numpy(), data.test_periods.day_numbers
    tested = known.iloc[row[:: len(day)]]
    position = tested.index.get_indexer(stations)
    fields = {"independent": white_field(noise_size(results.method, data.known.x.shape[1])), "joint": results.field}
    samples = {}
    for name, field in fields.items():
        lonlat = tested[["lon", "lat"]].to_numpy()
        x = generate_joint(results.method, data.test.condition, field, lonlat, day, n_samples, results.seed)
        volumes = data.scaler.inverse_transform(x.reshape(n_samples, len(row), -1), row)
        samples[f"STOUTER, {name}"] = volumes.reshape(n_samples, len(tested), -1)[:, position]
    return samples


def past_days(train: Traffic, test: Traffic, n_samples: int, seed: int) -> dict[str, np.ndarray]:
    "Scenarios (S, N, H) without a network: mean of the training days, and whole city days, both by day type."
    past = train.values(train.services[0]).reshape(len(train.stations), -1, 24)
    is_weekend, is_test_weekend = (t.hours[::24].day_of_week >= 5 for t in (train, test))
    generator = np.random.default_rng(seed)
    average, city_days = [], []
    for kind in is_test_weekend:
        pool = np.flatnonzero(is_weekend == kind)
        average.append(np.repeat(past[:, pool].mean(1)[None], 2, 0))
        city_days.append(past[:, generator.choice(pool, n_samples)].swapaxes(0, 1))
    return {"historical average": np.concatenate(average, 2), "bootstrap": np.concatenate(city_days, 2)}


def pay_load(planned_on: Scenarios, real: Scenarios, link: pd.Series) -> dict[str, float]:
    "Rate of overloaded hours of sites and of the sum of all: promised and seen; Brier score of the sites."
    promised = overload_probability(planned_on)["probability"].to_numpy()
    seen = is_overloaded(real.load, real.sites)[0].ravel()
    row = {"promised_rate": promised.mean(), "seen_rate": seen.mean(), "brier": ((promised - seen) ** 2).mean()}
    city_sum, real_sum = (pool_groups(s, ["city"] * len(s.sites), link) for s in (planned_on, real))
    row |= {"promised_sum_hours": load_table(city_sum)["expected_hours"].iloc[0]}
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


def oracle_saved(real: Scenarios, points: DemandPoints) -> float:
    "Fraction of the energy that a schedule with knowledge of the held-out days saves without an overload."
    power, all_on = PowerModel(), np.zeros(real.load.shape[1:], bool)
    oracle, base = oracle_outcome(real, all_on, power, points), sleep_outcome(real, all_on, power, points)
    return float(1 - oracle.energy_kwh.sum() / base.energy_kwh.sum())


def pay_sleep(loads: dict[str, Scenarios], margin: float, points: DemandPoints) -> dict[str, float]:
    "Energy saved and hours with an overload of one schedule: `promised`, `fresh` and `seen`."
    power = PowerModel()
    asleep = sleep_schedule(loads["promised"], power, ALPHA, points, margin=margin)
    is_used, row = asleep.any(0), {"margin": margin}
    for name, scenarios in loads.items():
        all_on = sleep_outcome(scenarios, np.zeros_like(asleep), power, points)
        planned = sleep_outcome(scenarios, asleep, power, points)
        saved = (all_on.energy_kwh - planned.energy_kwh).sum(1)
        caused = planned.overload & ~all_on.overload
        row |= {
            f"{name}_saved": saved.mean() / all_on.energy_kwh.sum(1).mean(),
            f"{name}_rate": planned.overload[:, is_used].mean() if is_used.any() else 0.0,
            f"{name}_caused": caused.sum(1).mean(),
        }
    row["seen_overload_days"] = (planned.overload & is_used)[0].reshape(-1, 24).sum(1).tolist()
    return row | {"hours_with_sleep": int(is_used.sum()), "site_hours_asleep": asleep.mean()}


def compare_tails(samples: np.ndarray, real: np.ndarray, near: np.ndarray) -> dict[str, float]:
    "Level, and the rate of real hours above all S samples, which is 1 / (S + 1) for days like the samples."
    row = {"level": real.sum() / samples.sum((1, 2)).mean(), "expected": 1 / (len(samples) + 1)}
    parts = {"station": (samples, real), "near": (samples[:, near].sum(2), real[near].sum(1))}
    parts["city"] = samples.sum(1), real.sum(0)
    return row | {name: float((seen > drawn.max(0)).mean()) for name, (drawn, seen) in parts.items()}


def nearest_sites(sites: pd.DataFrame, points: DemandPoints) -> np.ndarray:
    "Rows (N, N_TOGETHER) of each site and its nearest others."
    centre = points._replace(xy=np.stack([points.xy[points.owner == n].mean(0) for n in range(len(sites))]))
    return neighbours_of(centre._replace(reach_km=np.inf), sites)[:, :N_TOGETHER]


def plain(row: dict) -> dict:
    "Numbers that JSON can hold."
    return {k: float(v) if isinstance(v, np.floating) else v for k, v in row.items()}


def run_rows(results: RunResults, n_samples: int, seed: int) -> dict:
    "All decisions of all methods for one run: `rows` of the methods, `sleep` of the schedules."
    train, test = split_days(results)
    sites, service = test.stations[["lon", "lat"]], test.services[0]
    drawn = {**network_samples(results, sites.index, 2 * n_samples), **past_days(train, test, 2 * n_samples, seed)}
    past = train.values(service)[None].astype(float)
    capacity = capacity_rule(past, train.hours, factor=TIGHT)
    link = pd.Series({"city": capacity_rule(past.sum(1, keepdims=True), train.hours, factor=TIGHT)[0]})
    points, rows, sleep_rows = demand_points(sites), [], []
    near = nearest_sites(sites, points)
    tight, roomy = (make_scenarios(test, sites.assign(capacity=f * capacity), service) for f in (TIGHT, ROOMY))
    best = oracle_saved(roomy, points)
    for method, volumes in drawn.items():
        half = np.array_split(np.asarray(volumes, float), 2)
        about = {"data": results.config.name, "method": method, "n_samples": len(half[0])}
        row = {f"load_{k}": v for k, v in pay_load(tight._replace(load=half[0]), tight, link).items()}
        row |= {f"place_{k}": v for k, v in pay_places(tight._replace(load=half[0]), tight, points).items()}
        row |= {f"above_{k}": v for k, v in compare_tails(half[0], tight.load[0], near).items()}
        rows.append(plain(about | row))
        print(rows[-1], flush=True)
        loads = {"promised": roomy._replace(load=half[0]), "fresh": roomy._replace(load=half[1]), "seen": roomy}
        for margin in MARGINS:
            sleep_rows.append(plain(about | pay_sleep(loads, margin, points)))
            print(sleep_rows[-1], flush=True)
    return {"rows": rows, "sleep": sleep_rows, "oracle_saved": best}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--samples", type=int, default=64, help="of each half")
    parser.add_argument("--seed", type=int, default=0, help="of the days that are drawn from the past")
    parser.add_argument("--json", type=Path, required=True, help="runs that it holds are not repeated")
    arguments = parser.parse_args()
    settings = {"alpha": ALPHA, "factor_load_place": TIGHT, "factor_sleep": ROOMY, "n_places": N_PLACES}
    settings |= {"n_together": N_TOGETHER, "seed": arguments.seed, "machine": platform.machine()}
    kept = read_json(arguments.json, {})
    for results in map(load_run, arguments.runs):
        name = f"{results.config.name}/seed{results.seed}"
        if name not in kept.get("runs", {}):
            kept.setdefault("runs", {})[name] = run_rows(results, arguments.samples, arguments.seed)
            write_json(arguments.json, {"settings": settings, **kept})


if __name__ == "__main__":
    main()
