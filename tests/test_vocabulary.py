"Names are the field's: no word of the old private vocabulary in a name, key, flag, result column or title."

import ast
import csv
import json
import re
import sys

import pytest
import typer
from conftest import ROOT

from stouter import config
from stouter.cli import app
from stouter.evaluation.metrics import METRIC_GOALS, METRICS
from stouter.evaluation.realism import REALISM_GOALS

sys.path.insert(0, str(ROOT / "tools"))
from make_readme import FOLDERS, NBS, callouts, departures, generated_files, notebooks_of, title_and_sentence

PACKAGE = ROOT / "stouter"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Words that stood for a term of the field in version 0.1; each has a standard term, such as step for stride.
HOUSE_WORDS = set(
    """asker calm companions guess guessed heap hears judge judged judgement judgment kindred learnt lectured lent
    lesson lessons litter nobody passenger pieces pile pupil restless ruler shelf shrinks sines somebody
    strangers stray stride strides taught teach told walk walking waves whoever zone""".split()
)
# Whole names of version 0.1; their words are ordinary ones elsewhere.
HOUSE_NAMES = set(
    """advise alone around around_zone ask attend both_ways bridge_gaps chain check_fit check_whole city_view
    claim_folder claim_hours claim_parts compress cut day_starts descend draw_lessons draw_mask drawn
    edges_within embed_once fault_of few fill_part fill_unseen first_byte floor_and_ceiling gate
    generate_lessons grow guide guided held_out hidden_share hide hold_folder hour_guide hourconv hournorm
    in_areas in_company in_words is_over keep_covered label_volume labelledvolume lay_hours lay_rows lent_days
    log_ratio look look_ahead loops make_samples marks_of meet_files midnight_ratio normals of_stations
    one_pass onepass opened outside own per_sample place_waves placewaves plain_words probe read_once recipe
    sample_dpm set_aside shown smooth_maps solver_step split_outside spread_frame spread_over stand_in
    start_calm take_days taken team thin walk_back walk_dpm word_of words_of wrap write_whole""".split()
)
OLD_KEYS = set(
    """data.block_km data.coverage data.new_share data.other_city denoiser.multipliers denoiser.place_waves
    denoiser.pooled denoiser.width diffusion.guidance diffusion.objective diffusion.precision graph.both_ways
    graph.dim graph.hidden graph.hide graph.wrap source.bridge_hours source.keep source.only source.outside
    source.shards source.zone student threads train.clip train.hidden_share train.lent_days""".split()
)
OLD_FLAGS = {"--keep", "--outside", "--shards", "--zone", "--places", "--notebook"}
OLD_COLUMNS = set(
    """acf_distance band_coverage band_width c2st_floor correlation_curve daily_profile distance energy
    feature_distance high low midnight_ratio midnight_w1 mmd2 moran_levels moran_residuals nearest_ratio
    peak_hour_error peak_hour_share pit q95 q99 q999 residual_correlation_curve share surprise trained
    variogram w1 weekly_profile""".split()
)
PROSE_WORDS = re.compile(
    r"\b(strides?|walks?|walked|road|lessons?|taught|pupil|told|hears?|listens?|judges?|judged|judgements?|kindred|lent|"
    r"heap|pile|students?|whole chain|old days|"
    r"companions?|in company|currenc(?:y|ies)|coins?|rooms?|whoever|nobody|somebody|anybody|stand-in|"
    r"mended|riddle|bare hands|by heart|broken off|killed|death|sines of)\b",
    re.I,
)


def split_words(name):
    "The words of a snake_case or CamelCase name."
    return set(re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower().split("_"))


def defined_names(path):
    "Names of `__all__`, functions, classes and methods of a module, and of the module itself."
    names = {path.stem} if path.stem != "__init__" else set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names |= {part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)}
    return names


