"""The objective computes what a signature names, and nothing else."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jalign import losses
from jalign.errors import UserError
from jalign.logprobs import sequence_logprobs
from jalign.models import from_linen, from_nnx
from jalign.training.objective import make_evaluation, make_objective
from jalign.training.state import init_state
from jalign.training.step import make_update
from tests.models.tiny import tiny
from tests.training import batches


def _arrays(loss, batch, **kw):
  """The arrays that the objective gives to a loss."""
  _, model, params = tiny()
  seen = {}

  objective = make_objective(loss(seen), model, batch="pairs")
  objective.sums(params, batch, kw.get("reference"))
  return model, params, seen


def test_pairs_are_split_in_order():
  def spy(seen):
    def loss(
      chosen_logps, rejected_logps, chosen_lengths, rejected_lengths, preference
    ):
      seen.update(locals())
      return chosen_logps

    return loss

  batch = batches.pairs(4, preference=jnp.arange(4) / 4)
  model, params, seen = _arrays(spy, batch)
  logps = sequence_logprobs(model, params, batch.sequences)
  np.testing.assert_allclose(seen["chosen_logps"], logps[0::2], rtol=1e-6)
  np.testing.assert_allclose(seen["rejected_logps"], logps[1::2], rtol=1e-6)
  counts = np.asarray(batch.sequences.mask).sum(-1)
  np.testing.assert_array_equal(seen["chosen_lengths"], counts[0::2])
  np.testing.assert_array_equal(seen["rejected_lengths"], counts[1::2])
  np.testing.assert_array_equal(seen["preference"], batch.preference)


def test_precomputed_reference_equals_the_pass():
  _, model, params = tiny()
  reference = model.init(jax.random.key(3))
  objective = make_objective(losses.dpo, model, batch="pairs")
  batch = batches.pairs(4)
  logps = sequence_logprobs(model, reference, batch.sequences)
  a, _ = objective.sums(params, batch, reference)
  b, _ = objective.sums(params, batch.replace(ref_logps=logps), None)
  np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_reference_pass_happens_only_for_a_ref_argument():
  _, model, params = tiny()
  calls = []
  counting = model._replace(
    forward=lambda *a, **k: (calls.append(1), model.forward(*a, **k))[1]
  )
  for loss, passes in ((losses.simpo, 1), (losses.dpo, 2)):
    calls.clear()
    objective = make_objective(loss, counting, batch="pairs")
    assert objective.needs_reference == (passes == 2)
    objective.sums(params, batches.pairs(4), params)
    assert len(calls) == passes


def test_errors_name_what_is_missing():
  _, model, params = tiny()

  def needs_reason(chosen_logps, rationale_logps):
    return chosen_logps

  with pytest.raises(
    UserError, match="needs_reason takes rationale_logps.*batch gives"
  ):
    make_objective(needs_reason, model, batch="pairs")
  with pytest.raises(UserError, match="kind 'triples'"):
    make_objective(losses.dpo, model, batch="triples")
  soft = make_objective(losses.ipo_soft, model, batch="pairs")
  with pytest.raises(UserError, match="preference, which the data"):
    soft.sums(params, batches.pairs(4), params)
  dpo = make_objective(losses.dpo, model, batch="pairs")
  with pytest.raises(UserError, match="ref_chosen_logps"):
    dpo.sums(params, batches.pairs(4), None)


def test_a_loss_that_reduces_or_broadcasts_is_refused():
  _, model, params = tiny()
  for loss, shape in (
    (lambda chosen_logps: chosen_logps.mean(), r"\(\)"),
    (lambda chosen_logps: chosen_logps[:, None], r"\(4, 1\)"),
  ):
    objective = make_objective(loss, model)
    with pytest.raises(UserError, match=f"gave shape {shape} for 4 examples"):
      objective.sums(params, batches.pairs(4))


def test_the_denominator_is_checked_and_comes_from_the_catalogue():
  _, model, params = tiny()
  with pytest.raises(UserError, match="can't be divided by 'token'"):
    make_objective(losses.sft, model, denominator="token")
  with pytest.raises(UserError, match="can't be divided by 'tokens'"):
    make_objective(losses.dpo, model, denominator="tokens")
  batch = batches.singles(4)
  _, (count, _) = make_objective(losses.sft, model).sums(params, batch)
  assert count == np.asarray(batch.sequences.mask)[:, 1:].sum()
  _, (count, _) = make_objective(losses.sft_avg, model).sums(params, batch)
  assert count == 4


def test_metrics_have_their_signs():
  _, model, params = tiny()
  objective = make_objective(losses.dpo, model, batch="pairs")
  batch = batches.pairs(8)
  reference = model.init(jax.random.key(3))
  sums = make_evaluation(objective)(params, batch, reference)
  value = {k: float(s / n) for k, (s, n) in sums.items()}
  logps = np.asarray(sequence_logprobs(model, params, batch.sequences))
  ref = np.asarray(sequence_logprobs(model, reference, batch.sequences))
  h = (logps - ref)[0::2] - (logps - ref)[1::2]
  np.testing.assert_allclose(value["margin_nats"], h.mean(), rtol=1e-4)
  np.testing.assert_allclose(value["reward_accuracy"], (h > 0).mean())
  np.testing.assert_allclose(
    value["ranking_accuracy"], (logps[0::2] > logps[1::2]).mean()
  )
  same = make_evaluation(objective)(params, batch, params)
  assert float(same["reward_accuracy"][0]) == 4.0  # eight ties, one half each


class _Linen(nn.Module):
  @nn.compact
  def __call__(self, tokens):
    x = nn.Embed(64, 16)(tokens)
    x = nn.tanh(nn.Dense(32)(jnp.cumsum(x, axis=1)))
    return nn.Dense(64)(x)


def _linen():
  return from_linen(_Linen())


def _nnx():
  nnx = pytest.importorskip("flax.nnx")

  class Module(nnx.Module):
    def __init__(self, rngs):
      self.embed = nnx.Embed(64, 16, rngs=rngs)
      self.inner = nnx.Linear(16, 32, rngs=rngs)
      self.outer = nnx.Linear(32, 64, rngs=rngs)

    def __call__(self, tokens):
      x = jnp.cumsum(self.embed(tokens), axis=1)
      return self.outer(nnx.tanh(self.inner(x)))

  return from_nnx(Module(nnx.Rngs(0)))


@pytest.mark.parametrize("make", [_linen, _nnx])
def test_flax_modules_train_through_the_same_objective(make):
  model = make()
  params = model.init(jax.random.key(0))
  loss = functools.partial(losses.dpo, beta=0.5)
  objective = make_objective(loss, model, batch="pairs")
  optimizer = optax.adam(1e-2)
  update = make_update(objective, optimizer)
  state = init_state(params, optimizer)
  batch = batches.pairs(8)
  for _ in range(20):
    state, sums = update(state, batch, params)
  first = (
    float(make_evaluation(objective)(params, batch, params)["loss"][0]) / 8
  )
  np.testing.assert_allclose(first, np.log(2), rtol=1e-5)
  assert float(sums["loss"][0]) / 8 < 0.3
  assert float(sums["reward_accuracy"][0]) == 8.0


def test_a_row_that_fills_the_batch_may_lose_anything():
  def loss(chosen_logps, valid):
    return jnp.where(valid, chosen_logps, jnp.nan)

  _, model, params = tiny(num_hidden_layers=1)
  objective = make_objective(loss, model, batch="pairs")
  total, (count, sums) = objective.sums(params, batches.pairs(3, fill=1))
  assert float(count) == 2 and np.isfinite(total) and total < 0
  np.testing.assert_allclose(sums["chosen_logps_nats"][0], total, rtol=1e-6)
