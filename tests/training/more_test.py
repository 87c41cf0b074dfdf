"""MORE in training: the head moves along the min-norm point of gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jalign import losses
from jalign.errors import UserError
from jalign.models import scalar
from jalign.training.objective import make_objective
from jalign.training.step import make_update
from tests.models.tiny import tiny
from tests.training import batches


def test_gradients_of_a_batch_are_the_min_norm_combination():
  config, model, params = tiny(num_hidden_layers=1, remat="none")
  head = scalar(config.hidden_size)
  own = head.init(jax.random.key(0))
  own["weight"] = 0.3 * jax.random.normal(
    jax.random.key(1), own["weight"].shape
  )
  rng = np.random.default_rng(0)
  label = np.eye(2)[[0, 1, 0, 1, 1, 0, 0, 1]]
  label[2] = 1  # a pair may have labels of both
  label[7] = 0  # as in a row that only fills the batch
  preference = np.where(label > 0, rng.uniform(size=(8, 2)), 0.5)
  batch = batches.scored_pairs(
    8, fill=1,
    objective=jnp.asarray(label, jnp.float32),
    objective_preferences=jnp.asarray(preference, jnp.float32),
    names=("good", "tall"),
  )  # fmt: skip
  objective = make_objective(losses.more, model, head=head)
  assert objective.coupled
  whole = {"model": params, "head": own}
  take = jax.jit(jax.grad(lambda p: objective.sums(p, batch)[0]))
  found = take(whole)

  states = np.asarray(jax.jit(model.forward)(params, batch.sequences.tokens))
  last = np.asarray(batch.sequences.lengths) - 1
  x = np.stack([row[i] for row, i in zip(states, last)]).astype(np.float64)
  gap = x[0::2] - x[1::2]
  p = 1 / (1 + np.exp(-gap @ np.asarray(own["weight"], np.float64)))
  slopes = (p[:, None] - preference) * label / label.sum(0)
  first, second = slopes.T @ gap  # of the mean losses, in the head's weights
  share = (second - first) @ second / ((first - second) ** 2).sum()
  share = np.clip(share, 0, 1)
  best = share * first + (1 - share) * second
  assert 0 < share < 1
  np.testing.assert_allclose(
    found["head"]["weight"], 7 * best, rtol=2e-3, atol=1e-4
  )
  # A step against it lowers both objectives.
  for gradient in (first, second):
    assert gradient @ best >= best @ best * (1 - 1e-9)
  # The weights are constants: below the head, gradients are weighted, too.
  mixed = jnp.asarray(
    7 * ((slopes * [share, 1 - share]).sum(1)), jnp.float32
  )  # slopes by the gap in scores

  def below(p):
    states = model.forward(p, batch.sequences.tokens)
    scores = states[jnp.arange(16), last] @ own["weight"]
    return mixed @ (scores[0::2] - scores[1::2])

  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=5e-3, atol=2e-4)
  jax.tree.map(close, found["model"], jax.jit(jax.grad(below))(params))
  with pytest.raises(UserError, match="couples the examples"):
    make_update(objective, optax.sgd(0.1), microbatches=2)
