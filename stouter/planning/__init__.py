"Decisions from generated traffic: overload, new sites, sleeping sites; modules are imported when they are first used."

from importlib import import_module

_MODULES = {
    "Scenarios": "scenarios",
    "make_scenarios": "scenarios",
    "pool_groups": "scenarios",
    "read_sites": "scenarios",
    "load_table": "load",
    "overload_probability": "load",
    "plot_overload": "load",
    "plot_sites": "load",
    "DemandPoints": "reassignment",
    "demand_points": "reassignment",
    "serve": "reassignment",
    "candidate_squares": "placement",
    "choose_places": "placement",
    "plot_places": "placement",
    "rank_places": "placement",
    "rank_sites": "ranking",
    "ranking_scores": "ranking",
    "PowerModel": "power",
    "parse_power": "power",
    "site_power_w": "power",
    "oracle_outcome": "sleep",
    "plot_savings": "sleep",
    "plot_sleep": "sleep",
    "savings_table": "sleep",
    "sleep_outcome": "sleep",
    "sleep_schedule": "sleep",
    "sleep_table": "sleep",
}
__all__ = list(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
