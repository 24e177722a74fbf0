"Plans: traffic is conserved whatever is switched on or off; more capacity or a larger alpha never makes a plan worse."

import numpy as np
import pandas as pd
import pytest
from conftest import stouter

from stouter.files import InputError
from stouter.planning import (
    PowerModel,
    Scenarios,
    candidate_squares,
    demand_points,
    load_table,
    overload_probability,
    pool_groups,
    rank_places,
    serve,
    sleep_outcome,
    sleep_schedule,
)
from stouter.planning.scenarios import round_load


def random_city(seed, n_sites=9, n_samples=12, n_hours=6):
    "Sites at random places on three kilometres, with joint good and bad days."
    rng = np.random.default_rng(seed)
    places = {"lon": 9.19 + 0.04 * rng.random(n_sites), "lat": 45.46 + 0.03 * rng.random(n_sites), "capacity": 100.0}
    sites = pd.DataFrame(places, pd.RangeIndex(n_sites, name="station"))
    load = rng.gamma(3, 12, (1, n_sites, n_hours)) * rng.gamma(20, 1 / 20, (n_samples, 1, 1))
    hours = pd.date_range("2013-11-04", periods=n_hours, freq="h", tz="Europe/Rome")
    return Scenarios(round_load(load * rng.gamma(40, 1 / 40, (n_samples, n_sites, n_hours))), sites, hours, "MB")


@pytest.mark.parametrize("seed", range(6))
def test_traffic_is_conserved_to_the_last_unit(seed):
    city, rng = random_city(seed), np.random.default_rng(seed)
    points = demand_points(city.sites)
    new = candidate_squares(city.sites, 1.0).iloc[:3].assign(capacity=50.0)
    places = pd.concat([city.sites, new])
    for active in (np.ones(12, bool), rng.random(12) < 0.5, np.arange(12) == 3, np.zeros(12, bool)):
        after, unserved = serve(city, points, places, active)
        np.testing.assert_array_equal(after.load.sum(1) + unserved, city.load.sum(1))  # exact
        assert not after.load[:, ~active].any() and (after.load >= 0).all()
    np.testing.assert_array_equal(unserved, city.load.sum(1))  # all off: all unserved
    today = np.arange(12) < 9
    np.testing.assert_array_equal(serve(city, points, places, today)[0].load[:, :9], city.load)  # new ones off again


def test_integers_stay_integers_in_sum():
    city = random_city(0)
    load = np.rint(city.load * 100)
    after, unserved = serve(city._replace(load=load), demand_points(city.sites), city.sites, np.arange(9) % 2 == 0)
    np.testing.assert_array_equal(after.load.sum(1) + unserved, load.sum(1))


@pytest.mark.parametrize("seed", range(4))
def test_a_larger_alpha_saves_no_less_and_the_promise_is_kept(seed):
    city, power = random_city(seed), PowerModel()
    points = demand_points(city.sites)
    all_on = sleep_outcome(city, np.zeros((9, 6), bool), power, points)
    saved = []
    for alpha in (0, 0.1, 0.3, 0.6, 1):
        asleep = sleep_schedule(city, power, alpha, points)
        outcome = sleep_outcome(city, asleep, power, points)
        saved.append((all_on.energy_kwh - outcome.energy_kwh).sum(1).mean())
        assert (outcome.overload.mean(0)[asleep.any(0)] <= alpha).all()
        assert not (outcome.unserved > 0).any()
    assert (np.diff(saved) >= -1e-9).all() and saved[-1] > 0


@pytest.mark.parametrize("seed", range(4))
def test_more_capacity_never_overloads_more(seed):
    city, power = random_city(seed), PowerModel()
    points = demand_points(city.sites)
    asleep = sleep_schedule(city, power, 0.2, points)
    larger = [city._replace(sites=city.sites.assign(capacity=c)) for c in (40.0, 70.0, 100.0, 200.0)]
    hours = [load_table(one)["expected_hours"].sum() for one in larger]
    rates = [sleep_outcome(one, asleep, power, points).overload.mean() for one in larger]
    assert hours == sorted(hours, reverse=True) and rates == sorted(rates, reverse=True) and hours[0] > hours[-1]


def test_independent_samples_understate_the_overload_of_sums():
    city, rng = random_city(1, n_samples=400), np.random.default_rng(0)
    order = rng.permuted(np.tile(np.arange(400)[:, None], (1, 9)), axis=0)
    independent = city._replace(load=city.load[order, np.arange(9)])  # each site has the same samples, shuffled
    pd.testing.assert_series_equal(load_table(city)["expected_hours"], load_table(independent)["expected_hours"])
    link = pd.Series({"all": float(np.quantile(city.load.sum(1), 0.95))})
    pooled = [pool_groups(s, ["all"] * 9, link) for s in (city, independent)]
    joint, own = (overload_probability(s)["probability"].sum() for s in pooled)
    assert own < 0.5 * joint and joint > 0.2


def test_a_new_site_beside_the_only_overloaded_one_is_the_best_of_five():
    city = random_city(2)
    load = np.full_like(city.load, 20)
    load[:, 4] = 150
    toy = city._replace(load=load)
    offsets = city.sites.iloc[[0, 2, 4, 6, 8]][["lon", "lat"]] + [0.0005, 0.0]
    five = offsets.set_axis(pd.Index(list("ABCDE"), name="station"))
    ranking = rank_places(toy, five)
    assert ranking.index[0] == "C" and ranking["relieved"].iloc[0] > 0


def test_bad_input_is_named(tmp_path):
    city = random_city(3)
    with pytest.raises(InputError, match="site 1 owns no point"):
        demand_points(pd.concat([city.sites.iloc[:1]] * 2).set_axis([0, 1]), reach_km=1.0)
    with pytest.raises(InputError, match="all sites are at one place; give reach_km"):
        demand_points(pd.concat([city.sites.iloc[:1]] * 2).set_axis([0, 1]))
    done = stouter("plan", "load", tmp_path / "none.nc", check=False)
    assert done.returncode == 2 and "none.nc" in done.stderr and "Traceback" not in done.stderr
