"Print the result of a benchmark, as a table or as JSON, and write it into the benchmark's own section of `results.md`."

import argparse
import contextlib
import io
import json
import os
import platform
import re
import sys
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).with_name("results.md")


def print_fields(result: dict) -> None:
    "One line for each field."
    for name, value in result.items():
        print(f"{name:28} {value:.4g}" if isinstance(value, float) else f"{name:28} {value}")


def command_line() -> str:
    "The command that was given; of paths only the last part."
    arguments = [Path(word).name if "/" in word else word for word in sys.argv[1:] if word != "--write"]
    words = ["python", f"benchmarks/{Path(sys.argv[0]).name}", *arguments]
    threads = os.environ.get("OMP_NUM_THREADS")
    return " ".join([f"OMP_NUM_THREADS={threads}", *words] if threads else words)


def replace_section(text: str, script: str, section: str) -> str:
    "`text` with the section of a script replaced or appended; a section begins with '## ' and names its script."
    sections = re.split(r"(?m)^(?=## )", text)
    matching = [k for k, old in enumerate(sections) if f"benchmarks/{script}" in old.splitlines()[0] and k > 0]
    if not matching:
        return text.rstrip("\n") + "\n\n" + section
    sections[matching[0]] = section + ("\n" if matching[0] < len(sections) - 1 else "")
    return "".join(section for k, section in enumerate(sections) if k not in matching[1:])


def run_benchmark(
    parser: argparse.ArgumentParser,  # with the arguments of the benchmark
    script: str,  # its `__file__`
    measure: Callable,  # arguments -> result, JSON types
    show: Callable = print_fields,  # prints a result
) -> None:
    "Parse the arguments, measure, and print the result or write it."
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--write", action="store_true", help="write the table into its section of results.md")
    args = parser.parse_args()
    result = measure(args)
    if args.json:
        print(json.dumps(result, indent=1))
        return
    with contextlib.redirect_stdout(io.StringIO()) as output:
        show(result)
    print(output.getvalue(), end="")
    if args.write:
        python, torch = platform.python_version(), version("torch")
        environment = f"{date.today()}, {platform.machine()}, Python {python}, torch {torch}."
        summary = f"{parser.description.splitlines()[0]} {environment}"
        section = f"## `{command_line()}`\n\n{summary}\n\n```\n{output.getvalue()}```\n"
        RESULTS.write_text(replace_section(RESULTS.read_text(), Path(script).name, section))
