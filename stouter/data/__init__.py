"""Traffic, records, stations, places of interest, the simulated city, datasets; a module is imported on first use."""

from importlib import import_module

_MODULES = {  # without functions that are called like a submodule: coverage, download, autocorrelation
    "Traffic": "traffic",
    "open_traffic": "traffic",
    "save_traffic": "traffic",
    "merge_directions": "traffic",
    "hour_of_week": "traffic",
    "is_weekend": "traffic",
    "filter_by_coverage": "coverage",
    "interpolate_gaps": "coverage",
    "stratified_subset": "coverage",
    "table_1": "coverage",
    "read_traffic": "tabular",
    "read_covariates": "covariates",
    "make_covariates": "covariates",
    "public_holidays": "covariates",
    "CityEffects": "city_effects",
    "find_cdr_files": "cdr",
    "ingest_cdr": "cdr",
    "IngestReport": "cdr",
    "read_stations": "stations",
    "read_grid": "stations",
    "read_station_geometry": "stations",
    "read_pois": "pois",
    "count_pois": "pois",
    "read_counts": "pois",
    "read_collection": "download",
    "plan_download": "download",
    "simulate_city": "simulated_city",
    "SimulatedCity": "simulated_city",
    "PeriodArray": "dataset",
    "StationScaler": "dataset",
    "Condition": "dataset",
    "TrafficDataset": "dataset",
    "split_into_periods": "dataset",
    "split_last": "dataset",
    "make_dataset": "dataset",
    "StationSplit": "splits",
    "split_stations": "splits",
    "read_patches": "patches",
}
__all__ = list(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
