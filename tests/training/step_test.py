"""Updates: accumulation, weights, sharding, donation, clipping."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jalign import losses, sharding
from jalign.errors import UserError
from jalign.models import param_specs
from jalign.training.objective import make_objective
from jalign.training.optimizer import (
  OptimizerConfig,
  decayed,
  make_optimizer,
  make_schedule,
)
from jalign.training.state import init_state, state_shardings
from jalign.training.step import make_update, split_batch
from tests.models.tiny import tiny
from tests.training import batches

SGD = optax.sgd(0.1)
LOSSES = {
  "dpo": ("pairs", functools.partial(losses.dpo, beta=0.3), "examples"),
  "sft": ("sequences", losses.sft, "tokens"),
}


@functools.cache  # tests of a loss share its compiled update
def _make(name, optimizer=SGD, mesh=None, **settings):
  config, model, params = tiny()
  kind, loss, denominator = LOSSES[name]
  objective = make_objective(loss, model, batch=kind, denominator=denominator)
  shardings = None
  if mesh is not None:
    shardings = state_shardings(
      optimizer, params, sharding.shardings(param_specs(config), mesh), mesh
    )
  update = make_update(objective, optimizer, shardings, **settings)
  start = lambda: init_state(params, optimizer, shardings)
  reference = model.init(jax.random.key(5))
  return update, start, reference


def _batch(name, count=8, **kw):
  kind = LOSSES[name][0]
  return (batches.pairs if kind == "pairs" else batches.singles)(count, **kw)


def _mean(sums, name):
  return float(sums[name][0] / sums[name][1])


def _close(a, b, atol=1e-6):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=atol),
    jax.device_get(a),
    jax.device_get(b),
  )


@pytest.mark.parametrize(
  "name, parts",
  [
    ("dpo", 4),
    ("sft", 2),
    pytest.param("dpo", 2, marks=pytest.mark.slow),
    pytest.param("sft", 4, marks=pytest.mark.slow),
  ],
)
def test_accumulation_equals_the_full_batch(name, parts):
  """Lengths differ and rows have weight 0, so means of means would differ."""
  batch = _batch(name, fill=3)
  update, start, reference = _make(name)
  whole, sums = update(start(), batch, reference)
  update, start, _ = _make(name, microbatches=parts)
  accumulated, sums_accumulated = update(start(), batch, reference)
  _close(whole.params, accumulated.params)
  for key in sums:
    np.testing.assert_allclose(
      _mean(sums, key), _mean(sums_accumulated, key), rtol=2e-5
    )


@pytest.mark.parametrize("name", LOSSES)
def test_rows_of_no_weight_change_nothing(name):
  update, start, reference = _make(name)
  full = _batch(name, fill=3)
  a, sums_a = update(start(), full, reference)
  b, sums_b = update(start(), batches.take(full, range(5)), reference)
  _close(a.params, b.params)
  np.testing.assert_allclose(
    _mean(sums_a, "loss"), _mean(sums_b, "loss"), rtol=1e-5
  )


def test_the_update_is_minus_the_gradient_of_the_mean_loss():
  """One SGD step against autodiff of the loss written out."""
  _, model, params = tiny()
  batch = _batch("dpo")
  update, start, reference = _make("dpo")
  got, sums = update(start(), batch, reference)

  def mean_loss(p):
    from jalign.logprobs import sequence_logprobs

    logps = sequence_logprobs(model, p, batch.sequences)
    ref = sequence_logprobs(model, reference, batch.sequences)
    h = (logps - ref)[0::2] - (logps - ref)[1::2]
    return jnp.mean(jnp.log1p(jnp.exp(-0.3 * h)))

  value, grads = jax.jit(jax.value_and_grad(mean_loss))(params)
  np.testing.assert_allclose(_mean(sums, "loss"), value, rtol=1e-5)
  np.testing.assert_allclose(
    _mean(sums, "grad_norm"), optax.tree.norm(grads), rtol=1e-5
  )
  _close(got.params, jax.tree.map(lambda p, g: p - 0.1 * g, params, grads))
  assert int(got.step) == 1


def test_sft_divides_by_tokens():
  _, model, params = tiny()
  batch = _batch("sft")
  update, start, _ = _make("sft")
  _, sums = update(start(), batch)
  from jalign.logprobs import sequence_logprobs

  measure = jax.jit(functools.partial(sequence_logprobs, model))
  logps = measure(params, batch.sequences)
  want = -np.sum(logps) / np.sum(batch.sequences.mask[:, 1:])
  np.testing.assert_allclose(_mean(sums, "loss"), want, rtol=1e-5)
  np.testing.assert_allclose(_mean(sums, "nll_nats_per_token"), want, rtol=1e-5)


@pytest.mark.parametrize(
  "name", [pytest.param("dpo", marks=pytest.mark.slow), "sft"]
)
def test_sharded_update_equals_unsharded(name):
  optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-2), 10)
  batch = _batch(name)
  update, start, reference = _make(name, optimizer)
  want = start()
  mesh = sharding.make_mesh(2, 2, 2)
  with jax.set_mesh(mesh):
    sharded_update, sharded_start, _ = _make(
      name, optimizer, mesh, microbatches=2
    )
    got = sharded_start()
    placed = jax.device_put(batch, sharding.batch_sharding(mesh))
    for _ in range(3):
      got, sums = sharded_update(got, placed, reference)
    assert sharded_update._cache_size() <= 1  # pinned: nothing recompiles
  for _ in range(3):
    want, want_sums = update(want, batch, reference)
  # Adam divides by roots of second moments near 0, which amplifies rounding.
  _close(got.params, want.params, atol=2e-4)
  np.testing.assert_allclose(
    _mean(sums, "loss"), _mean(want_sums, "loss"), rtol=1e-4
  )
  wq = got.opt_state[1][0].mu["blocks"]["wq"]
  assert wq.sharding == got.params["blocks"]["wq"].sharding
  assert not wq.sharding.is_fully_replicated


def test_the_state_is_donated_and_the_callers_params_are_not():
  _, _, params = tiny()
  update, start, reference = _make("dpo")
  state = start()
  update(state, _batch("dpo"), reference)
  assert all(x.is_deleted() for x in jax.tree.leaves(state.params))
  assert not any(x.is_deleted() for x in jax.tree.leaves(params))


def test_parts_keep_pairs_together_and_lose_nothing():
  batch = batches.pairs(6)
  parts = split_batch(batch, 3)
  assert parts.sequences.tokens.shape[:2] == (3, 4)
  rows = np.asarray(batch.sequences.tokens).reshape(6, 2, -1)
  seen = np.asarray(parts.sequences.tokens).reshape(3, 2, 2, -1)
  for part in range(3):
    np.testing.assert_array_equal(seen[part], rows[part::3])
  with pytest.raises(UserError, match="microbatches"):
    split_batch(batch, 4)


def test_a_coupled_loss_refuses_accumulation():
  _, model, _ = tiny()
  objective = make_objective(losses.dpo, model, batch="pairs", coupled=True)
  with pytest.raises(UserError, match="microbatches"):
    make_update(objective, SGD, microbatches=2)


# ----------------------------------------------------------------- optimizer


def test_schedules_have_their_corners():
  at = lambda s, i: float(make_schedule(s, 100)(i))
  cosine = OptimizerConfig(
    learning_rate=2.0, warmup_steps=10, final_fraction=0.1
  )
  np.testing.assert_allclose(at(cosine, 0), 0.2, rtol=1e-6)
  np.testing.assert_allclose(at(cosine, 9), 2.0, rtol=1e-6)
  np.testing.assert_allclose(at(cosine, 55), 1.1, rtol=1e-6)
  np.testing.assert_allclose(at(cosine, 100), 0.2, rtol=1e-6)
  linear = OptimizerConfig(
    schedule="linear", learning_rate=1.0, final_fraction=0.2
  )
  np.testing.assert_allclose([at(linear, 0), at(linear, 50)], [1.0, 0.6])
  constant = OptimizerConfig(schedule="constant", learning_rate=1.0)
  assert at(constant, 99) == 1.0
  with pytest.raises(UserError, match="optimizer.schedule"):
    make_schedule(OptimizerConfig(schedule="cosin"), 10)
  with pytest.raises(UserError, match="optimizer.warmup_steps"):
    make_schedule(OptimizerConfig(warmup_steps=10), 10)


def test_gradients_are_clipped_by_their_global_norm():
  config = OptimizerConfig(
    learning_rate=1.0, schedule="constant", b1=0.0, b2=0.0, eps=1e3
  )
  optimizer = make_optimizer(config, 10)
  params = {"wq": jnp.zeros(2)}
  step = lambda g: optimizer.update({"wq": g}, optimizer.init(params), params)[
    0
  ]["wq"]
  big, unit = jnp.array([30.0, 40.0]), jnp.array([0.6, 0.8])
  np.testing.assert_allclose(step(big), step(unit), rtol=1e-6)
  assert not np.allclose(step(unit / 2), step(unit))


def test_weight_decay_leaves_norms_and_biases_alone():
  _, _, params = tiny(tie_word_embeddings=False)
  mask = decayed(params)
  assert mask["embed"] and mask["unembed"] and mask["blocks"]["wo"]
  for name in ("attn_norm", "mlp_norm", "q_norm", "k_norm", "bq", "bk", "bv"):
    assert not mask["blocks"][name]
  assert not mask["norm"]
