"""Made-up data of stages that train a head on labels of several forms."""

import dataclasses

import numpy as np
import pytest

from jalign.configs import base
from jalign.experiment.config.parse import parse
from jalign.experiment.loss import bind
from jalign.plan.stand_in import dataset_of


@pytest.mark.parametrize(
  "loss, source, count",
  [
    ("cost_model", "pairs", 0),
    ("objective_bradley_terry", "pairs", 3),
    ("rating_regression", "ratings", 3),
    ("binary_discrimination", "binary", 0),
  ],
)
def test_made_up_examples_have_what_the_loss_takes(loss, source, count):
  c = base.get_config()
  c.stages = ("align",)
  c.loss = base.loss(loss)
  c.data.path, c.data.source = "x.jsonl", source
  settings = parse(c.to_dict())
  stage = settings.stage("align")
  head = {"name": "objectives", "count": count} if count else {}
  stage = dataclasses.replace(stage, head=head)
  dataset = dataset_of(stage, bind(stage), 4)
  batch = next(dataset.loader("scores", "train", 4, epochs=1)).data
  np.testing.assert_array_equal(batch.weights, 1)
  assert len(batch.names) == (count or (2 if source == "pairs" else 0))
  held = {
    "cost_model": "unsafe",
    "rating_regression": "rated",
    "binary_discrimination": "desirable",
  }.get(loss, "objective")
  assert getattr(batch, held) is not None
