"House rules that a machine can check."

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from conftest import ROOT, n_lines

NBS = sorted(p for p in (ROOT / "nbs").rglob("[!_.]*.ipynb") if ".ipynb_checkpoints" not in p.parts)
LITERATE = [
    p
    for p in NBS
    if p.parent.name[:1].isdigit() or p.parent.name in ("findings", "tutorials") or p.name == "index.ipynb"
]
TEMPLATES = [p for p in NBS if p.parent.name == "experiments"]


def cells(path, kind):
    return ["".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == kind]


def exported(path):
    return [s for s in cells(path, "code") if re.search(r"^#\|\s*exports?\b", s, re.M)]


def n_statements(source):
    "Statements of a cell, docstrings aside; unlike lines they do not depend on how the code is formatted."
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    return sum(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in nodes)


@pytest.mark.parametrize("path", NBS, ids=lambda p: f"{p.parent.name}/{p.stem}")
class TestEveryNotebook:
    def test_opens_with_title_and_sentence(self, path):
        "The site drops whatever else stands in the first cell."
        parts = cells(path, "markdown")[0].strip().split("\n\n")
        assert len(parts) == 2, f"{path.name}: title and sentence alone in the first cell"
        assert parts[0].startswith("# ") and parts[1].startswith("> "), (
            f"{path.name}: start with '# Title' then '> sentence'"
        )
        assert "\n" not in parts[1], f"{path.name}: the sentence in one line; the site drops the others"

    def test_valid_and_python3(self, path):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert notebook.metadata.kernelspec.name == "python3"

    def test_no_star_imports_no_fixed_device(self, path):
        for source in cells(path, "code"):
            assert not re.search(r"import \*|\.cuda\(|['\"]cuda:", source), f"{path.name}: {source[:80]}"


@pytest.mark.parametrize("path", LITERATE, ids=lambda p: f"{p.parent.name}/{p.stem}")
class TestLiterateNotebook:
    def test_export_cells_are_short(self, path):
        for source in exported(path):
            assert len(source.splitlines()) <= 110, f"{path.name}: split this cell:\n{source[:80]}"
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    most, n = 100 if isinstance(node, ast.ClassDef) else 40, n_lines(node)
                    assert n <= most, f"{path.name}: {node.name} has {n} lines, {most} are allowed"

    def test_prose_and_assertions_carry_the_code(self, path):
        "Of prose 4.5 words and 0.22 assertions for every exported statement."
        n = sum(n_statements(s) for s in exported(path))
        words = sum(len(s.split()) for s in cells(path, "markdown"))
        code = "\n".join(cells(path, "code"))
        assertions = len(re.findall(r"\bassert\b|\btest_\w+\(|assert_\w+\(|ExceptionExpected\(", code))
        assert words >= 4.5 * n, f"{words} words for {n} exported statements, {4.5 * n:.1f} needed"
        assert assertions >= 0.22 * n, f"{assertions} assertions for {n} exported statements, {0.22 * n:.1f} needed"

    def test_outputs_are_stored_and_small(self, path):
        notebook = json.loads(path.read_text())
        code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
        assert any(c["outputs"] for c in code), "run `make nbs` to store outputs"
        assert path.stat().st_size <= 200_000, f"{path.stat().st_size} bytes"
        for output in (o for c in code for o in c["outputs"]):
            assert output["output_type"] != "error", output.get("evalue")
            assert "widget" not in json.dumps(output.get("data", {}))[:300], "a progress widget was stored"

    def test_imports_stand_alone(self, path):
        "The site executes every cell with an import, so such a cell may need nothing of the story before it."
        for source in cells(path, "code"):
            if "#| hide" in source or source.startswith("#| export"):
                continue
            kinds = {
                isinstance(node, ast.Import | ast.ImportFrom)
                for node in ast.parse(re.sub(r"^[%!].*", "", source, flags=re.M)).body
            }
            assert kinds != {True, False}, f"{path.name}: an import of its own cell, please:\n{source[:80]}"

    def test_speaks_of_no_machine(self, path):
        assert not re.search(r"/(home|root|work|Users)/\w+", path.read_text()), "an absolute path of a machine"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: f"{p.parent.name}/{p.stem}")
class TestTemplate:
    def test_one_parameters_cell(self, path):
        tagged = [
            c for c in json.loads(path.read_text())["cells"] if "parameters" in c.get("metadata", {}).get("tags", [])
        ]
        assert len(tagged) == 1

    def test_committed_empty(self, path):
        assert not any(c.get("outputs") for c in json.loads(path.read_text())["cells"])

    def test_defines_nothing(self, path):
        for source in cells(path, "code"):
            assert not re.search(r"^\s*(def|class) ", source, re.M), "a function wanted twice goes to a module"


