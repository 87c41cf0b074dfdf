"""Packed batches train as unpacked ones do, on one device and on eight."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jalign import data, losses, sharding
from jalign.errors import UserError
from jalign.logprobs import sequence_logprobs
from jalign.models import param_specs
from jalign.training import arrays
from jalign.training.objective import make_evaluation, make_objective
from jalign.training.state import init_state, state_shardings
from jalign.training.step import make_update, split_batch
from jalign.types import ListBatch, PairBatch, SequenceBatch, Sequences
from tests.models.tiny import tiny

WIDE = 28
DPO = functools.partial(losses.dpo, beta=0.3)


def _batch(kind, examples=8, each=2, fill=1, length=14):
  """Responses to common prompts; some are equal, some go on from others."""
  rng = np.random.default_rng(0)
  rows, starts = [], []
  for example in range(examples):
    prompt = rng.integers(1, 64, rng.integers(1, 7)).tolist()
    for k in range(each):
      ids = rng.integers(1, 64, rng.integers(1, 7)).tolist()
      if k and example == 1:
        ids = rows[-1][len(prompt) :]
      if k and example == 2:
        ids = [*rows[-1][len(prompt) :], 5]
      rows.append(prompt + ids)
      starts.append(len(prompt))
  tokens = np.zeros((len(rows), length), np.int32)
  for row, ids in zip(tokens, rows):
    row[: len(ids)] = ids
  lengths = np.array([len(ids) for ids in rows], np.int32)
  columns = np.arange(length)
  mask = (columns >= np.array(starts)[:, None]) & (columns < lengths[:, None])
  sequences = Sequences(tokens, mask, lengths)
  weights = (np.arange(examples) < examples - fill).astype(np.float32)
  if kind == "lists":
    scores = rng.normal(size=(examples, each)).astype(np.float32)
    valid = np.ones((examples, each), bool)
    return ListBatch(sequences, weights, scores, valid)
  return (PairBatch if each == 2 else SequenceBatch)(sequences, weights)


def _packed(batch, **options):
  sequences = data.pack(batch.sequences, batch.weights > 0, **options)
  return batch.replace(sequences=sequences)


def _value(objective, params, batch, reference):
  """Mean loss, its metrics and its gradients."""

  def mean(p):
    total, (count, metrics) = objective.sums(p, batch, reference)
    return total / count, {k: s / n for k, (s, n) in metrics.items()}

  return jax.jit(jax.value_and_grad(mean, has_aux=True))(params)


def _close(got, want, tolerance=1e-6):
  """Equal but for rounding, relative to each array's largest entry."""

  def one(a, b):
    scale = max(float(np.abs(b).max()), 1.0)
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)

  jax.tree.map(one, jax.device_get(got), jax.device_get(want))


@pytest.fixture(scope="module")
def policies():
  _, model, params = tiny()
  return model, params, model.init(jax.random.key(3))


@pytest.mark.parametrize(
  "loss, kind, each, options",
  [
    ("sft", "sequences", 1, dict(width=WIDE)),
    ("unlikelihood_token", "tokens", 1, dict(width=WIDE)),
    ("dpo", "pairs", 2, dict(width=WIDE)),
    ("dpo", "pairs", 2, dict(share_prefix=True)),
    ("dpo", "pairs", 2, dict(width=WIDE, share_prefix=True)),
    ("tdpo", "segments", 2, dict(width=WIDE, share_prefix=True)),
    ("plackett_luce", "lists", 3, dict(width=WIDE, share_prefix=True)),
  ],
)
def test_losses_and_gradients_are_the_unpacked_ones(
  policies, loss, kind, each, options
):
  model, params, reference = policies
  if loss not in losses.CATALOGUE:
    pytest.fail(f"{loss}: {[n for n, e in losses.CATALOGUE.items() if e.batch == kind]}")
  objective = make_objective(losses.CATALOGUE[loss].function, model, batch=kind)
  batch = _batch(kind, each=each)
  packed = _packed(batch, groups=2, **options)
  slots = packed.sequences.packed.tokens.size
  assert slots < batch.sequences.tokens.size
  want = _value(objective, params, batch, reference)
  _close(_value(objective, params, packed, reference), want)
  assert float(optax.tree.norm(want[1])) > 0.1


