"Imports point down the building, never up and never sideways."

import ast

import pytest
from conftest import ROOT

FLOORS = [
    {"files", "style", "optim"},
    {"config", "data"},
    {"config_file", "patterns", "graphs", "diffusion", "denoisers", "evaluation"},
    {"training"},
    {"baselines"},
    {"pipeline"},
    {"plots"},
    {"html_report"},
    {"commands"},
    {"cli"},
]
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
PACKAGE = ROOT / "stouter"
MODULES = sorted(p for p in PACKAGE.rglob("[!_]*.py") if "experiments" not in p.relative_to(PACKAGE).parts)


def rooms_imported_by(source: str, package: tuple[str, ...]) -> set[str]:
    "Top-level rooms of `stouter` that a module of `package` imports."
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            names = [[*base, *(node.module or "").split("."), alias.name] for alias in node.names]
            names = [[part for part in name if part] for name in names]
        else:
            continue
        found |= {name[1] for name in names if name[0] == "stouter" and len(name) > 1 and name[1] in LEVEL}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    inside = path.relative_to(PACKAGE).with_suffix("").parts
    assert inside[0] in LEVEL, f"{inside[0]} stands on no floor"
    for other in rooms_imported_by(path.read_text(), ("stouter", *inside[:-1])) - {inside[0]}:
        assert LEVEL[other] < LEVEL[inside[0]], (
            f"{inside[0]} (floor {LEVEL[inside[0]]}) imports {other} (floor {LEVEL[other]})"
        )


@pytest.mark.parametrize(
    "source, rooms",
    [
        ("from stouter.cli import main", {"cli"}),
        ("import stouter.plots as r", {"plots"}),
        ("from stouter import cli", {"cli"}),
        ("from ..training import fit", {"training"}),
        ("def f():\n    from stouter.pipeline.run import run", {"pipeline"}),
    ],
)
def test_the_check_sees_every_form_of_import(source, rooms):
    assert rooms_imported_by(source, ("stouter", "data")) == rooms


READERS = {"config_file", "pipeline", "commands", "cli"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_wiring_knows_a_configuration(path):
    inside = path.relative_to(PACKAGE).with_suffix("").parts
    read = rooms_imported_by(path.read_text(), ("stouter", *inside[:-1])) & {"config", "config_file"}
    assert not read or inside[0] in READERS, f"{inside[0]} reads a configuration: pass it arguments"


def test_everything_below_the_dataset_does_without_torch():
    for path in MODULES:
        room = path.relative_to(PACKAGE).with_suffix("").parts
        if room[0] in {"files", "style", "config", "config_file", "data"} and room != ("data", "dataset"):
            assert "import torch" not in path.read_text(), path.name