WITH_ALT_TEXTS = [p for p in LITERATE if p.parent.name in ("findings", "tutorials")]


@pytest.mark.parametrize("path", WITH_ALT_TEXTS, ids=lambda p: p.stem)
def test_figures_have_an_alternative_text(path):
    "`#| fig-alt` in the cell, or a sentence below the figure that says what is shown."
    sys.path.insert(0, str(ROOT / "tools"))
    from make_docs import text_below

    notebook = json.loads(path.read_text())["cells"]
    for cell, following in zip(notebook, [*notebook[1:], None]):
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            source = "".join(cell["source"])
            own = re.search(r'^#\| fig-alt: "(.*)"$', source, re.M)
            text = own.group(1) if own else text_below(following)
            assert len(text.split()) >= 6, f"{path.name}: write #| fig-alt above this figure:\n{source[:80]}"


SAFE_MAPS = {  # colour maps that stay in order, or keep two sides apart, for the colour-blind and in grey
    *("viridis", "cividis", "magma", "rocket", "mako", "crest", "flare", "twilight", "Greys", "Blues"),
    *("RdBu", "PuOr", "vlag", "coolwarm", "colorblind"),
}
UNSAFE_PAIR = {"red", "green"}  # named colours that many cannot tell apart


def unsafe_colours(source):
    "Colour maps and palettes of a cell that are not in `SAFE_MAPS`, and red beside green."
    names = re.findall(r"""(?:cmap|palette)\s*=\s*["'](\w+)["']|color_palette\(["'](\w+)["']""", source)
    maps = {(a or b).removesuffix("_r") for a, b in names} - SAFE_MAPS
    named = set(re.findall(r"""\b(?:color|c|fmt)\s*=\s*["'](\w+)["']""", source)) & UNSAFE_PAIR
    return maps | (named if named == UNSAFE_PAIR else set())


def unnamed_axes(source):
    "Axes without a name in a cell that draws by itself; functions of the package name theirs."
    draws = re.search(r"subplots\(|sns\.\w+plot\(", source)
    if not draws or re.search(r"\.plot\(station=|set_axis_labels|\bplot_\w+\(", source):
        return set()
    marks = {axis: rf"{axis}label|sup{axis}label|{axis}ticklabels|\b{axis}=" for axis in "xy"}
    return {axis for axis, mark in marks.items() if not re.search(mark, source)}


def test_the_checks_of_figures_see_faults():
    assert unsafe_colours('ax.imshow(x, cmap="jet")') == {"jet"}
    assert unsafe_colours('sns.lineplot(x, palette="Set1")') == {"Set1"}
    assert unsafe_colours('ax.plot(x, color="red"); ax.plot(y, color="green")') == UNSAFE_PAIR
    assert not unsafe_colours('ax.plot(x, color="red", cmap="viridis_r")')
    assert unnamed_axes("ax = plt.subplots()[1]\nax.plot(a)") == {"x", "y"}
    assert unnamed_axes('ax = plt.subplots()[1]\nax.set(xlabel="hour")') == {"y"}
    assert not unnamed_axes('sns.lineplot(rows, x="hour", y="traffic")')


@pytest.mark.parametrize("path", LITERATE, ids=lambda p: p.stem)
def test_figures_have_safe_colours_and_named_axes(path):
    "Colours of all notebooks; axes of the figures of tutorials and findings, which are read without the code."
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"]) if cell["cell_type"] == "code" else ""
        assert not unsafe_colours(source), f"{path.name}: {unsafe_colours(source)}"
        has_figure = any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
        if has_figure and path in WITH_ALT_TEXTS:
            assert not unnamed_axes(source), f"{path.name}: name the axes {unnamed_axes(source)}:\n{source[:80]}"


def test_modules_draw_in_safe_colours():
    for module in (ROOT / "stouter").rglob("*.py"):
        assert not unsafe_colours(module.read_text()), module.name


