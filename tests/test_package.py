"What is installed: versions that agree, pinned versions within the bounds, a wheel from the sdist that runs anywhere."

import json
import os
import re
import subprocess
import sys
import tarfile

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.version import Version

import stouter

sys.path.insert(0, str(ROOT / "tools"))
from make_constraints import needed, normal, pin, settings  # noqa: E402

EXTRAS = ("dev", "dask", "excel", "explorer", "fabric", "tensorboard")


def test_one_version_everywhere():
    version = settings()["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M).group(1)
    assert version == stouter.__version__ == str(citation["version"]) == newest


def test_citation_has_what_the_format_asks_for():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    paper = citation["references"][0]
    assert paper["type"] == "article" and "Cellular Traffic Generation" in paper["title"]
    assert all({"family-names", "given-names"} == set(author) for author in paper["authors"])


@pytest.fixture(scope="module")
def pins():
    "Package -> pinned version."
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    found = {}
    for requirement in map(Requirement, lines):
        (specifier,) = requirement.specifier
        assert specifier.operator == "==" and "+" not in specifier.version, f"{requirement}: pip cannot find this"
        found[requirement.name] = specifier.version
    return found


def test_pinned_versions_lie_within_the_bounds(pins):
    config = settings()
    for line in f"{config['requirements']} {config['dev_requirements']}".split():
        requirement = Requirement(line)
        name = normal(requirement.name)
        assert name in pins, f"{name} is not pinned: make constraints"
        assert requirement.specifier.contains(Version(pins[name])), f"{name} {pins[name]}: {requirement.specifier}"


def test_extras_are_what_the_developers_use():
    config = settings()
    developers = config["dev_requirements"].split()
    for extra in EXTRAS[1:]:
        assert set(config[f"{extra}_requirements"].split()) <= set(developers)
        assert not set(config[f"{extra}_requirements"].split()) & set(config["requirements"].split())


class Installed:
    "An installed package, as `importlib.metadata` describes it."

    def __init__(self, name, version, requires=(), python=None):
        self.version, self.requires = version, list(requires)
        self.metadata = {"Name": name, "Requires-Python": python}


def test_pins_follow_requirements_and_extras():
    installed = {
        "a": Installed("a", "1.0+cpu", ["B_b[x]>=1; python_version>'3'", "c; extra == 'more'"]),
        "b-b": Installed("B_b", "2.0", ["d; extra == 'x'", "e; extra == 'y'"], ">=3.11"),
        **{name: Installed(name, "1") for name in "cde"},
    }
    assert needed(["a>=1"], installed) == ["a", "b-b", "d"]
    assert needed(["a[more]"], installed) == ["a", "b-b", "c", "d"]
    assert pin(installed["a"], (3, 10)) == "a==1.0"
    assert pin(installed["b-b"], (3, 10)) == 'b-b==2.0 ; python_version >= "3.11"'


def call(*command, **options):
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_wheel_of_the_sdist_runs_without_the_checkout(tmp_path):
    call("-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    sdist = next(tmp_path.glob("*.tar.gz"))
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"settings.ini", "setup.py", "README.md", "LICENSE", "constraints.txt", "CITATION.cff"} <= names
    options = ("-q", "--no-deps", "--disable-pip-version-check")
    call("-m", "pip", "wheel", *options, "--no-build-isolation", "-w", tmp_path, sdist, cwd=tmp_path)
    wheel, site = next(tmp_path.glob("*.whl")), tmp_path / "site"
    call("-m", "pip", "install", *options, "--target", site, wheel, cwd=tmp_path)
    data = (
        "experiments/run.ipynb",
        "experiments/params/demo.yaml",
        "experiments/presets/paper.yaml",
        "experiments/presets/residuals.yaml",
        "pretrained/demo/card.json",
    )
    for name in (*data, "planning/templates/power.yaml"):
        assert (site / "stouter" / name).exists(), name
    for folder in ("html_report/assets", "experiments/studies"):
        ours = ROOT / ("stouter/html_report/assets" if "html" in folder else "nbs/experiments/studies")
        assert {p.name for p in ours.iterdir()} == {p.name for p in (site / "stouter" / folder).iterdir()}
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); import stouter.cli as c; "
        f"assert c.__file__.startswith({str(site)!r}); c.main()"
    )
    env = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    assert "The three most common jobs" in call("-c", code, cwd=tmp_path, env=env)
    said = call("-c", code, "run", "tiny", "--out", tmp_path / "run", "--json", cwd=tmp_path, env=env)
    assert json.loads(said)["methods"] and (tmp_path / "run/metrics.json").exists()
