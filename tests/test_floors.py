"Architecture: which package may import which, how long a function may be, what `import stouter` loads."

import ast
import re
import subprocess
import sys
from importlib import import_module

import pytest
from conftest import ROOT, n_lines

import stouter

FLOORS = [
    {"files", "style", "optim", "method_fields", "config_html"},
    {"config", "data", "stores"},
    {"config_file", "patterns", "graphs", "diffusion", "denoisers", "evaluation"},
    {"training"},
    {"baselines", "joint"},
    {"pipeline", "planning"},
    {"plots"},
    {"html_report", "run_card"},
    {"commands"},
    {"cli", "api"},
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}
PACKAGE = ROOT / "stouter"
MODULES = sorted(p for p in PACKAGE.rglob("[!_]*.py") if "experiments" not in p.relative_to(PACKAGE).parts)
INITS = sorted(p for p in PACKAGE.glob("*/__init__.py"))
TREES = {path: ast.parse(path.read_text()) for path in [*MODULES, *INITS, PACKAGE / "__init__.py"]}


def id_of(path):
    return str(path.relative_to(PACKAGE))


def names_imported_by(source: str, package: tuple[str, ...]) -> list[list[str]]:
    "What a module of `package` imports, as parts of absolute names."
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            names = [[*base, *(node.module or "").split("."), alias.name] for alias in node.names]
            names = [[part for part in name if part] for name in names]
        else:
            continue
        found += names
    return found


def packages_imported_by(source: str, package: tuple[str, ...]) -> set[str]:
    "Top-level modules and packages of `stouter` that a module of `package` imports."
    names = names_imported_by(source, package)
    return {name[1] for name in names if name[0] == "stouter" and len(name) > 1 and name[1] in LEVEL}


@pytest.mark.parametrize("path", MODULES, ids=id_of)
def test_imports_point_down(path):
    inside = path.relative_to(PACKAGE).with_suffix("").parts
    assert inside[0] in LEVEL, f"{inside[0]} has no level"
    for other in packages_imported_by(path.read_text(), ("stouter", *inside[:-1])) - {inside[0]}:
        assert LEVEL[other] < LEVEL[inside[0]], (
            f"{inside[0]} (level {LEVEL[inside[0]]}) imports {other} (level {LEVEL[other]})"
        )


@pytest.mark.parametrize(
    "source, packages",
    [
        ("from stouter.cli import main", {"cli"}),
        ("import stouter.plots as r", {"plots"}),
        ("from stouter import cli", {"cli"}),
        ("from ..training import fit", {"training"}),
        ("def f():\n    from stouter.pipeline.run import run", {"pipeline"}),
    ],
)
def test_the_check_sees_every_form_of_import(source, packages):
    assert packages_imported_by(source, ("stouter", "data")) == packages


READERS = {"config_file", "pipeline", "commands", "cli", "api"}


@pytest.mark.parametrize("path", MODULES, ids=id_of)
def test_only_the_wiring_knows_a_configuration(path):
    inside = path.relative_to(PACKAGE).with_suffix("").parts
    read = packages_imported_by(path.read_text(), ("stouter", *inside[:-1])) & {"config", "config_file"}
    assert not read or inside[0] in READERS, f"{inside[0]} reads a configuration: pass it arguments"


WITH_TORCH = {("dataset",), ("known_days",), ("profiles",)}  # modules of `data`


def test_everything_below_the_dataset_does_without_torch():
    for path in MODULES:
        inside = path.relative_to(PACKAGE).with_suffix("").parts
        if inside[0] in {"files", "style", "config", "config_file", "data"} and inside[1:] not in WITH_TORCH:
            assert "import torch" not in path.read_text(), path.name


def modules_loaded_by(statement: str) -> set[str]:
    "Top-level modules that a fresh Python has after a statement."
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_front_door_is_light():
    heavy = {"torch", "pandas", "numpy", "xarray"}
    assert not modules_loaded_by("import stouter") & heavy
    assert not modules_loaded_by("import stouter; dir(stouter); stouter.__version__") & heavy
    assert heavy <= modules_loaded_by("import stouter; stouter.run")  # the check sees what is loaded
    assert "torch" not in modules_loaded_by("import stouter.data, stouter.config_file")


@pytest.mark.parametrize("path", [PACKAGE / "__init__.py", *INITS], ids=id_of)
def test_every_public_name_resolves(path):
    package = import_module(".".join(("stouter", *path.relative_to(PACKAGE).parts[:-1])))
    for name in getattr(package, "__all__", []):
        assert getattr(package, name) is not None
    assert len(set(getattr(package, "__all__", []))) == len(getattr(package, "__all__", []))


def test_the_front_door_offers_nothing_else():
    assert set(dir(stouter)) == set(stouter.__all__)
    with pytest.raises(AttributeError, match="no attribute 'simulate'; it offers run, "):
        stouter.simulate  # noqa: B018


