"""Labels from which a loss can learn nothing are refused before training."""

import numpy as np
import pytest

from jalign import data, losses
from jalign.errors import UserError
from jalign.training.kinds import UNPAIRED


def test_labels_that_are_all_equal_are_refused(place):
  config = place.config.read_text().replace('("sft", "align")', '("align",)')
  place.config.write_text(
    config.replace("  return c", "  del c.sft\n  return c")
  )
  for name, label, said in (
    ("kto", True, "are desirable"),
    ("bco_unpaired", 0, "are undesirable"),
  ):
    place.write_data(
      {"prompt": f"q{i}:", "completion": f" a{i}", "label": label}
      for i in range(40)
    )
    error = place.fails(
      place.command(
        "--config.data.source=binary",
        f"--config.loss.name={name}",
      )
    )
    assert said in error and "both labels" in error
    assert "config.data" in error
    assert not list(place.folder.rglob("checkpoints"))


def _rows(prompts, labels):
  return [
    data.EncodedBinary(
      np.array([prompt], np.int32), np.array([9], np.int32), label, f"f:{i}"
    )
    for i, (prompt, label) in enumerate(zip(prompts, labels))
  ]


@pytest.mark.parametrize(
  "name", [n for n, e in losses.CATALOGUE.items() if e.batch == "unpaired"]
)
def test_every_loss_on_labels_needs_both(name):
  names = losses.array_parameters(losses.CATALOGUE[name].function)
  check = UNPAIRED.records["unpaired"].check
  check(name, names, _rows([1, 2], [True, False]))
  for label in (True, False):
    with pytest.raises(UserError, match="tells desirable responses"):
      check(name, names, _rows([1, 2], [label, label]))
  rows = _rows([1, 1], [True, False])
  if "mismatched_logps" in names:
    with pytest.raises(UserError, match="have one prompt"):
      check(name, names, rows)
  else:
    check(name, names, rows)
