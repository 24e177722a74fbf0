"""The stages of a run, their configuration read and their results kept in a folder; imported when they are first used."""

from importlib import import_module

_MODULES = {  # without functions that are called like a submodule: run, evaluate, sweep
    "lock_run": "run_folder",
    "read_manifest": "run_folder",
    "SOURCES": "sources",
    "City": "dataset",
    "Datasets": "dataset",
    "Embeddings": "dataset",
    "load_city": "dataset",
    "make_datasets": "dataset",
    "pretrain_graphs": "dataset",
    "METHODS": "methods",
    "build_method": "methods",
    "distill_method": "methods",
    "train_method": "methods",
    "fit_scale_head": "scales",
    "Evaluator": "evaluate",
    "evaluate_run": "evaluate",
    "generate_samples": "evaluate",
    "embed_sites": "sites",
    "read_sites": "sites",
    "Places": "places",
    "TrafficModel": "generate",
    "generate_traffic": "generate",
    "make_request": "generate",
    "write_traffic": "generate",
    "RunResults": "run",
    "load_run": "run",
    "expand_study": "studies",
    "load_study": "studies",
    "collect_metrics": "sweep",
}
__all__ = list(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
