"What several tests share: the project's root, its notebooks, real data where it is, one finished tiny run."

import ast
import io
import logging
import os
import shutil
import subprocess
import sys
import traceback
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from stouter.cli import main

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


def stouter_process(*words, cwd=ROOT, check=True):
    "Run the command line as a user does, in a process of its own."
    env = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    done = subprocess.run([*COMMAND, *map(str, words)], cwd=cwd, env=env, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


def stouter(*words, cwd=ROOT, check=True):
    "Run the command line in this process, which saves six seconds of imports: status, output, errors, warnings."
    out, errors = io.StringIO(), io.StringIO()
    levels = {logger: logger.level for logger in map(logging.getLogger, ("papermill", "stouter.data.pois"))}
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(errors):
        patch.chdir(cwd)
        patch.setenv("COLUMNS", "120")
        patch.setattr(sys, "argv", ["stouter", *map(str, words)])
        with warnings.catch_warnings():
            warnings.resetwarnings()
            for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
                warnings.simplefilter("ignore", kind)  # as Python does outside of tests
            patch.setattr(warnings, "showwarning", print_warning)
            status = exit_status(main)
    for logger, level in levels.items():  # `main` silences them
        logger.setLevel(level)
    done = subprocess.CompletedProcess(sys.argv, status, out.getvalue(), errors.getvalue())
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


def exit_status(function):
    "What a process that calls the function would end with."
    try:
        function()
    except SystemExit as end:
        return int(end.code or 0)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def print_warning(message, category, filename, line, file=None, text=None):
    "On the standard error of the moment; pytest would collect it."
    print(f"{filename}:{line}: {category.__name__}: {message}", file=sys.stderr)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    "Folder of a finished `stouter run tiny --seed 0`, and what it printed."
    out = tmp_path_factory.mktemp("runs") / "tiny"
    done = stouter_process("run", "tiny", "--out", out)
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
