"""The configs of planned sizes have the published shapes."""

import math
import pathlib

import pytest
from flax import traverse_util

from jalign import models
from jalign.cli.config_file import read_config
from jalign.configs.plans import qwen3
from jalign.experiment.config.parse import parse

FILES = sorted(pathlib.Path(qwen3.__file__).parent.glob("*b.py"))

# Billions of parameters by the model cards: all, and all but embeddings.
PUBLISHED = {
  "0.6B": (0.6, 0.44),
  "1.7B": (1.7, 1.4),
  "8B": (8.2, 6.95),
  "32B": (32.8, 31.2),
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_shapes_have_the_published_number_of_parameters(size):
  model = qwen3.config(size).model.to_dict()
  specs = models.param_specs(models.ModelConfig(qwen3.VOCABULARY, **model))
  counts = {
    name: math.prod(spec.shape)
    for name, spec in traverse_util.flatten_dict(specs, sep="/").items()
  }
  tables = counts["embed"] + counts.get("unembed", 0)
  every, without = PUBLISHED[size]
  assert sum(counts.values()) / 1e9 == pytest.approx(every, rel=0.02)
  assert (sum(counts.values()) - tables) / 1e9 == pytest.approx(
    without, rel=0.01
  )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_configs_of_plans_are_configs_of_runs(file):
  config = read_config(str(file), [("data.path", "FILE.jsonl")])
  (stage,) = parse(config).stages
  assert stage.steps and config["model"]["dtype"] == "bfloat16"
