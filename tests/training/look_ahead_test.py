"""MetaRM's objective against a step written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jalign import losses
from jalign.data import ScoreBatch
from jalign.errors import UserError
from jalign.models import scalar
from jalign.training.look_ahead import LookAheadBatch, look_ahead
from jalign.training.objective import make_objective
from jalign.training.state import init_state
from jalign.training.step import make_update
from tests.models.tiny import tiny
from tests.training import batches

ETA = 0.3


@pytest.fixture(scope="module")
def parts():
  config, model, params = tiny(num_hidden_layers=1, remat="none")
  head = scalar(config.hidden_size)
  own = head.init(jax.random.key(0))
  own["weight"] = jax.random.normal(jax.random.key(1), own["weight"].shape)
  pairs = make_objective(losses.bradley_terry, model, head=head)
  spread = make_objective(losses.score_spread, model, batch="scores", head=head)
  rows = batches.sequences(12, seed=3)
  samples = ScoreBatch(
    rows,
    jnp.array([1.0, 1.0, 0.0]),  # the last prompt only fills the batch
    ranks=jnp.ones((3, 4)),
    valid=jnp.ones((3, 4), bool),
  )
  batch = LookAheadBatch(batches.scored_pairs(4, fill=1), samples)
  return model, {"model": params, "head": own}, pairs, spread, batch


def _scores(model, params, sequences):
  states = model.forward(params["model"], sequences.tokens)
  last = states[jnp.arange(len(states)), sequences.lengths - 1]
  return last @ params["head"]["weight"] + params["head"]["bias"]


def test_the_gradient_is_that_of_the_loss_after_a_step_up_the_spread(parts):
  model, params, pairs, spread, batch = parts

  def spread_by_hand(p):
    s = _scores(model, p, batch.samples.sequences).reshape(3, 4)[:2]
    each = [
      jax.nn.sigmoid(jnp.abs(s[:, i] - s[:, j]))
      for i in range(4)
      for j in range(i + 1, 4)
    ]
    return jnp.mean(2 / 16 * sum(each))

  def loss_by_hand(p):
    s = _scores(model, p, batch.pairs.sequences)
    return jnp.sum(jnp.log1p(jnp.exp(s[1::2] - s[0::2]))[:3])

  spread_by_hand = jax.jit(spread_by_hand)
  loss_by_hand = jax.jit(loss_by_hand)
  up = jax.jit(jax.grad(spread_by_hand))(params)
  there = jax.tree.map(lambda p, g: p + ETA * g, params, up)
  assert spread_by_hand(there) > spread_by_hand(params) + 1e-4
  want = jax.jit(jax.grad(loss_by_hand))(there)
  here = jax.jit(jax.grad(loss_by_hand))(params)
  objective = look_ahead(pairs, spread, ETA)
  take = jax.value_and_grad(objective.sums, has_aux=True)
  (total, (count, metrics)), found = jax.jit(take)(params, batch)
  np.testing.assert_allclose(total, loss_by_hand(there), rtol=1e-5)
  assert float(count) == 3 and objective.coupled
  value, prompts = metrics["score_spread"]
  np.testing.assert_allclose(value / prompts, spread_by_hand(params), rtol=1e-5)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)
  jax.tree.map(close, found, want)
  moved = optax.tree.norm(optax.tree.sub(want, here))
  assert float(moved) > 1e-2  # the step matters


def test_no_step_is_plain_training_and_equal_scores_have_the_least_spread(
  parts,
):
  _, params, pairs, spread, batch = parts
  plain = jax.jit(jax.grad(lambda p: pairs.sums(p, batch.pairs)[0]))(params)
  still = look_ahead(pairs, spread, 0.0)
  found = jax.jit(jax.grad(lambda p: still.sums(p, batch)[0]))(params)
  same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
  jax.tree.map(same, found, plain)
  equal = params | {"head": jax.tree.map(jnp.zeros_like, params["head"])}
  _, (count, metrics) = jax.jit(still.sums)(equal, batch)
  assert float(count) == 3
  value, prompts = metrics["score_spread"]
  assert float(value / prompts) == pytest.approx(3 / 8)  # (K - 1) / (2 K)


def test_a_part_that_is_not_trained_can_be_kept_from_moving(parts):
  _, params, pairs, spread, batch = parts
  head_only = lambda g: g | {"model": jax.tree.map(jnp.zeros_like, g["model"])}
  objective = look_ahead(pairs, spread, 5.0, moved=head_only)
  there = params | {
    "head": jax.tree.map(
      lambda p, g: p + 5.0 * g,
      params["head"],
      jax.jit(jax.grad(lambda p: spread.sums(p, batch.samples)[0] / 2))(params)[
        "head"
      ],
    )
  }
  np.testing.assert_allclose(
    jax.jit(objective.sums)(params, batch)[0],
    jax.jit(pairs.sums)(there, batch.pairs)[0],
    rtol=1e-4,
  )


def test_it_trains_and_refuses_microbatches(parts):
  _, params, pairs, spread, batch = parts
  objective = look_ahead(pairs, spread, ETA)
  optimizer = optax.adam(3e-3)
  update = make_update(objective, optimizer)
  state = init_state(jax.tree.map(jnp.array, params), optimizer)
  seen = []
  for _ in range(15):
    state, sums = update(state, batch)
    seen.append(float(sums["loss"][0]))
  assert seen[-1] < 0.5 * seen[0]
  with pytest.raises(UserError, match="couples the examples"):
    make_update(objective, optimizer, microbatches=2)
  with pytest.raises(UserError, match="must be >= 0"):
    look_ahead(pairs, spread, -1.0)
  with pytest.raises(UserError, match="aren't defined for a look-ahead"):
    objective.nudge(params, batch)
