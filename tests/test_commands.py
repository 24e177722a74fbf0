"Every command that a reader can copy: parsed by the real parser, and executed where it takes seconds."

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import osmium
import pandas as pd
import pytest
import typer
from conftest import COMMAND, ROOT
from typer.testing import CliRunner

from stouter.cli import COMMON_JOBS, KEPT, app, join_overrides
from stouter.config_file import experiments_folder
from stouter.data.traffic import open_traffic, save_traffic
from stouter.pipeline.table_parts import parts_folder

TUTORIALS = ROOT / "nbs" / "tutorials"
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
    program, *words = join_overrides(shlex.split(line))
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
    texts = re.findall(r"^stouter .*", code, re.M) if path.parent == TUTORIALS else []
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
    (place / "operator").mkdir()
    for name in ("cells.csv", "operator/cells.csv"):
        stations.to_csv(place / name)
    shutil.copy(demo / "traffic.nc", place / "real.nc")
    for name in ("grid.geojson", "pois.geojson"):
        shutil.copy(demo / "city" / name, place / name)
    (place / "grid.yaml").write_text(GRID)
    return place


# Executed elsewhere: a download needs another server, a study some minutes; there, a local server and a tiny study.
ELSEWHERE = {"download": ("test_download.py", 'command("'), "sweep": ("test_sweeps.py", 'call("sweep"')}
ORDER = ("simulate", "ingest", "graph", "describe", "run", "tune", "generate", "show", "evaluate", "report", "status")
ORDER += ("plan", "doctor", "completion")
NOT_A_COMMAND = re.compile(r"\b[A-Z]{3,}|\.\.\.|[|>]|day_mlp|my_table")  # what stands for something else
FAST = "-p train.n_updates 4 -p graph.n_epochs 2 -p evaluation.n_samples 2"


def is_complete(span):
    "Whether a command in a sentence can be copied: nothing in it stands for a name, and no argument is missing."
    if NOT_A_COMMAND.search(span):
        return False
    try:
        return not hasattr(parse(span), "commands")  # a group is none
    except Exception:  # what the parser raises for a missing argument; wrong names and options are tested above
        return False


def smaller(line):
    "The same command for the tiny city, with few updates and in a folder of its own."
    line = line.replace("--stations 50 --days 14", "--stations 9 --days 7").replace("2013-11-22:2013-11-28", WEEK)
    line = re.sub(r"data.source.n_(stations|days) \d+", lambda m: f"data.source.n_{m[1]} 12", line)
    line = line.replace("status runs/633_fusion_variants", "status runs").replace("doctor --json", "doctor")
    line = "stouter simulate city --stations 9 --days 7" if line == "stouter simulate city" else line
    verb = line.split()[1]
    if verb == "run":
        line = re.sub(r"^stouter run (?!\S*\.yaml)\S+( --simulated)?", "stouter run tiny", line)  # simulated anyway
        line = re.sub(r"--init (simulated_milan|milan_28|demo)\b", "--init runs/run/demo/seed0", line)  # as small
        line = f"{line} {FAST}"
        line += " -p diffusion.n_steps 4 -p diffusion.n_sampling_steps 4" if "preset paper" in line else ""
        line += " -p data.source.n_days 30" if "data.period week" in line else ""  # to hold out and to learn
    if verb == "tune":
        line = line.replace("tune demo", "tune tiny") + f" --grid grid.yaml -p data.source.n_days 24 {FAST}"
    return line


GRID = """question: Which learning rate?
datasets: [tiny]
seeds: [0]
baseline: as configured
variants:
  as configured: {}
  slower: {train.lr: x 0.5}
"""
WEEK = "2013-11-04:2013-11-10"  # days of the tiny run
COMPLETE = sorted({span for span in SPANS if is_complete(span)})
ALL = sorted({*LINES, *COMPLETE, *(line for _, line in EXAMPLES)})


def test_every_command_is_executed_here_or_elsewhere():
    assert {line.split()[1] for line in ALL} <= {*ORDER, *ELSEWHERE} and len(ALL) >= 45
    for name, call in ELSEWHERE.values():
        assert call in (ROOT / "tests" / name).read_text(), name


