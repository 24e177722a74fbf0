"Every command that a reader can copy: parsed by the real parser, and executed where it takes seconds."

import json
import os
import re
import shutil
import signal
import subprocess
import time

import osmium
import pandas as pd
import pytest
import typer
from conftest import COMMAND, ROOT
from typer.testing import CliRunner

from stouter.cli import COMMON_JOBS, KEPT, app, join_overrides
from stouter.data.traffic import open_traffic, save_traffic
from stouter.pipeline.table_parts import parts_folder

DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")]
DOCUMENTS += sorted(p for p in (ROOT / "nbs").rglob("[!_.]*") if p.suffix in (".ipynb", ".md") and p.is_file())
PARSER = typer.main.get_command(app)


def leaves(group, path=()):
    "Every command with the words that call it."
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


LEAVES = dict(leaves(PARSER))


def parse(line):
    "Parse a command line without running it; raises what a user would see."
    program, *words = join_overrides(line.split())
    assert program == "stouter", line
    command = PARSER
    while hasattr(command, "commands"):
        if not words or words[0].startswith("-"):
            return command
        assert words[0] in command.commands, f"{line}: no command {words[0]!r}"
        command = command.commands[words.pop(0)]
    if "--help" not in words:
        command.make_context(command.name, words)
    return command


def joined(text):
    "Command lines of a text, comments and continuation lines removed."
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    lines = [re.split(r"\s+#|\s*[|>] ", line.strip().removeprefix("!"))[0].strip() for line in lines]
    return [line for line in lines if line.startswith("stouter ")]


def source_of(path):
    "Markdown as a reader sees it, then the code."
    if path.suffix == ".md":
        return path.read_text(), ""
    cells = json.loads(path.read_text())["cells"]
    return tuple("\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == k) for k in ("markdown", "code"))


def copied_lines(path):
    "Lines of code blocks and of `!` cells; and those in texts of code cells that are run by their notebook."
    markdown, code = source_of(path)
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", markdown, re.S | re.M)
    cells = re.findall(r"^!.*(?:\\\n.*)*", code, re.M)
    texts = re.findall(r"^stouter .*", code, re.M) if path.parent.name == "tutorials" else []
    return [line for text in [*blocks, *cells, *texts] for line in joined(text)]


LINES = sorted({line for path in DOCUMENTS for line in copied_lines(path)} | set(joined(COMMON_JOBS)))
SPANS = sorted({span for path in DOCUMENTS for span in re.findall(r"`(stouter [a-z][^`\n]*)`", source_of(path)[0])})


def examples():
    "Examples of the help of every command."
    for path, command in LEAVES.items():
        for line in joined(command.help.partition("Example:")[2]):
            yield path, line


EXAMPLES = list(examples())


def test_documents_and_help_have_commands():
    assert len(LINES) >= 10 and len(SPANS) >= 25
    assert {path for path, _ in EXAMPLES} == set(LEAVES)  # each help has an example of its own command


@pytest.mark.parametrize("line", LINES)
def test_copied_lines_are_accepted_by_the_parser(line):
    parse(line)


@pytest.mark.parametrize("path, line", EXAMPLES, ids=[line[:60] for _, line in EXAMPLES])
def test_examples_of_the_help_are_accepted_by_the_parser(path, line):
    assert parse(line) is LEAVES[path]


def test_commands_in_sentences_exist_with_their_options():
    "A command in a sentence may lack arguments: its name and the options that it shows must exist."
    for span in SPANS:
        _, *words = span.split()
        path = tuple(words[:2]) if tuple(words[:2]) in LEAVES else tuple(words[:1])
        group = path[0] in PARSER.commands and hasattr(PARSER.commands[path[0]], "commands")
        if path[0] == "COMMAND" or "|" in span or group and path not in LEAVES:
            continue
        assert path in LEAVES, span
        known = {text for parameter in LEAVES[path].params for text in parameter.opts} | {"--help"}
        assert {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)} <= known, span


def test_messages_name_commands_that_exist():
    "What errors and cautions advise, in the source of the package."
    for path in (ROOT / "stouter").rglob("*.py"):
        for verb in re.findall(r"with: stouter ([a-z]+)", path.read_text()):
            assert verb in PARSER.commands, f"{path.name}: stouter {verb}"


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_has_json_and_quiet(path):
    options = {text for parameter in LEAVES[path].params for text in parameter.opts}
    assert {"--json", "--quiet", "-q"} <= options


