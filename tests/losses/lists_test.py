"""Further properties that every loss on lists must have."""

import functools

import jax
import numpy as np
import pytest

from jalign import losses
from tests.losses.identities_test import close
from tests.oracles import inputs

NAMES = [n for n, e in losses.CATALOGUE.items() if e.batch == "lists"]
EACH = pytest.mark.parametrize("name", NAMES)
ARRAYS = ("logps", "ref_logps", "lengths", "scores")
# s = (0.3, -0.1, 0.2, 0), labels (0.9, 0.2, 0.6, 0.1); computed independently.
GOLDEN = [
  ("pair_logistic", {}, 3.608658),
  ("pair_hinge", {}, 4.8),
  ("list_mle", {}, 2.882980),
  ("list_net", {}, 1.293196),
  ("point_mse", {}, 0.62),
  ("point_sigmoid", {}, 2.620038),
  ("lipo_lambda", {}, 0.854776),
  ("lipo_lambda_rax", {}, 4 * 0.592485 / 6),  # rax's mean is 0.098748
]
# q = (0.2, -0.1, 0.4), scores (1, 0, 0.5).
GOLDEN_OF_THREE = [
  ("nca_list", {"alpha": 1.0}, 1.384424),
  ("info_nca", {"alpha": 1.0}, 1.080397),
]


@pytest.fixture(autouse=True)
def _float64():
  with jax.enable_x64(True):
    yield


@functools.cache
def _compiled(name):
  """A loss as a function of arrays by name, and its sum's gradient."""
  function = losses.CATALOGUE[name].function
  names = losses.array_parameters(function)

  def loss(logps, arrays, settings):
    arrays = arrays | {"logps": logps}
    return function(*(arrays[key] for key in names), **settings)

  total = lambda *args: loss(*args).sum()
  return jax.jit(loss), jax.jit(jax.grad(total))


def loss_of(name, arrays, **settings):
  """The loss on those arrays that it takes, [B, K] or a single list."""
  return np.asarray(_compiled(name)[0](arrays["logps"], arrays, settings))


def gradient_of(name, arrays, **settings):
  """Gradient of the summed loss in the policy's log-probs."""
  return np.asarray(_compiled(name)[1](arrays["logps"], arrays, settings))


def random_lists(rows=32, seed=3):
  return inputs.ordinary((*ARRAYS, "valid"), "lists", rows=rows, seed=seed)


def full_list(logps, scores, lengths=None, ref_logps=None):
  """Arrays of one full list; by default a reference of 0 and lengths of 1."""
  logps = np.asarray(logps, float)
  filled = lambda x, default: (
    np.full_like(logps, default) if x is None else np.asarray(x, float)
  )
  return {
    "logps": logps,
    "ref_logps": filled(ref_logps, 0),
    "lengths": filled(lengths, 1),
    "scores": np.asarray(scores, float),
    "valid": np.ones(logps.shape, bool),
  }


@pytest.mark.parametrize("name, settings, expected", GOLDEN)
def test_golden_numbers(name, settings, expected):
  s = [0.3, -0.1, 0.2, 0.0]
  arrays = full_list(
    np.array(s) / 0.05 - 7, [0.9, 0.2, 0.6, 0.1], None, [-7.0] * 4
  )
  close(loss_of(name, arrays, **settings), expected, 1e-6)


@pytest.mark.parametrize("name, settings, expected", GOLDEN_OF_THREE)
def test_golden_numbers_of_three(name, settings, expected):
  arrays = full_list(np.array([0.2, -0.1, 0.4]) / 0.1, [1.0, 0.0, 0.5])
  close(loss_of(name, arrays, **settings), expected, 1e-6)


def test_golden_ranking():
  lengths = np.array([5.0, 8.0, 6.0])
  arrays = full_list(
    np.array([-1.2, -1.0, -1.5]) * lengths, [2, 1, 0.5], lengths
  )
  close(loss_of("rrhf", arrays, beta_sft=0.0), 0.2, 1e-6)
  close(loss_of("rrhf", arrays), 6.2, 1e-6)
  close(loss_of("pro", arrays, beta_sft=0.0), 1.927427, 1e-6)
  close(loss_of("pro", arrays), 1.927427 + 0.05 * 4 * 6, 1e-6)


def test_golden_alignment():
  arrays = full_list([-1.0, -1.2, -1.4, -2.5], [1, 0, 1, 0])
  close(loss_of("aft", arrays), 1.279860, 1e-6)
  close(loss_of("aft_detached", arrays), 1.279860, 1e-6)
  close(loss_of("aft_boundary", arrays, boundary=0.3), 1.960172, 1e-6)


@EACH
def test_what_is_not_valid_does_not_matter(name):
  arrays = random_lists()
  valid = arrays["valid"]
  assert set(valid.sum(-1)) == {0, 1, 2, 3, 4}
  rng = np.random.default_rng(0)
  garbage = lambda x: rng.choice([np.nan, np.inf, -1e4, 1e4], x.shape)
  filled = arrays | {
    key: np.where(valid, arrays[key], garbage(valid)) for key in ARRAYS
  }
  close(loss_of(name, filled), loss_of(name, arrays), 1e-13)
  gradient = gradient_of(name, filled)
  close(gradient, gradient_of(name, arrays), 1e-13)
  assert (gradient[~valid] == 0).all()


@EACH
def test_a_short_list_is_the_list_without_the_rest(name):
  arrays = random_lists()
  expected = loss_of(name, arrays)
  for size in (2, 3):
    rows = arrays["valid"].sum(-1) == size
    valid = arrays["valid"][rows]
    short = {key: x[rows][valid].reshape(-1, size) for key, x in arrays.items()}
    close(loss_of(name, short), expected[rows], 1e-12)


