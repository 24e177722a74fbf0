"""Hourly cellular traffic for base stations, with its uncertainty: ten names, imported when they are first used."""

from importlib import import_module

__version__ = "0.2.0"

_MODULES = {
    "run": "api",
    "load_run": "api",
    "load_pretrained": "api",
    "evaluate": "api",
    "load_config": "config_file",
    "Traffic": "data.traffic",
    "open_traffic": "data.traffic",
    "read_traffic": "data",
    "simulate_city": "data.simulated_city",
}
__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module 'stouter' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(f"stouter.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