@pytest.fixture(scope="module")
def workplace(tiny_run, tmp_path_factory):
    "A folder where the examples find what they name: a run called demo, a city, sites, a map."
    place = tmp_path_factory.mktemp("examples")
    demo = place / "runs/run/demo/seed0"
    shutil.copytree(tiny_run[0], demo)
    stations = pd.read_parquet(demo / "stations.parquet")[["lon", "lat"]].rename_axis("id")
    stations.to_csv(place / "sites.csv")
    moved = (stations + [0.0007, 0.0]).iloc[:3].set_axis(["N1", "N2", "N3"]).rename_axis("id")
    for name in ("new_sites.csv", "candidates.csv"):
        moved.to_csv(place / name)
    with osmium.SimpleWriter(str(place / "map.osm.pbf")) as writer:
        for number, (lon, lat) in enumerate(moved.to_numpy(), 1):
            node = osmium.osm.mutable.Node(id=number, location=(lon, lat), tags={"shop": "kiosk"}, version=1)
            writer.add_node(node)
    city = open_traffic(demo / "traffic.nc")
    for name in ("milan.nc", "trentino.nc"):
        save_traffic(city, place / name)
    week = city.select(first="2013-11-01", last="2013-11-07").to_frame()
    week.assign(time=week.time.dt.tz_localize(None))[["station", "time", "service", "value"]].to_csv(
        place / "week.csv", index=False
    )
    stations.to_csv(place / "cells.csv")
    return place


CHEAP = ("simulate", "ingest", "graph", "describe", "generate", "show", "evaluate", "report", "status", "plan")
ORDER = {verb: rank for rank, verb in enumerate(CHEAP)}


def test_cheap_examples_and_lines_of_the_readme_run(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    lines = [line for _, line in EXAMPLES] + copied_lines(ROOT / "README.md") + joined(COMMON_JOBS)
    cheap = sorted({line for line in lines if line.split()[1] in CHEAP}, key=lambda line: ORDER[line.split()[1]])
    assert {line.split()[1] for line in cheap} == set(CHEAP)
    for line in cheap:
        line = line.replace("--stations 50 --days 14", "--stations 9 --days 7")  # a smaller city
        line = line.replace("status runs/633_fusion_variants", "status runs")
        line = line.replace("2013-11-22:2013-11-28", "2013-11-04:2013-11-10")  # days of the tiny run
        done = CliRunner().invoke(app, [*line.split()[1:], "--json"])
        assert done.exit_code == 0, (line, done.exception)
        json.loads(done.stdout)  # the JSON, and nothing else
    for name in ("week.parquet", "page.html", "load.csv", "places.csv", "sleep.csv", "week.nc", "graph.safetensors"):
        assert (workplace / name).stat().st_size > 0, name


def test_quiet_says_nothing_but_cautions(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    words = ["generate", "runs/run/demo/seed0", "--days", "2015-12-01", "--out", "quiet.parquet", "--quiet"]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stdout) == (0, "") and (workplace / "quiet.parquet").exists()
    assert done.stderr.startswith("caution: the days lie") and len(done.stderr.splitlines()) == 1


def test_without_a_command_the_common_jobs_are_shown():
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 0 and done.stdout.strip() == COMMON_JOBS
    assert len(re.findall(r"^  \w", COMMON_JOBS, re.M)) == 3


def test_control_c_keeps_the_parts_and_the_same_command_goes_on(tiny_run, tmp_path):
    out = tmp_path / "table.parquet"
    words = ["generate", tiny_run[0], "--days", "2013-11-08:2013-12-31", "--samples", 8, "--out", out]
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    while len(list(parts_folder(out).glob("0*.parquet"))) < 2 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in said
    assert said.strip().splitlines()[-1] == f"stouter: interrupted; {KEPT['generate']}"
    kept = {path: path.stat().st_mtime_ns for path in parts_folder(out).glob("0*.parquet")}
    assert len(kept) >= 2 and not out.exists()
    done = CliRunner().invoke(app, [*map(str, words), "--samples", "7"])
    assert "parts of another request" in str(done.exception)  # they are kept for that command
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0 and len(pd.read_parquet(out)) == 12 * 8 * 54 * 24


@pytest.mark.parametrize("shell, code", [("bash", "_stouter"), ("zsh", "_stouter"), ("fish", "complete -c stouter")])
def test_completion_scripts_are_read_by_their_shell(shell, code, tmp_path):
    "Bash completes the real commands; zsh and fish read the script where they are installed."
    script = CliRunner().invoke(app, ["completion", shell]).stdout
    assert code in script
    if not shutil.which(shell):
        return
    (tmp_path / "script").write_text(script)
    ask = {
        "bash": "COMP_WORDS=(stouter gen); COMP_CWORD=1; _stouter; echo ${COMPREPLY[@]}",
        "zsh": "setopt ksharrays; COMP_WORDS=(stouter gen); COMP_CWORD=1; _stouter; print ${COMPREPLY[@]}",
        "fish": "complete -C 'stouter gen'",
    }
    options = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    command = [shell, *options, "-c", f"source {tmp_path / 'script'}; {ask[shell]}"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HOME": str(tmp_path)})
    assert "generate" in done.stdout.split(), done.stderr
