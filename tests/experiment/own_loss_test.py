"""A loss of one's own: config.loss.name=FILE.py:NAME."""

import numpy as np
import pytest

from jalign.cli.config_file import read_config
from jalign.errors import UserError
from jalign.experiment.commands.sweep import runs
from jalign.experiment.config import own_loss
from jalign.experiment.loss import bind
from jalign.training.metrics import read_jsonl

TEXT = """
import functools

import jax


def logistic(chosen_logps, rejected_logps, ref_chosen_logps,
             ref_rejected_logps, *, beta=0.1):
  h = chosen_logps - rejected_logps - ref_chosen_logps + ref_rejected_logps
  return jax.nn.softplus(-beta * h)


def likelihood(logps, lengths, *, power=1):
  return -logps / lengths**power


def ranked(logps, scores, valid):
  return -(logps * scores * valid).sum(-1)


def reduced(chosen_logps):
  return chosen_logps.mean()


def broken(chosen_logps):
  return chosen_logps.nope


def misspelt(chosen_logprobs, rejected_logps):
  return rejected_logps


def ordinary(chosen_logps, beta=0.1):
  return -beta * chosen_logps


def lacking(chosen_logps, *, alpha):
  return -alpha * chosen_logps


def named(chosen_logps, *, weights=1.0):
  return -chosen_logps


def shaped(chosen_logps, rejected_logps, *, shape=jax.nn.softplus, beta=0.1):
  return shape(beta * (rejected_logps - chosen_logps))


sharp = functools.partial(logistic, beta=4.0)
"""


@pytest.fixture
def mine(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(TEXT)
  return file


def _bound(mine, name, *flags):
  flags = [f"loss.name={mine}:{name}", *flags]
  config = read_config("dpo", [tuple(f.split("=", 1)) for f in flags])
  (run,) = runs(config)
  return bind(run.settings.stages[-1])


def test_hyperparameters_are_keyword_only_and_set_by_flags(mine):
  loss = _bound(mine, "logistic", "loss.beta=0.5")
  arrays = [np.array([x, 0.0], np.float32) for x in (3, 1, 0, 0)]
  want = np.log1p(np.exp(-0.5 * np.array([2.0, 0.0])))
  np.testing.assert_allclose(loss.function(*arrays), want, rtol=1e-6)
  assert loss.title == "mine.py:logistic(beta=0.5)"
  assert (loss.denominator, loss.coupled) == ("examples", False)


def test_a_partial_is_a_loss_with_other_defaults(mine):
  arrays = [np.array([x, 0.0], np.float32) for x in (3, 1, 0, 0)]
  for flags, beta in (([], 4.0), (["loss.beta=0.5"], 0.5)):
    loss = _bound(mine, "sharp", *flags)
    assert loss.title == f"mine.py:sharp(beta={beta})"
    want = np.log1p(np.exp(-beta * np.array([2.0, 0.0])))
    np.testing.assert_allclose(loss.function(*arrays), want, rtol=1e-5)


def test_a_default_that_no_file_holds_stays_in_the_function(mine):
  config = read_config(f"dpo:{mine}:shaped", [])
  assert config["loss"] == {"name": f"{mine}:shaped", "beta": 0.1}
  assert _bound(mine, "shaped").batch.name == "pairs"


def test_it_may_be_a_config_s_argument(mine):
  config = read_config(f"dpo:{mine}:logistic", [])
  assert config["loss"] == {"name": f"{mine}:logistic", "beta": 0.1}


@pytest.mark.parametrize(
  "name, flags, kind",
  [
    ("logistic", [], "pairs"),
    ("likelihood", [], "sequences"),
    ("likelihood", ["loss.batch=unpaired"], "unpaired"),
    ("ranked", [], "lists"),
  ],
)
def test_the_names_of_arrays_tell_the_kind_of_batch(mine, name, flags, kind):
  assert _bound(mine, name, *flags).batch.name == kind


def test_keys_say_what_the_catalogue_says_of_its_losses(mine):
  flags = ["loss.denominator=tokens", "loss.coupled=true", "loss.power=0.5"]
  loss = _bound(mine, "likelihood", *flags)
  assert (loss.denominator, loss.coupled) == ("tokens", True)
  logps, lengths = np.array([-4.0, -6.0]), np.array([4.0, 9.0])
  np.testing.assert_allclose(loss.function(logps, lengths), [2, 2], rtol=1e-6)


@pytest.mark.parametrize(
  "name, flags, said",
  [
    (
      "reduced",
      [],
      "mine.py:LINE: reduced gave shape () for 2 examples. R",
    ),
    ("broken", [], "mine.py:LINE: broken raised AttributeError"),
    ("misspelt", [], "lack chosen_logprobs. Did you mean 'chosen_logps'?"),
    ("ordinary", [], "'beta' has a default and isn't keyword-only. Hyperpar"),
    ("lacking", [], "needs a value of 'alpha'. Give --config.align.loss.alpha"),
    ("named", [], "a hyperparameter is called 'weights', which is a key of"),
    ("lacking", ["loss.beta=1"], "has no hyperparameter 'beta'. It has: alpha"),
    ("logistic", ["loss.batch=pears"], "config.align.loss.batch: batches of"),
    (
      "logistic",
      ["loss.batch=lists"],
      "config.align.loss.batch: a batch of lists gives no chosen_logps and no",
    ),
    ("logistic", ["loss.denominator=words"], "'words' is not one of examples"),
    ("logstic", [], "has no function 'logstic'. Did you mean 'logistic'?"),
  ],
)
def test_a_mistake_is_told_with_its_place(mine, name, flags, said):
  with pytest.raises(UserError) as caught:
    _bound(mine, name, *flags)
  marks = {"reduced": "def reduced", "broken": "logps.nope"}
  before = TEXT.partition(marks.get(name, "\n"))[0]
  line = str(before.count("\n") + 1)
  assert said.replace("LINE", line) in str(caught.value)


def test_a_hash_of_its_code(mine):
  section = {"name": f"{mine}:logistic"}
  before = own_loss.fingerprint(section)
  assert own_loss.fingerprint({"name": "dpo"}) == "" != before
  mine.write_text(TEXT.replace("-beta * h", "-beta * h * 2"))
  assert own_loss.fingerprint(section) != before
  mine.unlink()
  assert own_loss.fingerprint(section) == ""
  for module in ("no_such_module", "no_such_package.losses"):
    assert own_loss.fingerprint({"name": f"{module}:logistic"}) == ""
  assert own_loss.fingerprint({"name": "jalign.losses:dpo"}) != ""


def test_it_trains_as_the_library_s_and_a_changed_one_does_not_go_on(
  place, mine
):
  flags = ["--config.stages=align", "--config.steps=2"]
  flags += ["--config.sample.prompts=1"]
  ours, _ = place.train(*flags, workdir="ours")
  own = [
    *flags,
    f"--config.loss.name={mine}:logistic",
    "--config.loss.beta=0.1",
  ]
  run, _ = place.train(*own, workdir="own")
  losses = [
    [row["train/loss"] for row in read_jsonl(path) if "train/loss" in row]
    for path in (ours / "align/metrics.jsonl", run / "align/metrics.jsonl")
  ]
  assert losses[0]
  np.testing.assert_allclose(*losses, rtol=1e-5)
  mine.write_text(TEXT.replace("-beta * h", "-beta * h * 2"))
  said = place.fails(place.command(*own, workdir="own"))
  assert "align.loss changed, and stages were trained from that" in said