@EACH
def test_the_order_of_a_list_does_not_matter(name):
  arrays = random_lists()
  for order in ([3, 2, 1, 0], [1, 3, 0, 2]):
    moved = {key: x[:, order] for key, x in arrays.items()}
    close(loss_of(name, moved), loss_of(name, arrays), 1e-12)
    expected = gradient_of(name, arrays)[:, order]
    close(gradient_of(name, moved), expected, 1e-12)


@EACH
def test_scores_are_constants(name):
  arrays = random_lists()
  function = losses.CATALOGUE[name].function
  others = {
    key: arrays[key]
    for key in losses.array_parameters(function)
    if key != "scores"
  }
  total = lambda x: function(scores=x, **others).sum()
  gradient = jax.jit(jax.grad(total))(arrays["scores"])
  np.testing.assert_array_equal(gradient, 0)


@EACH
def test_lists_that_compare_nothing(name):
  """Empty lists, single responses and equal scores do as docstrings say."""
  two = full_list([-3.0, -4.0], [0.4, 0.4], [2, 5], [-2.0, -6.0])
  empty = two | {"valid": np.array([False, False])}
  single = two | {"valid": np.array([False, True])}
  assert loss_of(name, empty) == 0
  np.testing.assert_array_equal(gradient_of(name, empty), 0)
  s = 0.05 * 2
  softplus = lambda x: np.log1p(np.exp(x))
  alone = {
    "point_mse": (0.4 - s) ** 2,
    "point_sigmoid": softplus(s) - 0.4 * s,
    "rrhf": 4.0,
  }
  close(loss_of(name, single), alone.get(name, 0), 1e-13)
  if name not in alone:
    np.testing.assert_array_equal(gradient_of(name, single), 0)
  # rewards of -1 and 2 times beta; softmaxes of equal scores are even
  gap = {0.05: softplus(3 * 0.05), 0.1: softplus(3 * 0.1)}
  even = (gap[0.1] + softplus(-3 * 0.1)) / 2
  m = 1 / (1 + np.exp(-3 * 0.1))
  tied = {
    "list_mle": gap[0.05],
    "list_net": (gap[0.05] + softplus(-3 * 0.05)) / 2,
    "point_mse": (0.4 + 0.05) ** 2 + (0.4 - s) ** 2,
    "point_sigmoid": softplus(-0.05) + softplus(s) - 0.4 * (s - 0.05),
    "info_nca": even,
    "nca_list": (sum(softplus(q) + softplus(-q) for q in (-0.1, 0.2)) / 2),
    "exo_list": m * np.log(2 * m) + (1 - m) * np.log(2 * (1 - m)),
    "pro": np.log(2) + 0.05 * 3,
    "rrhf": 3.0,
  }
  close(loss_of(name, two), tied.get(name, 0), 1e-13)


def test_labels_that_are_no_weights():
  arrays = full_list([-3.0, -4.0, -5.0], [-2.0, 0.0, -1.0])
  assert loss_of("list_net", arrays) == 0
  np.testing.assert_array_equal(gradient_of("list_net", arrays), 0)
  mixed = full_list([-3.0, -4.0, -5.0], [-2.0, 0.5, 0.0])
  model = np.exp(0.05 * mixed["logps"])
  close(loss_of("list_net", mixed), -np.log(model[1] / model.sum()))


def test_equal_scores_take_the_order_of_the_list():
  def both(name, **settings):
    first = full_list([-3.0, -4.0, -9.0], [1.0, 1.0, 0.0])
    second = full_list([-4.0, -3.0, -9.0], [1.0, 1.0, 0.0])
    losses_of_both = [loss_of(name, x, **settings) for x in (first, second)]
    return [float(x) for x in losses_of_both]

  learnt, other = both("list_mle", beta=1.0)
  second_pick = np.log1p(np.exp(-5)) - np.log1p(np.exp(-6))
  close(other - learnt, 1.0 - second_pick)
  assert len(set(both("pro", beta_sft=0.0))) == 2
  close(both("rrhf"), [3.0, 4.0])
  for name in (
    "pair_logistic",
    "pair_hinge",
    "aft",
    "aft_boundary",
    "exo_list",
  ):
    learnt, other = both(name)
    close(learnt, other, 1e-13)


@EACH
def test_the_best_rises_and_the_worst_falls(name):
  """So it is from the reference on, for losses on rewards and on labels."""
  arrays = full_list([-3.0] * 4, [0.3, 0.9, 0.1, 0.6], None, [-3.0] * 4)
  gradient = gradient_of(name, arrays)
  if name.startswith("point_"):
    labels, middle = arrays["scores"], 0.5 if name.endswith("sigmoid") else 0
    close(np.sign(gradient), np.sign(middle - labels))
    return
  assert gradient[1] < 0 <= gradient[2]
  if name not in ("rrhf", "aft_detached"):
    assert gradient[2] > 0


SHIFTED = [
  n
  for n in NAMES
  if "ref_logps" in losses.array_parameters(losses.CATALOGUE[n].function)
]


@pytest.mark.parametrize("name", SHIFTED)
def test_what_the_prompt_adds_to_all_cancels(name):
  arrays = random_lists()
  shifted = arrays | {"logps": arrays["logps"] + 2.5}
  before, after = loss_of(name, arrays), loss_of(name, shifted)
  if name in ("point_mse", "point_sigmoid", "nca_list"):
    assert np.abs(after - before).max() > 0.01
  else:
    close(after, before, 1e-12)
