"""Every algorithm of the table can be read about, configured and tried out."""

import re
import types

import pytest

from jalign.cli import algorithm_catalogue
from jalign.configs import online as config
from jalign.errors import UserError
from jalign.experiment import online
from jalign.experiment.config.algorithms import algorithm_of
from jalign.experiment.config.parse import parse
from jalign.experiment.loss import bind
from jalign.online import ALGORITHMS, POLICY, Needs, every_pair, hyperparameters
from jalign.online import bind as bind_algorithm
from tests.models.tiny import tiny


def _stage(name):
  return parse(config.get_config(name).to_dict()).stage("align")


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_config_of_a_row_fits_its_functions_and_its_loss(name):
  """From made-up responses to the loss's shapes, as before a run."""
  stage = _stage(name)
  run = types.SimpleNamespace(model_config=tiny(vocab_size=16)[0])
  online._try_out(run, stage, algorithm_of(stage), bind(stage))
  # Theory asks for an optimiser without momentum where games are cyclic.
  assert (stage.optimizer.b1 == 0) == ALGORITHMS[name].game
  assert config.SETTINGS.keys() <= ALGORITHMS.keys()


def test_the_catalogue_says_what_the_rows_do(capsys):
  algorithm_catalogue.main([])
  printed = capsys.readouterr().out
  for name, row in ALGORITHMS.items():
    assert re.search(rf"^{name}  \({re.escape(row.paper)}\)", printed, re.M)
    assert row.about and row.about in re.sub(r"\s+", " ", printed)
  assert f"{len(ALGORITHMS)} algorithms." in printed
  table = algorithm_catalogue.markdown_table()
  assert table.count("\n") == 2 + len(ALGORITHMS)
  assert (
    "| `nash_md` |" in table and "| policy, mixture | preference |" in table
  )


def test_one_row_is_told_with_its_settings(capsys):
  algorithm_catalogue.main(["nash_md"])
  told = capsys.readouterr().out
  assert "draws     policy, mixture" in told and "momentum" in told
  with pytest.raises(SystemExit) as ended:
    algorithm_catalogue.main(["nash"])
  assert ended.value.code
  assert "'nash_md'? There are" in capsys.readouterr().err


def test_samples_choose_how_often_the_first_draw_is_made():
  row = ALGORITHMS["online_ipo"]._replace(
    needs=Needs(preference=every_pair), samples=(2, 4)
  )
  assert hyperparameters(row)["samples"] == 2
  bound = bind_algorithm(row, {"samples": 3})
  assert bound.draws == (POLICY,) * 3
  assert bound.needs.pairs(3) == ((0, 1), (0, 2), (1, 2))
  for wrong in (1, 5, 2.0):
    with pytest.raises(UserError, match="from 2 to 4") as error:
      bind_algorithm(row, {"samples": wrong})
    assert error.value.where == "algorithm_settings.samples"
  with pytest.raises(UserError, match="samples: True is not a number"):
    bind_algorithm(row, {"samples": True})
  with pytest.raises(UserError, match="not a hyperparameter"):
    bind_algorithm(ALGORITHMS["online_ipo"], {"samples": 2})