def bound_and_read(source):
    "Names that a cell binds, and names that it reads."
    tree, bound = ast.parse(re.sub(r"^[%!].*", "", source, flags=re.M)), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
    return bound, {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - bound


@pytest.mark.parametrize("path", [p for p in LITERATE if p.parent.name == "tutorials"], ids=lambda p: p.stem)
def test_tutorials_run_without_their_hidden_cells(path):
    "A reader copies what the site shows: no name may come from a hidden cell."
    hidden, visible, missing = set(), set(), set()
    for source in cells(path, "code"):
        bound, read = bound_and_read(source)
        if "#| hide" in source:
            hidden |= bound
        else:
            missing |= (read - visible) & hidden
            visible |= bound
    assert not missing, f"{path.name}: {', '.join(sorted(missing))}"


@pytest.mark.parametrize("path", [p for p in LITERATE if p.parent.name == "tutorials"], ids=lambda p: p.stem)
def test_figures_of_a_reader_look_as_on_the_page(path):
    "The style has the colours that everybody can tell apart: it is set where the reader sees it."
    hidden = [source for source in cells(path, "code") if "#| hide" in source]
    assert not any("set_plot_style" in source for source in hidden)


@pytest.mark.parametrize("path", [p for p in LITERATE if p.parent.name == "tutorials"], ids=lambda p: p.stem)
def test_tutorials_need_no_tool_of_developers(path):
    "A reader has what `pip install stouter` brings: the requirements of settings.ini and the standard library."
    settings = dict(re.findall(r"^(\w+) = (.*)$", (ROOT / "settings.ini").read_text(), re.M))
    known = {re.split(r"[<>=\[;]", word)[0].replace("-", "_") for word in settings["requirements"].split()}
    known |= {"sklearn", "yaml", "IPython", "stouter", *sys.stdlib_module_names}
    prose = "\n".join(cells(path, "markdown"))  # an extra is known where the reader is told to install it
    extras = [key.removesuffix("_requirements") for key in settings if key.endswith("_requirements")]
    known |= {name for name in extras if f"stouter[{name}]" in prose and name != "dev"}
    for source in cells(path, "code"):
        tree = ast.parse(re.sub(r"^[%!].*", "", source, flags=re.M))
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {name.split(".")[0] for name in names} <= known, f"{path.name}: {names}"


@pytest.fixture(scope="module")
def fresh_copy(tmp_path_factory):
    "The repository with nothing of its package but the `__init__` files, which are written by hand; exported, cleaned."
    copy = tmp_path_factory.mktemp("copy")
    for name in ("nbs", "settings.ini", "setup.py", "README.md", "_quarto.yml"):
        source = ROOT / name
        shutil.copytree(source, copy / name) if source.is_dir() else shutil.copy(source, copy / name)
    for path in (ROOT / "stouter").rglob("__init__.py"):
        (copy / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy / path.relative_to(ROOT))
    for command in ("nbdev_export", "nbdev_clean"):
        subprocess.run(
            [
                sys.executable,
                "-c",
                f"from nbdev.{'clean' if 'clean' in command else 'doclinks'} import {command}; {command}()",
            ],
            cwd=copy,
            check=True,
            capture_output=True,
        )
    return copy


def test_package_is_what_the_notebooks_export(fresh_copy):
    ours = {p.relative_to(ROOT / "stouter"): p.read_text() for p in (ROOT / "stouter").rglob("*.py")}
    theirs = {p.relative_to(fresh_copy / "stouter"): p.read_text() for p in (fresh_copy / "stouter").rglob("*.py")}
    assert sorted(ours) == sorted(theirs) and Path("_modidx.py") in ours
    assert {p.parent for p in ours if p.name == "__init__.py"} == {p.parent for p in ours if p.name != "__init__.py"}
    for name in ours:
        generated = "AUTOGENERATED! DO NOT EDIT!" in ours[name] or ours[name].startswith("# Autogenerated by nbdev")
        assert generated is (name.name != "__init__.py"), f"{name}: every module is exported, every __init__ is not"
        assert ours[name] == theirs[name], f"{name}: run `make nbs`, never edit stouter/"


def test_notebooks_are_clean(fresh_copy):
    for path in NBS:
        assert path.read_text() == (fresh_copy / path.relative_to(ROOT)).read_text(), f"{path.name}: run nbdev_clean"


def test_the_site_lists_every_notebook():
    contents = yaml.safe_load((ROOT / "_quarto.yml").read_text())["website"]["sidebar"]["contents"]
    listed = [name for part in contents for name in (part["contents"] if isinstance(part, dict) else [part])]
    assert sorted(listed) == sorted(str(p.relative_to(ROOT / "nbs")) for p in LITERATE)


def links_of(path):
    text = "\n".join(cells(path, "markdown"))
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"https?:|#", target)]


@pytest.mark.parametrize("path", NBS, ids=lambda p: p.stem)
def test_links_lead_to_files(path):
    for target in links_of(path):
        assert (path.parent / target.partition("#")[0]).exists(), f"{path.name}: no {target}"


def test_readme_is_made_from_the_index():
    sys.path.insert(0, str(ROOT / "tools"))
    from make_readme import readme

    assert (ROOT / "README.md").read_text() == readme(), "run `make readme`"
