"Every YAML file that travels with the package loads; every word of a variant has a class behind it."
from typing import get_args

import pytest
from conftest import ROOT
from stouter import config as c
from stouter.config_file import load_config
from stouter.denoisers.fusion import FUSIONS
from stouter.diffusion.objective import LOSSES, OBJECTIVES
from stouter.diffusion.reverse import SAMPLERS
from stouter.experiment.sources import SOURCES
from stouter.graphs.encoders import ENCODERS

FILES = sorted((ROOT / "nbs/experiments/params").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_file_loads_and_has_its_name(path):
    assert load_config(path).name == path.stem


@pytest.mark.parametrize("model, field, choices", [
    (c.GraphConfig, "temporal_encoder", ENCODERS),
    (c.GraphConfig, "station_encoder", ENCODERS),
    (c.DiffusionConfig, "objective", OBJECTIVES),
    (c.DiffusionConfig, "loss", LOSSES),
    (c.DiffusionConfig, "sampler", SAMPLERS),
    (c.DenoiserConfig, "fusion", FUSIONS),
])
def test_words_and_classes_agree(model, field, choices):
    assert set(get_args(model.model_fields[field].annotation)) == set(choices)


def test_every_source_has_an_opener():
    models = get_args(get_args(c.Source)[0])
    assert {get_args(model.model_fields["kind"].annotation)[0] for model in models} == set(SOURCES)
