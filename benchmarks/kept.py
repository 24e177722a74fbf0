"What every benchmark does with its result: print it, as a table or as JSON, or write it into its own section of `results.md`."

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


def show_fields(result: dict) -> None:
    for name, value in result.items():
        print(f"{name:28} {value:.4g}" if isinstance(value, float) else f"{name:28} {value}")


def command() -> str:
    "The command line, without folders of this machine."
    words = [Path(sys.argv[0]).name, *(Path(w).name if "/" in w else w for w in sys.argv[1:] if w != "--write")]
    threads = os.environ.get("OMP_NUM_THREADS")
    return " ".join(
        [*([f"OMP_NUM_THREADS={threads}"] if threads else []), "python", f"benchmarks/{words[0]}", *words[1:]]
    )


def rewrite(text: str, script: str, body: str) -> str:
    "`text` with the section of a script replaced, or added at its end; sections begin with '## ' and name their script."
    sections = re.split(r"(?m)^(?=## )", text)
    matching = (
        [k for k, section in enumerate(sections) if f"benchmarks/{script}" in section.splitlines()[0]]
        if len(sections) > 1
        else []
    )
    if not matching:
        return text.rstrip("\n") + "\n\n" + body
    sections[matching[0]] = body + ("\n" if matching[0] < len(sections) - 1 else "")
    return "".join(section for k, section in enumerate(sections) if k not in matching[1:])


def finish(parser: argparse.ArgumentParser, script: str, measure: Callable, show: Callable = show_fields) -> None:
    "Read the words, measure, and print or write."
    parser.add_argument("--json", action="store_true", help="print JSON alone")
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
        script = Path(script).name
        environment = (
            f"{date.today()}, {platform.machine()}, Python {platform.python_version()}, torch {version('torch')}."
        )
        body = (
            f"## `{command()}`\n\n{parser.description.splitlines()[0]} {environment}\n\n```\n{output.getvalue()}```\n"
        )
        RESULTS.write_text(rewrite(RESULTS.read_text(), script, body))
