"""Closed-form coefficients against the gradients of the losses."""

import functools
import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses
from jalign.errors import UserError
from tests.oracles import inputs

# Policy gradients on two samples: which of them is better the scores say.
WITHOUT = {"p3o", "p3o_joint"}
PAIRWISE = [
  name for name, entry in losses.CATALOGUE.items() if entry.batch == "pairs"
]
WITH = pytest.mark.parametrize("name", losses.COEFFICIENTS)


def _twin(name, part):
  family = losses.CATALOGUE[name].function.__module__.split(".")[2]
  twins = importlib.import_module(f"tests.oracles.{family}")
  return getattr(twins, name + part, None)


def _cases(name, make=inputs.ordinary, **kwargs):
  """Arrays, and the default and other hyperparameters."""
  function = losses.CATALOGUE[name].function
  arrays = make(losses.array_parameters(function), "pairs", **kwargs)
  defaults = losses.hyperparameters(function)
  other = _twin(name, "_settings")
  other = other or {k: 1.3 * v + 0.05 for k, v in defaults.items()}
  return arrays, (defaults, other)


def _from_gradient(loss, arrays):
  """(d_w, d_l) by differentiating."""
  moved = ("chosen_logps", "rejected_logps")
  total = lambda *x: loss(**(arrays | dict(zip(moved, x)))).sum()
  up, down = jax.grad(total, (0, 1))(*(arrays[key] for key in moved))
  return -up, down


def test_every_pairwise_loss_has_them():
  assert set(PAIRWISE) - WITHOUT == set(losses.COEFFICIENTS)


@WITH
def test_signature_is_the_losss(name):
  strip = lambda f: [
    (p.name, p.kind, p.default)
    for p in inspect.signature(f).parameters.values()
  ]
  function = losses.COEFFICIENTS[name]
  assert function.__name__ == name
  assert strip(function) == strip(losses.CATALOGUE[name].function)


@WITH
def test_equal_the_gradient(name):
  arrays, settings = _cases(name, rows=64)
  with jax.enable_x64(True):
    arrays = {
      k: jnp.asarray(x, bool if x.dtype == bool else jnp.float64)
      for k, x in arrays.items()
    }
    for bound in settings:
      loss = functools.partial(losses.CATALOGUE[name].function, **bound)
      actual = losses.coefficients_of(loss)(**arrays)
      for d, expected in zip(actual, _from_gradient(loss, arrays), strict=True):
        assert d.shape == (64,) and d.dtype == jnp.float64
        np.testing.assert_allclose(d, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
  "name", [n for n in losses.COEFFICIENTS if _twin(n, "_coefficients")]
)
def test_equal_those_by_hand(name):
  arrays, settings = _cases(name)
  with jax.enable_x64(True):
    cast = {
      k: jnp.asarray(x, bool if x.dtype == bool else jnp.float64)
      for k, x in arrays.items()
    }
    for bound in settings:
      actual = losses.COEFFICIENTS[name](**cast, **bound)
      expected = _twin(name, "_coefficients")(*arrays.values(), **bound)
      np.testing.assert_allclose(
        np.stack(actual, -1), expected, rtol=1e-9, atol=1e-12
      )


@WITH
def test_at_extreme_log_probs_and_in_half_precision(name):
  """Finite, and the loss's own gradient, kinks and flat parts included."""
  arrays, _ = _cases(name, inputs.extreme)
  arrays = {
    k: jnp.asarray(x, bool if x.dtype == bool else jnp.float32)
    for k, x in arrays.items()
  }
  loss = losses.CATALOGUE[name].function
  actual = losses.COEFFICIENTS[name](**arrays)
  for d, expected in zip(actual, _from_gradient(loss, arrays), strict=True):
    assert np.isfinite(d).all()
    np.testing.assert_allclose(d, expected, rtol=1e-5, atol=1e-6)
  half = {
    k: x if x.dtype == bool else x.astype(jnp.bfloat16)
    for k, x in arrays.items()
  }
  with jax.numpy_dtype_promotion("strict"):
    actual = losses.COEFFICIENTS[name](**half)
  assert all(d.dtype == jnp.float32 for d in actual)


def test_at_kinks():
  one = lambda *x: tuple(jnp.asarray([v], jnp.float32) for v in x)
  pairs = {
    "slic_hf": one(-1.0, -2.0),
    "slic_ratio": one(0.0, -10.0, 0.0, 0.0),
    "dpop": one(-3.0, -4.0, -3.0, -4.0),
    "odpo": one(-3.0, -4.0, -3.0, -4.0, 1.0, 1.0),
    "orpo": one(0.0, 0.0, 3, 3),
    "asft": one(0.0, 0.0, 3, 3),
  }
  for name, arrays in pairs.items():
    loss = losses.CATALOGUE[name].function
    named = dict(zip(losses.array_parameters(loss), arrays))
    np.testing.assert_allclose(
      losses.COEFFICIENTS[name](*arrays),
      _from_gradient(loss, named),
      rtol=1e-6,
      err_msg=name,
    )


def test_of_a_loss():
  pair = [jnp.asarray([x]) for x in (-10.0, -12, -11, -11.5)]
  loss = functools.partial(losses.dpo, beta=0.3)
  nested = functools.partial(loss, label_smoothing=0.1)
  expected = 0.3 * (1 / (1 + np.exp(0.3 * 1.5)) - 0.1)
  for d in losses.coefficients_of(nested)(*pair):
    np.testing.assert_allclose(d, [expected], rtol=1e-6)
  bound, _ = losses.resolve("ipo", tau=0.5)
  np.testing.assert_allclose(losses.coefficients_of(bound)(*pair)[0], [-1.0])


def dpo(chosen_logps, rejected_logps):
  """Somebody's own loss, whose name is taken."""
  return rejected_logps - chosen_logps


@pytest.mark.parametrize(
  "loss", [losses.sft, losses.p3o, dpo, functools.partial(dpo)]
)
def test_a_loss_without_is_named(loss):
  with pytest.raises(UserError, match=f"^{losses.name_of(loss)} has no coeff"):
    losses.coefficients_of(loss)
