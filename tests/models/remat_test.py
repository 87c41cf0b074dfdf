"""Recomputation in the backward pass: equal gradients, other memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign.logprobs import token_logprobs
from jalign.models.config import REMAT
from tests.models.tiny import tiny


@functools.cache
def _compiled(remat, length):
  """A compiled loss with gradients, and its arguments."""
  _, model, params = tiny(num_hidden_layers=6, remat=remat)
  tokens = jax.random.randint(jax.random.key(1), (4, length), 0, 64)

  def loss(p, t):
    hidden = model.forward(p, t)[:, :-1]
    return -jnp.sum(token_logprobs(hidden, model.head(p), t[:, 1:]))

  program = jax.jit(jax.value_and_grad(loss)).lower(params, tokens).compile()
  return program, (params, tokens)


@pytest.mark.parametrize("remat", [name for name in REMAT if name != "none"])
def test_the_policy_changes_no_gradient(remat):
  (plain, given), (other, _) = _compiled("none", 24), _compiled(remat, 24)
  (a, da), (b, db) = plain(*given), other(*given)
  np.testing.assert_array_equal(a, b)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(
      x, y, rtol=1e-5, atol=1e-6 * float(jnp.max(jnp.abs(x)))
    ),
    da,
    db,
  )


@pytest.mark.usefixtures("optimised")
@pytest.mark.slow
def test_the_policies_keep_less_and_less():
  # The layers are scanned: if unrolled, XLA:CPU merges repeated computations.
  none, dots, block = (
    _compiled(remat, 96)[0].memory_analysis().temp_size_in_bytes
    for remat in ("none", "dots", "block")
  )
  assert none > 1.3 * dots > 1.3**2 * block, (none, dots, block)
