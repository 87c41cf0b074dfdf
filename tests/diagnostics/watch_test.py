"""Entanglement as it is watched in a step's own backward pass."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jalign import diagnostics, losses, sharding
from jalign.logprobs import sequence_logprobs, token_logprobs
from jalign.models import param_specs
from jalign.training.objective import make_objective
from jalign.training.state import init_state, state_shardings
from jalign.training.step import make_update
from tests.models.tiny import tiny
from tests.training import batches

LOSS = functools.partial(losses.dpo, beta=0.3)
PREFIX = "last_layer_"


def _mean(sums, name):
  total, count = sums[PREFIX + name]
  return float(total / count)


def _near_pairs(count):
  """Entangled pairs, which differ only in the last token; yielded singly."""
  rows = batches.sequences(2 * count)
  same = jax.tree.map(lambda x: jnp.repeat(x[::2], 2, axis=0), rows)
  at = jnp.arange(1, 2 * count, 2), same.lengths[1::2] - 1
  tokens = same.tokens.at[at].set(same.tokens[at] % 62 + 1)
  same = same.replace(tokens=tokens)
  whole = batches.pairs(count)
  for i in range(count):
    pair = jax.tree.map(lambda x, i=i: x[2 * i : 2 * i + 2], same)
    yield whole.replace(sequences=pair, weights=whole.weights[:1])


def _mapped(model, params, rows, a):
  """Log-probs of rows with final states mapped by h -> h + A h."""
  hidden = model.forward(params, rows.tokens)[:, :-1]
  hidden += jnp.einsum("de,rte->rtd", a, hidden)
  logps = token_logprobs(
    hidden, model.head(params), rows.tokens[:, 1:], mask=rows.mask[:, 1:]
  )
  return jnp.sum(logps, -1)


def test_state_products_are_those_of_a_linear_map():
  """They equal products of gradients in the map."""
  _, model, params = tiny()
  rows = batches.sequences(6)
  zero = jnp.zeros((params["embed"].shape[1],) * 2)
  mapped = lambda a: _mapped(model, params, rows, a)
  grads = jax.jit(jax.jacrev(mapped))(zero)
  flat = np.asarray(grads, np.float64).reshape(3, 2, -1)
  hidden = jax.jit(model.forward)(params, rows.tokens)[:, :-1]
  nudged = lambda x: jnp.sum(
    token_logprobs(
      x, model.head(params), rows.tokens[:, 1:], mask=rows.mask[:, 1:]
    )
  )
  got = diagnostics.state_products(hidden, jax.jit(jax.grad(nudged))(hidden))
  for product, (i, j) in zip(got, ((0, 0), (1, 1), (0, 1))):
    want = (flat[:, i] * flat[:, j]).sum(-1)
    np.testing.assert_allclose(product, want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("pulls", [(1.0, 1.0), (3.0, 1.0), (1.0, 3.0)])
def test_the_forecast_is_what_a_step_on_the_map_does(pulls):
  """For each pair, SGD on the map changes both log-probs with these signs."""
  _, model, params = tiny()

  def loss(chosen_logps, rejected_logps):
    return pulls[1] * rejected_logps - pulls[0] * chosen_logps

  objective = make_objective(loss, model)
  zero = jnp.zeros((params["embed"].shape[1],) * 2)

  @jax.jit
  def both(pair):
    """(sums of the watch, changes of the two log-probs)."""
    gradient, aux = jax.grad(
      lambda n: objective.nudged(params, n, pair), has_aux=True
    )(objective.nudge(params, pair, hidden=True))
    logps = lambda a: _mapped(model, params, pair.sequences, a)
    slope = jax.grad(lambda a: loss(*logps(a)))(zero)
    return (
      diagnostics.watch_pairs(gradient, aux[2], pair),
      logps(-1e-4 * slope) - logps(zero),
    )

  for pair in _near_pairs(4):
    sums, (up, down) = both(pair)
    (said,) = (
      k for k in diagnostics.SHARES if float(sums[PREFIX + k][0]) == 1.0
    )
    assert said == diagnostics.SHARES[int(diagnostics.case_of(up, down))]
    # Responses that share all but one token move together, unless the pulls on
    # both are equal.
    case = {1.0: "ideal", 3.0: "both_up", 1 / 3: "both_down"}
    assert said == case[pulls[0] / pulls[1]] + "_share"


@pytest.mark.parametrize("microbatches", [1, 2])
def test_watching_changes_no_update(microbatches):
  _, model, params = tiny()
  reference = model.init(jax.random.key(5))
  objective, optimizer = make_objective(LOSS, model), optax.sgd(0.1)
  batch, updates = batches.pairs(8, fill=1), []
  for watch in (None, diagnostics.watch_pairs):
    update = make_update(
      objective, optimizer, microbatches=microbatches, watch=watch
    )
    updates.append(update(init_state(params, optimizer), batch, reference))
  (plain, sums), (watched, more) = updates
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
    plain.params,
    watched.params,
  )
  assert set(more) - set(sums) == {
    PREFIX + k
    for k in (*diagnostics.SHARES, "cosine", "cosine_threshold", "pulled_share")
  }
  assert float(more[PREFIX + "pulled_share"][1]) == 7  # not the filled one
  np.testing.assert_allclose(
    sum(_mean(more, k) for k in diagnostics.SHARES), 1.0, rtol=1e-6
  )


def test_microbatches_and_shards_watch_the_same():
  config, model, params = tiny()
  reference = model.init(jax.random.key(5))
  objective, optimizer = make_objective(LOSS, model), optax.sgd(0.1)
  batch = batches.pairs(8, fill=1)

  def watched(mesh=None, **settings):
    placed = None
    if mesh is not None:
      placed = state_shardings(
        optimizer, params, sharding.shardings(param_specs(config), mesh), mesh
      )
    update = make_update(
      objective, optimizer, placed, watch=diagnostics.watch_pairs, **settings
    )
    state = init_state(params, optimizer, placed)
    _, sums = update(state, batch, reference)
    return {k: _mean(sums, k[len(PREFIX) :]) for k in sums if PREFIX in k}

  want = watched()
  np.testing.assert_allclose(want[PREFIX + "cosine"], 0.0, atol=1.0)
  for got in (watched(microbatches=2), watched(microbatches=4)):
    assert got == pytest.approx(want, rel=1e-4, abs=1e-5)
  mesh = sharding.make_mesh(2, 2, 2)
  with jax.set_mesh(mesh):
    assert watched(mesh) == pytest.approx(want, rel=1e-3, abs=1e-4)


def test_normalised_gradients_are_of_length_one():
  """Weights equal those from each response's gradient and from DPO's pulls."""
  _, model, params = tiny()
  reference = model.init(jax.random.key(5))
  plain = make_objective(LOSS, model)
  remedied = diagnostics.normalised(plain, model)
  batch = batches.pairs(3, fill=1)
  logps = jax.jit(functools.partial(sequence_logprobs, model))
  jacobian = jax.jit(jax.jacrev(lambda p: logps(p, batch.sequences)))(params)
  jacobian = jax.tree.map(np.asarray, jacobian)
  rows = [jax.tree.map(lambda x, i=i: x[i], jacobian) for i in range(6)]
  norm = lambda g: np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(g)))
  units = [jax.tree.map(lambda x, g=g: x / norm(g), g) for g in rows]
  now, ref = (logps(p, batch.sequences) for p in (params, reference))
  gained = now - ref
  pull = 0.3 * jax.nn.sigmoid(0.3 * (gained[1::2] - gained[::2]))
  weights = np.stack([-pull, pull], -1).ravel()[:4]  # none for the filling pair
  want = jax.tree.map(
    lambda *x: sum(w * unit for w, unit in zip(weights, x)), *units[:4]
  )
  (loss, (count, _)), grads = jax.jit(
    jax.value_and_grad(remedied.sums, has_aux=True)
  )(params, batch, reference)
  value, (total, _) = jax.jit(plain.sums)(params, batch, reference)
  np.testing.assert_allclose([loss, count], [value, total], rtol=1e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5),
    grads,
    want,
  )
