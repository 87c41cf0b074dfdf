"""Values of tokens and rows that aren't scored have no influence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses
from jalign.training.kinds import vocabulary
from tests.oracles import inputs

MASKED = [
  name
  for name, entry in losses.CATALOGUE.items()
  if "mask" in losses.array_parameters(entry.function)
  and entry.batch != "distributions"
]


def _axes(entry, name):
  return vocabulary(entry.batch)[name].split()[0]


def _value_and_gradient(function, arrays):
  arrays = {key: jnp.asarray(x) for key, x in arrays.items()}
  first = next(iter(arrays))
  loss = lambda x: function(**(arrays | {first: x}))
  return loss(arrays[first]), jax.grad(lambda x: loss(x).sum())(arrays[first])


@pytest.mark.parametrize("name", MASKED)
def test_unscored_values_have_no_effect(name):
  entry = losses.CATALOGUE[name]
  names = losses.array_parameters(entry.function)
  arrays = inputs.ordinary(names, entry.batch)
  arrays["mask"][0] = False
  spoilt = {}
  for key, x in arrays.items():
    if x.dtype == bool or "T" not in _axes(entry, key):
      spoilt[key] = x
      continue
    scored = arrays["mask"].reshape(
      arrays["mask"].shape + (1,) * (x.ndim - arrays["mask"].ndim)
    )
    junk = np.where(np.arange(x.size) % 2, np.nan, -np.inf).reshape(x.shape)
    spoilt[key] = np.where(scored, x, junk)
  with jax.enable_x64(True):
    expected, slopes = _value_and_gradient(entry.function, arrays)
    spoilt_values, spoilt_slopes = _value_and_gradient(entry.function, spoilt)
  np.testing.assert_allclose(spoilt_values, expected, rtol=1e-12)
  np.testing.assert_allclose(spoilt_slopes, slopes, rtol=1e-12)
  np.testing.assert_array_equal(slopes[~arrays["mask"]], 0)
