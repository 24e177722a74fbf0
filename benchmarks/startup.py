"""Time until a command answers: import of the package, help, completion, and a refused argument.

CPU time of the fastest of several processes; `imported` counts modules, and `bare python` is an interpreter that does
nothing.
"""

import argparse
import resource
import subprocess
import sys

import pandas as pd
from reporting import run_benchmark

COMMAND = "from stouter.cli import main; main()"
ROWS = {
    "bare python": ("pass", []),
    "import stouter": ("import stouter", []),
    "import stouter.cli": ("import stouter.cli", []),
    "stouter": (COMMAND, []),
    "stouter --help": (COMMAND, ["--help"]),
    "stouter run --help": (COMMAND, ["run", "--help"]),
    "stouter completion bash": (COMMAND, ["completion", "bash"]),
    "stouter run nosuch": (COMMAND, ["run", "nosuch"]),
}


def one_process(code: str, words: list[str]) -> dict[str, float]:
    "CPU seconds of one process, and how many modules it imported."
    count = "import atexit, sys; atexit.register(lambda: print(len(sys.modules), file=sys.stderr)); "
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", count + code, *words], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_seconds": cpu_seconds, "imported": int(done.stderr.split()[-1])}


def measure(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    "Row -> fastest process."
    found = {}
    for name, (code, words) in ROWS.items():
        runs = [one_process(code, words) for _ in range(args.repeats)]
        found[name] = min(runs, key=lambda run: run["cpu_seconds"])
    return found


def show(result: dict[str, dict[str, float]]) -> None:
    "A table."
    print(pd.DataFrame(result).T.astype({"imported": int}).round(2).to_string())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="processes of each row")
    run_benchmark(parser, __file__, measure, show)