@pytest.mark.parametrize("path", INITS, ids=id_of)
def test_a_package_offers_only_its_own(path):
    package = path.parent.name
    for name in names_imported_by(path.read_text(), ("stouter", package)):
        assert name[:2] == ["stouter", package] or name == ["importlib", "import_module"], ".".join(name)
    if "import_module" in path.read_text():  # names that are imported when they are used
        for name in import_module(f"stouter.{package}").__all__:
            value = getattr(import_module(f"stouter.{package}"), name)
            assert getattr(value, "__module__", f"stouter.{package}").startswith(f"stouter.{package}"), name


MAX_MODULE, MAX_CLASS, MAX_FUNCTION = 450, 100, 40  # lines, signature and docstring included


@pytest.mark.parametrize("path", MODULES, ids=id_of)
def test_modules_classes_and_functions_are_short(path):
    assert len(path.read_text().splitlines()) <= MAX_MODULE
    assert [f"{node.name}: {n} lines" for node, n in too_long(TREES[path])] == []


def too_long(tree: ast.Module) -> list[tuple[ast.FunctionDef | ast.ClassDef, int]]:
    "Functions and classes of a module with too many lines, and how many."
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            n = n_lines(node)
            if n > (MAX_CLASS if isinstance(node, ast.ClassDef) else MAX_FUNCTION):
                found.append((node, n))
    return found


def test_the_check_sees_long_functions_and_classes():
    long_function = "def f():\n" + "    x = 1\n" * 40
    assert [n for _, n in too_long(ast.parse(long_function))] == [41]
    long_class = "class C:\n" + "    x = 1\n" * 100
    assert [n for _, n in too_long(ast.parse(long_class))] == [101]
    assert not too_long(ast.parse(long_function.replace("    x = 1\n", "", 1)))


# A base class that has one subclass in the package, and why; exceptions, Protocols and NamedTuples are not counted.
ONE_SUBCLASS = {
    "ChannelsLastConv1d": "a layer of its own; with the layer as an attribute, the weights in files would be renamed",
}


def subclasses() -> dict[str, list[str]]:
    "Classes of the package -> their subclasses in the package."
    classes = {node.name: node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    bases = {name: [ast.unparse(base).split("[")[0] for base in node.bases] for name, node in classes.items()}

    def is_counted(name: str) -> bool:
        return not re.search(r"(Error|Exception|Protocol|NamedTuple)$", " ".join(bases[name])) and name != "Config"

    return {base: [name for name in classes if base in bases[name]] for base in filter(is_counted, classes)}


def test_no_class_is_split_by_inheritance():
    found = subclasses()
    assert sorted(found["OneStepGenerator"]) == ["Engression", "TCNGAN", "VAE"] and "Config" not in found
    assert {base for base, names in found.items() if len(names) == 1} == set(ONE_SUBCLASS)


@pytest.mark.parametrize("path", TREES, ids=id_of)
def test_annotations_name_things(path):
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.arg | ast.FunctionDef):
            annotation = node.annotation if isinstance(node, ast.arg) else node.returns
            words = "" if annotation is None else ast.unparse(annotation)
            words = re.sub(r"\b(dict|Mapping)\[str, object\]", "", words)  # a tree of YAML, parameters of a notebook
            name = node.arg if isinstance(node, ast.arg) else node.name
            assert not re.search(r"\bobject\b", words), f"{name}, line {node.lineno}"


def helpers_used_once() -> list[str]:
    "Functions of three lines or fewer that are called once, passed to nothing and offered by no package."
    public = {name for path in INITS for name in getattr(import_module(f"stouter.{path.parent.name}"), "__all__", [])}
    nodes = [node for path in MODULES for node in ast.walk(TREES[path])]
    calls = [node.func for node in nodes if isinstance(node, ast.Call)]
    called = [getattr(node, "id", getattr(node, "attr", None)) for node in calls]
    used = [getattr(node, "id", getattr(node, "attr", None)) for node in nodes]
    found = []
    for path in MODULES:
        for node in TREES[path].body:
            if isinstance(node, ast.FunctionDef) and node.name not in {*public, *stouter.__all__}:
                body = node.body[ast.get_docstring(node) is not None :]
                n_lines = body[-1].end_lineno - body[0].lineno + 1
                if n_lines <= 3 and called.count(node.name) == used.count(node.name) == 1:
                    found.append(f"{id_of(path)}: {node.name}")
    return found


def test_few_helpers_are_used_once():
    n_functions = sum(isinstance(node, ast.FunctionDef) for path in MODULES for node in ast.walk(TREES[path]))
    found = helpers_used_once()
    assert len(found) < 0.05 * n_functions, f"{len(found)} of {n_functions} functions: {found}"
