"Every YAML file that travels with the package loads; every word of a variant has a class behind it."

from typing import get_args

import pytest
from conftest import ROOT

from stouter import config as c
from stouter.config_file import RENAMED_KEYS, RENAMED_VALUES, load_config
from stouter.denoisers.fusion import FUSIONS
from stouter.diffusion.objective import LOSSES, OBJECTIVES
from stouter.diffusion.reverse import SAMPLERS
from stouter.files import InputError
from stouter.graphs.encoders import ENCODERS
from stouter.pipeline.sources import SOURCES

FILES = sorted((ROOT / "nbs/experiments/params").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_file_loads_and_has_its_name(path):
    assert load_config(path).name == path.stem


@pytest.mark.parametrize(
    "model, field, choices",
    [
        (c.GraphConfig, "temporal_encoder", ENCODERS),
        (c.GraphConfig, "station_encoder", ENCODERS),
        (c.DiffusionConfig, "prediction_type", OBJECTIVES),
        (c.DiffusionConfig, "loss", LOSSES),
        (c.DiffusionConfig, "sampler", SAMPLERS),
        (c.DenoiserConfig, "fusion", FUSIONS),
    ],
)
def test_words_and_classes_agree(model, field, choices):
    assert set(get_args(model.model_fields[field].annotation)) == set(choices)


def test_every_source_has_an_opener():
    models = get_args(get_args(c.Source)[0])
    assert {get_args(model.model_fields["kind"].annotation)[0] for model in models} == set(SOURCES)


def test_new_names_are_fields_and_old_names_are_not():
    models = [model for model in vars(c).values() if isinstance(model, type) and issubclass(model, c.Config)]
    fields = {name for model in models for name in model.model_fields}
    assert {new.split(".")[-1] for new in RENAMED_KEYS.values()} <= fields
    assert not {old.split(".")[-1] for old in RENAMED_KEYS} & fields


@pytest.mark.parametrize("old, new", [*RENAMED_KEYS.items(), ("student.n_updates", "distillation")])
def test_old_key_is_answered_with_the_new_one(old, new):
    given = {"distillation.n_updates": "9", old: "1"} if old.startswith("distillation") else {old: "1"}
    with pytest.raises(InputError, match=f"{old.removesuffix('.n_updates')}: renamed; write {new}$"):
        load_config("demo", given)


@pytest.mark.parametrize(
    "key, old, new", [(key, old, new) for key, words in RENAMED_VALUES.items() for old, new in words.items()]
)
def test_old_value_is_answered_with_the_new_one(key, old, new):
    name, given = ("milan_28", {key: old}) if key.startswith("data.source.") else ("demo", {key: old})
    with pytest.raises(InputError, match=f"{key}: {old} was renamed; write {new}$"):
        load_config(name, given)
    with_new = load_config(name, {key: new}) if key != "data.source.kind" else None
    assert with_new is None or str(with_new.model_dump(mode="json")).count(f"'{new}'") >= 1
