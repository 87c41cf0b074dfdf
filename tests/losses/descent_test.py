"""Losses that no batch can feed are minimised on arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses
from jalign.training.kinds import KINDS, unread
from tests.oracles import inputs

UNFED = [
  name
  for name, entry in losses.CATALOGUE.items()
  if not entry.detached
  and (
    KINDS[entry.batch].head
    or unread(KINDS[entry.batch], losses.array_parameters(entry.function))
  )
]


@pytest.mark.parametrize("name", UNFED)
def test_ten_steps_lower_the_loss(name):
  function, entry = losses.resolve(name)
  names = losses.array_parameters(function)
  arrays = inputs.ordinary(names, entry.batch)
  arrays = {key: jnp.asarray(x) for key, x in arrays.items()}
  moved = names[0]
  value = jax.jit(lambda x: function(**(arrays | {moved: x})).sum())
  slope = jax.jit(jax.grad(value))
  x = arrays[moved].astype(jnp.float32)
  start = value(x)
  for _ in range(10):
    gradient = slope(x)
    x -= 1e-3 * gradient / jnp.maximum(jnp.linalg.norm(gradient), 1e-9)
  assert np.isfinite(x).all() and value(x) < start