def config_fields():
    "Dotted fields of the whole configuration; those of every source stand under `source`."
    sections = {
        "": config.ExperimentConfig,
        "data.": config.DataConfig,
        "graph.": config.GraphConfig,
        "denoiser.": config.DenoiserConfig,
        "diffusion.": config.DiffusionConfig,
        "train.": config.TrainConfig,
        "distillation.": config.DistillationConfig,
        "evaluation.": config.EvaluationConfig,
    }
    fields = {prefix + name for prefix, section in sections.items() for name in section.model_fields}
    sources = [getattr(config, name) for name in config.__all__ if name.endswith("Source") and name != "Source"]
    return fields | {f"source.{name}" for source in sources for name in source.model_fields}


def flags():
    command = typer.main.get_command(app)
    return {option for part in command.commands.values() for parameter in part.params for option in parameter.opts}


def result_columns():
    "Columns of the tables in nbs/results/, and the metrics and methods that stand in them."
    names = set()
    for path in sorted((NBS / "results").glob("*.csv")):
        with path.open() as file:
            rows = list(csv.DictReader(file))
        names |= set(rows[0]) | {row["metric"] for row in rows if "metric" in row}
    for path in sorted((NBS / "results").glob("*.json")):
        for method, metrics in json.loads(path.read_text()).get("methods", {}).items():
            names |= {method, *metrics}
    return names


def house_words_in(names):
    "Of each name that is one of the old vocabulary, or has a word of it: what was found."
    found = {name: split_words(name) & HOUSE_WORDS | {name.lower()} & HOUSE_NAMES for name in names}
    return {name: words for name, words in found.items() if words}


def test_the_glossary_explains_every_metric_that_an_evaluation_prints():
    names = {*METRICS, *METRIC_GOALS, *REALISM_GOALS, "mae_physical", "rmse_physical", "crps_physical"}
    explained = set(re.findall(r"`(\w+)`", (ROOT / "GLOSSARY.md").read_text()))
    assert not names - explained


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_house_word_in_a_name(path):
    assert not house_words_in(defined_names(path))


def test_no_house_word_in_a_configuration_key():
    fields = config_fields()
    assert not fields & OLD_KEYS
    assert not house_words_in({field.rpartition(".")[2] for field in fields})


def test_no_house_word_in_a_flag():
    names = flags()
    assert not names & OLD_FLAGS
    assert not house_words_in({name.strip("-").replace("-", "_") for name in names})


def test_no_house_word_in_a_result_column():
    names = result_columns()
    assert {"crps", "coverage_80", "real (other day)"} <= names
    assert not names & OLD_COLUMNS
    assert not house_words_in(names)


@pytest.mark.parametrize(
    "path", [path for folder in FOLDERS for path in notebooks_of(folder)], ids=lambda p: f"{p.parent.name}/{p.stem}"
)
def test_no_house_word_in_a_title_or_first_sentence(path):
    title, sentence = title_and_sentence(path)
    assert not PROSE_WORDS.findall(f"{title} {sentence}"), f"{title}: {sentence}"


def glossary_rows():
    lines = [line for line in (ROOT / "GLOSSARY.md").read_text().splitlines() if line.startswith("| ")]
    return [line for line in lines if not line.startswith(("| term", "|---"))]


def test_every_name_of_the_glossary_exists():
    rows = glossary_rows()
    assert 40 <= len(rows) <= 110
    assert all(line.count(" | ") == 2 or line.replace("\\|", "").count("|") == 5 for line in rows)
    known = {name for path in MODULES for name in re.findall(r"[A-Za-z_]\w*", path.read_text())}
    named = {name for line in rows for name in re.findall(r"`([^`]+)`", line)}
    assert named - known == set(), "the glossary names what the package does not have"


def test_generated_files_are_up_to_date():
    for path, text in generated_files().items():
        assert path.exists() and path.read_text() == text, f"{path.relative_to(ROOT)}: run `make readme`"


def test_departures_hold_every_callout():
    text = departures()
    assert text.count("\n- ") == sum(
        len(callouts(path))
        for folder in FOLDERS
        for path in notebooks_of(folder)
        if path.parent.name != "findings" or path.stem != "7_departures"
    )
    for target in re.findall(r"\]\(([^)#\s]+)\)", text):
        assert target.startswith("http") or (NBS / "findings" / target).exists(), target
