"""A disk that takes no more: every command that writes names its file, says what is kept, and succeeds when repeated.

The operating system's limit on the size of a file stands for the full disk; it holds for this process alone.
"""

import resource

import pandas as pd
import pytest
from typer.testing import CliRunner

from stouter.cli import app, user_message
from stouter.config_file import load_config
from stouter.files import FILES_KEPT, InputError
from stouter.pipeline.run import run

COMMANDS = {  # file that is refused -> words; {city}, {run}, {week}, {sites}, {out}: inputs and a new folder
    "records": "simulate {out}/records --stations 6 --days 4",
    "traffic.nc": "ingest {city}/records --grid {city}/grid.geojson --out {out}/traffic.nc --cache-dir {out}/cache",
    "graph.png": "graph {city}/grid.geojson --out {out}/graph.safetensors",
    "page.html": "report {run} --out {out}/page.html",
    "week.parquet": "generate {run} --days 2013-11-08:2013-11-10 --out {out}/week.parquet",
    "scores.parquet": "evaluate --real {run}/traffic.nc --generated {week} --out {out}/scores.json",
    "load.png": "plan load {week} --sites {sites} --out {out}/load.csv",
}


@pytest.fixture(scope="module")
def inputs(tiny_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    assert invoke(f"simulate {folder}/city --stations 6 --days 4") is None
    week = folder / "week.parquet"
    assert invoke(f"generate {tiny_run[0]} --days 2013-11-08:2013-11-10 --samples 4 --out {week}") is None
    sites = folder / "sites.csv"
    pd.read_parquet(tiny_run[0] / "stations.parquet").rename_axis("id").to_csv(sites)
    return {"run": tiny_run[0], "city": folder / "city", "week": week, "sites": sites}


def invoke(words):
    "Run a command in this process; what it raised, or None."
    return CliRunner().invoke(app, words.split()).exception


@pytest.fixture
def full_disk():
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_names_the_file_and_succeeds_afterwards(name, inputs, tmp_path, full_disk):
    words = COMMANDS[name].format(**inputs, out=tmp_path)
    error = invoke(words)
    full_disk()
    message = user_message(error)
    assert str(tmp_path) in message and "could not be written (File too large)" in message, message
    assert message.endswith(FILES_KEPT) and not list(tmp_path.rglob(".*-*"))
    assert invoke(words) is None and list(tmp_path.rglob(name))


def test_a_run_names_the_file_and_goes_on(tmp_path, full_disk):
    config = load_config("tiny", {"graph.n_epochs": 2, "train.n_updates": 2, "evaluation.n_samples": 2})
    with pytest.raises(InputError, match=rf"{tmp_path}.*: could not be written .File too large.; {FILES_KEPT}"):
        run(config, 0, tmp_path)
    full_disk()
    assert run(config, 0, tmp_path)["STOUTER"]["crps"] > 0
