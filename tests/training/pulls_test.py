"""A loss's gradients in each row's log-prob equal those of its value."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import diagnostics, losses
from jalign.data.packing import pack
from jalign.errors import UserError
from jalign.models import heads
from jalign.training.kinds import KINDS
from jalign.training.objective import make_objective
from jalign.training.outputs import Outputs
from jalign.types import Head, Model
from tests.training import batches

VOCAB, WIDTH = 64, 8


def _init(key):
  embed, out = jax.random.normal(key, (2, VOCAB, WIDTH))
  return {"embed": embed, "out": out}


def _forward(params, tokens, positions=None, segment_ids=None, prefix_ids=None):
  """Sums of embeddings, over the tokens that a token of a packed row sees."""
  x = params["embed"][tokens]
  if segment_ids is None:
    segment_ids = prefix_ids = jnp.ones_like(tokens)
  if prefix_ids is None:
    prefix_ids = segment_ids
  seen = segment_ids[:, :, None] == segment_ids[:, None, :]
  seen |= prefix_ids[:, :, None] == segment_ids[:, None, :]
  seen &= jnp.tri(tokens.shape[1], dtype=bool)
  return jnp.einsum("bts,bsd->btd", seen.astype(x.dtype), x) / 4


MODEL = Model(
  _init,
  _forward,
  lambda params: Head(params["out"]),
  lambda: None,
  lambda: None,
)
PARAMS = _init(jax.random.key(0))
# The two models are close enough that no loss is saturated.
REFERENCE = jax.tree.map(
  lambda x, y: x + y / 10, PARAMS, _init(jax.random.key(1))
)


def _near(rows, rng):
  """[R] log-probs near the model's own, as of a policy a few updates ago."""
  own = Outputs(MODEL, PARAMS, rows, ("logps",)).sums()
  return own + jnp.asarray(rng.normal(0, 0.05, len(own)), jnp.float32)


def _singles(count, fill):
  """Responses that repeat themselves, with every field of a batch."""
  rng = np.random.default_rng(3)
  rows = batches.sequences(count, vocab=3)
  uniform = lambda *shape: jnp.asarray(rng.uniform(size=shape), jnp.float32)
  return batches.singles(
    count,
    fill=fill,
    rewards=uniform(count),
    values=uniform(count) / 2,
    preference=uniform(count),
    old_token_logps=jnp.where(rows.mask[:, 1:], -uniform(count, 11) - 1, 0.0),
    advantages=uniform(count, 11),
    greedy_rewards=uniform(count),
    target_logps=_near(rows, rng),
    anchor_token_logps=jnp.where(
      rows.mask[:, 1:], -uniform(count, 11) - 1, 0.0
    ),
  ).replace(sequences=rows)


def _pairs(count, fill):
  rng = np.random.default_rng(4)
  uniform = lambda: jnp.asarray(rng.uniform(size=count), jnp.float32)
  return batches.pairs(
    count,
    fill=fill,
    preference=uniform(),
    chosen_scores=1 + uniform(),
    rejected_scores=uniform(),
    old_logps=_near(batches.sequences(2 * count), rng),
    beside=batches.sequences(count, seed=5),
  )


BATCHES = {
  "pairs": _pairs,
  "segments": _pairs,
  "lists": lambda count, fill: batches.lists(count, fill=fill),
  "ranked_segments": lambda count, fill: batches.lists(count, fill=fill),
  "unpaired": lambda count, fill: batches.unpaired(count, fill=fill),
  "sequences": _singles,
  "tokens": _singles,
  "rollouts": lambda count, fill: batches.rollouts(
    count, fill=fill, advantages=True
  ),
}
# A loss on a critic's values has no gradient by a response's log-prob.
FED = [
  name
  for name, entry in losses.CATALOGUE.items()
  if entry.batch in BATCHES
  and "token_values" not in losses.array_parameters(entry.function)
  and set(losses.array_parameters(entry.function))
  <= set(KINDS[entry.batch].gives)
]


def _by_token(shift, mask):
  """Spreads a response's shift equally over its scored tokens."""
  rows = mask.reshape(len(shift), -1)
  share = shift / jnp.maximum(rows.sum(-1), 1)
  return (share[:, None] * rows).reshape(mask.shape)


def _moved(arrays, shift):
  """A loss's arrays, if each row's log-prob is higher by its shift [R]."""
  moved = dict(arrays)
  if "chosen_logps" in arrays:
    sides = ("chosen", "rejected")
    lengths = [arrays[f"{side}_lengths"] for side in sides]
    for i, side in enumerate(sides):
      moved[f"{side}_logps"] += shift[i::2]
      if f"{side}_shared_logps" in arrays:
        share = jnp.minimum(*lengths) / lengths[i]
        moved[f"{side}_shared_logps"] += shift[i::2] * share
  elif "logps" in arrays:
    moved["logps"] += shift.reshape(arrays["logps"].shape)
  else:
    name = "step_logps" if "step_logps" in arrays else "token_logps"
    moved[name] += _by_token(shift, arrays["mask"])
  return moved


def _oracle(loss, kind, data, params, reference):
  """[R] gradients of the summed loss in shifts of the rows' log-probs."""
  names = losses.array_parameters(loss)
  weights = data.weights
  outputs = Outputs(MODEL, params, data.sequences, names, ref_params=reference)
  arrays = KINDS[kind].arrays(outputs, data, names)

  def total(shift):
    moved = _moved(arrays, shift)
    value = loss(*(moved[name] for name in names))
    return jnp.sum(jnp.where(weights > 0, value * weights, 0.0))

  return jax.grad(total)(jnp.zeros(len(data.sequences.tokens)))