def test_every_command_of_readme_site_and_help_runs(workplace, monkeypatch):
    "On the tiny run and city, in an order in which each finds the files that others write."
    monkeypatch.chdir(workplace)
    helps = {line for _, line in EXAMPLES}
    chosen = [line for line in ALL if line.split()[1] in ORDER and (line in helps or not of_a_tutorial(line))]
    lines = {smaller(line) for line in chosen}
    for line in sorted(lines, key=lambda line: (ORDER.index(line.split()[1]), line)):
        for path in re.findall(r"\S+\.yaml", line):
            if not Path(path).exists():
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                text = (experiments_folder() / "params/tiny.yaml").read_text()
                Path(path).write_text("train.lr: 0.001\n" if path == "chosen.yaml" else text)
        run = line.split()[1] == "run" and "--out" not in line
        done = call(f"{line} --out runs/{abs(hash(line))}" if run else line)
        assert done.exit_code == 0, (line, done.exception, done.output[-800:])
        if line.split()[1] != "completion":
            json.loads(done.stdout)  # the JSON, and nothing else
    for name in ("week.parquet", "page.html", "load.csv", "places.csv", "sleep.csv", "week.nc", "graph.safetensors"):
        assert (workplace / name).stat().st_size > 0, name


def call(line):
    "A command line in this process, with its result as JSON."
    words = join_overrides(shlex.split(line)[1:])
    return CliRunner().invoke(app, words if words[0] == "completion" or "--json" in words else [*words, "--json"])


BLOCKS = {path.stem: copied_lines(path) for path in DOCUMENTS if path.parent == TUTORIALS and copied_lines(path)}
BY_TEST = ("1_quickstart", "4_new_sites", "6_three_days")  # executed here; cells execute the others


def of_a_tutorial(line):
    "Whether a line needs the files that its tutorial has made."
    return any(line in lines for lines in BLOCKS.values())


BY_CLUSTER = ("11_cluster",)  # commands with workers: `test_cluster.py` executes them


@pytest.mark.parametrize("name", [name for name in BLOCKS if name not in (*BY_TEST, *BY_CLUSTER)])
def test_cells_of_a_tutorial_execute_its_commands(name):
    "Each command of a block, but a download and the run that the Python call makes, stands in a cell too."
    code = source_of(ROOT / f"nbs/tutorials/{name}.ipynb")[1]
    words = " ".join(re.findall(r"[^\s\"'*(),]+", code))
    for line in (line for line in BLOCKS[name] if line.split()[1] not in ELSEWHERE):
        wanted = " ".join(re.findall(r"[^\s\"'*(),]+", line.removeprefix("stouter ")))
        if line.startswith("stouter run"):
            wanted = f'stouter.run("{line.split()[2]}"'
            assert wanted in code, line
        else:
            assert wanted in words, line


@pytest.mark.parametrize("name", BY_TEST)
def test_the_block_of_a_tutorial_runs(name, tmp_path, monkeypatch):
    "Line by line in an empty folder, smaller; the tables that the tutorial makes in Python are made here."
    monkeypatch.chdir(tmp_path)
    for line in BLOCKS[name]:
        if "--sites" in line:
            stations = pd.read_parquet("town/stations.parquet")[["lon", "lat"]].iloc[:2]
            stations.set_axis(["S01", "S02"]).rename_axis("id").to_csv("new_sites.csv")
        if "--known" in line:
            rows = open_traffic(tmp_path / "harbour.nc").select(last="2013-11-06", services=["internet"]).to_frame()
            rows = rows.assign(Timestamp=rows.time.dt.strftime("%Y-%m-%d %H:%M"))
            rows.rename(columns={"station": "Cell", "value": "Volume"})[["Cell", "Timestamp", "Volume"]].to_csv(
                "three_days.csv", index=False
            )
            city = "name: harbour\ngrid: harbour/grid.geojson\npois: harbour/pois.geojson\ntimezone: Europe/Rome\n"
            Path("harbour.yaml").write_text(city)
        line = line.replace("--stations 30", "--stations 6").replace("--samples 32", "--samples 2")
        done = call(smaller(line))
        assert done.exit_code == 0, (line, done.exception)
    assert len(pd.read_parquet("plan.parquet" if name == "4_new_sites" else "week.parquet")) > 0


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
