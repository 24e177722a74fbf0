"What several tests share: the project's root, its notebooks, real data where it is, one finished tiny run."

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-c", "from stouter.cli import main; main()")  # the command line in a process of its own
SHARED = ROOT.parent / "shared" / "data"

SLOW_FILES = ("test_sweeps", "test_cli", "test_site", "test_training")  # first, so that two workers end together

needs_data = pytest.mark.skipif(
    not SHARED.exists(), reason=f"real data not found beside the project ({SHARED.name} in ../shared)"
)


def pytest_collection_modifyitems(items):
    "The files that take longest first; a worker takes a whole file."
    order = {name: rank for rank, name in enumerate(SLOW_FILES)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def n_lines(node: ast.FunctionDef | ast.ClassDef) -> int:
    """Lines of a function or class, signature and docstring included.

    Of a command of the command line only the body counts: its signature and docstring are the help that a user reads.
    """
    arguments = node.args.args if isinstance(node, ast.FunctionDef) else []
    is_command = any("typer." in ast.unparse(a.annotation) for a in arguments if a.annotation)
    body = node.body[1:] if is_command and len(node.body) > 1 else [node]
    return body[-1].end_lineno - body[0].lineno + 1


def stouter(*words, cwd=ROOT, check=True, **options):
    "Run the command line as a user does, in a process of its own."
    command = [*COMMAND, *map(str, words)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, **options)
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    "Folder of a finished `stouter run tiny --seed 0`, and what it printed."
    out = tmp_path_factory.mktemp("runs") / "tiny"
    done = stouter("run", "tiny", "--out", out)
    return out, done


def browser_program():
    "A Chromium of this machine or the one that playwright downloaded, or None."
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tools:
        path = tools.chromium.executable_path
    return path if os.path.exists(path) else None


@pytest.fixture(scope="session")
def chromium():
    "A headless browser."
    program = browser_program()
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium, or: python -m playwright install --with-deps chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tools:
        yield tools.chromium.launch(executable_path=program, args=["--no-sandbox"])