def test_reference_log_probs_may_be_precomputed(policies):
  model, params, reference = policies
  batch = _batch("pairs")
  ref = sequence_logprobs(model, reference, batch.sequences)
  objective = make_objective(DPO, model)
  want = _value(objective, params, batch, reference)
  packed = _packed(batch, share_prefix=True).replace(ref_logps=ref)
  _close(_value(objective, params, packed, None), want)


def test_token_arrays_are_unpacked(policies):
  """Also those that take hidden states rather than log-probs."""
  model, params, reference = policies
  names = ("chosen_collision_logps", "chosen_shared_logps", "ref_chosen_logps")
  batch = _batch("pairs", fill=0)
  found = [
    arrays.pairs(arrays.Scores(model, params, reference, None, names), x, names)
    for x in (batch, _packed(batch, width=WIDE, share_prefix=True))
  ]
  _close(found[1], found[0])


def test_parts_are_groups_and_add_up(policies):
  model, params, reference = policies
  objective = make_objective(DPO, model)
  batch = _batch("pairs", examples=8)
  packed = _packed(batch, width=WIDE, share_prefix=True, groups=4)
  parts = split_batch(packed, 2)
  assert parts.sequences.tokens.shape[:2] == (2, 8)
  assert parts.sequences.packed.tokens.shape[:2] == (2, 2)
  start = lambda: init_state(jax.tree.map(jnp.array, params), optax.sgd(0.1))
  found = [
    make_update(objective, optax.sgd(0.1), microbatches=m)(
      start(), x, reference
    )
    for m, x in ((1, batch), (2, packed))
  ]
  _close(found[1][0].params, found[0][0].params)
  _close(
    *({k: s / n for k, (s, n) in sums.items()} for _, sums in reversed(found)),
    tolerance=1e-5,
  )
  with pytest.raises(UserError, match="4 groups of packed examples"):
    split_batch(packed, 8)


@pytest.mark.parametrize("options", [dict(width=WIDE), dict(share_prefix=True)])
def test_sharded_equals_unsharded(policies, options):
  config, model, params = tiny()
  reference = policies[2]
  batch = _batch("pairs", examples=16)
  objective = make_objective(DPO, model)
  want = _value(objective, params, batch, reference)
  mesh = sharding.make_mesh(2, 2, 2)
  layout = sharding.shardings(param_specs(config), mesh)
  packed = _packed(batch, groups=4, **options)
  with jax.set_mesh(mesh):
    placed = jax.device_put(packed, sharding.batch_sharding(mesh))
    on = [jax.device_put(p, layout) for p in (params, reference)]
    got = _value(objective, on[0], placed, on[1])
    program = jax.jit(lambda p, b, r: objective.sums(p, b, r)[0])
    text = program.lower(on[0], placed, on[1]).compile().as_text()
  _close(got, want, tolerance=2e-6)
  # What a device reads of the others' slots: nothing, not even log-probs.
  tokens = packed.sequences.packed.tokens
  groups, slots = len(tokens), tokens[0].size
  gathered = re.findall(r"= (\S+) all-gather\(", text)
  assert gathered  # of the weights, over fsdp
  assert not [s for s in gathered if f"[{groups},{slots}]" in s]


def test_a_model_that_takes_no_segments_says_so():
  from jalign.models import from_apply

  model = from_apply(
    lambda key: jnp.zeros((64, 64)), lambda params, tokens: params[tokens]
  )
  batch = _packed(_batch("pairs"), width=WIDE)
  objective = make_objective(DPO, model)
  with pytest.raises(ValueError, match="no positions or segment ids"):
    make_evaluation(objective)(jnp.zeros((64, 64)), batch, jnp.zeros((64, 64)))
