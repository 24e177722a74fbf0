"Decisions from generated traffic: overload of sites, places of new ones, and which of them may sleep."

from .load import load_table, overload_probability, plot_overload, plot_sites
from .placement import candidate_squares, choose_places, plot_places, rank_places
from .power import PowerModel, parse_power, site_power_w
from .reassignment import DemandPoints, demand_points, serve
from .scenarios import Scenarios, make_scenarios, pool_groups, read_sites
from .sleep import oracle_outcome, plot_savings, plot_sleep, savings_table, sleep_outcome, sleep_schedule, sleep_table

__all__ = [
    "DemandPoints",
    "PowerModel",
    "Scenarios",
    "candidate_squares",
    "choose_places",
    "demand_points",
    "load_table",
    "make_scenarios",
    "oracle_outcome",
    "overload_probability",
    "parse_power",
    "plot_overload",
    "plot_places",
    "plot_savings",
    "plot_sites",
    "plot_sleep",
    "pool_groups",
    "rank_places",
    "read_sites",
    "savings_table",
    "serve",
    "site_power_w",
    "sleep_outcome",
    "sleep_schedule",
    "sleep_table",
]