def _rows(loss, data, **options):
  """[R] the same gradients: minus the upward pulls that diagnostics use."""
  up, _ = _pulls(loss, data, chosen_alone=True, **options)
  return -up


def _pulls(loss, data, chosen_alone=False, **options):
  objective = make_objective(loss, MODEL, **options)
  pulls = functools.partial(
    diagnostics.pulls, objective, chosen_alone=chosen_alone
  )
  return jax.jit(pulls)(PARAMS, data, REFERENCE)


def test_the_losses_of_all_kinds_are_here():
  assert len(FED) > 65
  assert {losses.CATALOGUE[name].batch for name in FED} == set(BATCHES)


@pytest.mark.parametrize("name", FED)
def test_pulls_are_gradients_of_the_value(name):
  entry = losses.CATALOGUE[name]
  data = BATCHES[entry.batch](6, 1)
  objective = make_objective(entry.function, MODEL)
  paired = KINDS[entry.batch].paired

  @jax.jit  # a program for all: they share the model's passes
  def slopes(params, data, reference):
    pulls = functools.partial(
      diagnostics.pulls, objective, params, data, reference
    )
    return (
      _oracle(entry.function, entry.batch, data, params, reference),
      -pulls(chosen_alone=True)[0],
      pulls() if paired else None,
    )

  expected, rows, pull = slopes(PARAMS, data, REFERENCE)
  expected = np.asarray(expected)
  assert np.abs(expected).max() > 1e-4 and np.isfinite(expected).all()
  near = functools.partial(
    np.testing.assert_allclose, rtol=1e-4, atol=1e-5 * np.abs(expected).max()
  )
  near(rows, expected)
  if paired:
    near(pull[0], -expected[0::2])
    near(pull[1], expected[1::2])


def test_terms_of_a_sum_pull_by_their_own_counts():
  data = _pairs(6, 1)
  found = _rows(losses.weighted_sum({"dpo": 1.0, "sft": 0.5}), data)
  dpo = _oracle(losses.dpo, "pairs", data, PARAMS, REFERENCE)
  tokens = float(np.asarray(data.sequences.mask)[0:10:2].sum())
  chosen = np.where(np.arange(12) % 2 == 0, -0.5 * 5 / tokens, 0.0)
  chosen[10:] = 0  # the pair that fills the batch
  np.testing.assert_allclose(found, dpo + chosen, rtol=1e-4, atol=1e-6)


def test_other_rows_of_a_batch_are_not_nudged():
  """This holds even if their record is the batch's own."""
  data = batches.unpaired(6)
  loss = functools.partial(losses.kto, beta=0.5)
  copies = jax.tree.map(jnp.array, data.sequences)
  expected = _rows(loss, data.replace(mismatched=copies))
  found = _rows(loss, data.replace(mismatched=data.sequences))
  np.testing.assert_array_equal(found, expected)
  assert np.abs(found).max() > 1e-3


@pytest.mark.parametrize("name", ["dpo", "wpo", "cpl", "unlikelihood", "grpo"])
def test_gradients_by_states_reach_all_that_is_computed_of_them(name):
  entry = losses.CATALOGUE[name]
  data = BATCHES[entry.batch](4, 1)
  objective = make_objective(entry.function, MODEL)

  @jax.jit
  def slopes(params, data, reference):
    return jax.grad(
      lambda nudge: objective.nudged(params, nudge, data, reference),
      has_aux=True,
    )(objective.nudge(params, data, hidden=True))

  found, (_, _, hidden) = slopes(PARAMS, data, REFERENCE)
  states = _forward(PARAMS, data.sequences.tokens)[:, :-1]
  np.testing.assert_allclose(hidden, states, rtol=1e-6)

  def total(extra, params, data, reference):
    moved = lambda p, tokens: _forward(p, tokens).at[:, :-1].add(extra)
    other = make_objective(entry.function, MODEL._replace(forward=moved))
    return other.sums(params, data, reference)[0]

  expected = jax.jit(jax.grad(total))(
    jnp.zeros(states.shape), PARAMS, data, REFERENCE
  )
  assert np.abs(expected).max() > 1e-3
  np.testing.assert_allclose(found.hidden, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["dpo", "unlikelihood", "list_mle"])
def test_packed_rows_pull_as_their_own(name):
  entry = losses.CATALOGUE[name]
  data = BATCHES[entry.batch](4, 1)
  several = KINDS[entry.batch].several
  host = jax.tree.map(np.asarray, data.sequences)
  packed = data.replace(
    sequences=pack(host, data.weights > 0, width=40, share_prefix=several)
  )
  expected = _rows(entry.function, data)
  found = _rows(entry.function, packed)
  assert np.abs(expected).max() > 1e-3
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_heads_scores_have_no_such_gradient():
  head = heads.scalar(WIDTH)
  params = {"model": PARAMS, "head": head.init(jax.random.key(0))}
  objective = make_objective(losses.bradley_terry, MODEL, head=head)
  data = batches.scored_pairs(2)
  with pytest.raises(UserError, match="no gradient by a response's log-prob"):
    diagnostics.pulls(objective, params, data)
