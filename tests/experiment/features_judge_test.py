"""A config's judge that weighs a user's features."""

import numpy as np
import pytest

from jalign.errors import UserError
from jalign.experiment.config.functions import guarded
from jalign.experiment.judges import JUDGES, Named, Tools
from jalign.feedback import assess, compare, make_answers


def lengths(prompts, responses):
  """Two features: words of the response, and words of the prompt."""
  return [(len(r.split()), len(p.split())) for p, r in zip(prompts, responses)]


def bad(prompts, responses):
  return [(1.0,)] * len(responses)


def _named(function, scale=1.0):
  def load(name, key, form, check, names):
    assert (name, key) == ("mine", "annotator.function")
    return guarded(function, f"config.{key}", form, check, names)

  tools = Tools(load, None, None, lambda: (), lambda: None)
  return Named("mine", scale, "config.annotator", tools)


def test_the_reward_is_the_weighted_sum():
  named = _named(lengths, 0.5)
  judge = JUDGES["features"].make(named, coefficients=(2.0, -1.0))
  one = make_answers(["a b", "c"], ["x y z", "w"])
  two = make_answers(["a b", "c"], ["x", "w"])
  np.testing.assert_array_equal(assess(judge, one).numbers("reward"), [4, 1])
  p = compare(judge, assess(judge, one), assess(judge, two))
  np.testing.assert_allclose(p, [1 / (1 + np.exp(-2)), 0.5], rtol=1e-6)


def test_one_coefficient_needs_no_list():
  make = JUDGES["features"].make
  one, two = make_answers(["p"], ["x y z"]), make_answers(["p"], ["x"])

  def first(prompts, responses):
    return [(len(r.split()),) for r in responses]

  judge = make(_named(first), coefficients=0.5)
  assert assess(judge, one).numbers("reward") == [1.5]
  assert assess(judge, two).numbers("reward") == [0.5]


def test_errors_name_the_key_or_the_function():
  make = JUDGES["features"].make
  for value in ((), "2", (1.0, "x"), (np.inf,)):
    with pytest.raises(UserError) as e:
      make(_named(lengths), coefficients=value)
    assert e.value.where == "config.annotator.settings.coefficients"
  judge = make(_named(bad), coefficients=(1.0, 2.0))
  with pytest.raises(UserError, match=r"finite numbers of shape \(2, 2\)"):
    assess(judge, make_answers(["p", "q"], ["r", "s"]))
