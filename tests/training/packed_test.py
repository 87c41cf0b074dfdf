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
from jalign.training.kinds import PAIRS
from jalign.training.objective import make_evaluation, make_objective
from jalign.training.outputs import Outputs
from jalign.training.state import init_state
from jalign.training.step import make_update, split_batch
from jalign.types import ListBatch, PairBatch, SequenceBatch, Sequences
from tests.models.tiny import tiny
from tests.training import batches

WIDE = 28
DPO = functools.partial(losses.dpo, beta=0.3)


def _batch(kind, examples=8, each=2, fill=1, length=14):
  """Responses to common prompts; some are equal, some continue others."""
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


def _program(objective):
  """`(params, batch, reference) -> ((mean loss, metrics), gradients)`.

  Accuracies are left out: equal responses tie only up to rounding.
  """

  def mean(params, batch, reference):
    total, (count, metrics) = objective.sums(params, batch, reference)
    return total / count, {
      k: s / n for k, (s, n) in metrics.items() if "accuracy" not in k
    }

  return jax.jit(jax.value_and_grad(mean, has_aux=True))


def _value(objective, params, batch, reference):
  return _program(objective)(params, batch, reference)


def _close(got, want, tolerance=1e-6):
  """Checks equality up to rounding, relative to each array's largest entry.

  `got` and `want` are results of `_program`. Metrics are differences of
  log-probs that are some fifty times as large.
  """
  (loss, metrics), grads = jax.device_get(got)
  (want_loss, want_metrics), want_grads = jax.device_get(want)

  def one(a, b, tolerance=tolerance):
    scale = max(float(np.abs(b).max()), 1.0)
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)

  one(loss, want_loss)
  jax.tree.map(one, grads, want_grads)
  jax.tree.map(lambda a, b: one(a, b, 1e-5), metrics, want_metrics)


@pytest.fixture(scope="module")
def policies():
  _, model, params = tiny()
  return model, params, model.init(jax.random.key(3))


@pytest.mark.parametrize(
  "loss, kind, each, options",
  [
    ("sft", "sequences", 1, dict(width=WIDE)),
    ("unlikelihood", "tokens", 1, dict(width=WIDE)),
    ("dpo", "pairs", 2, dict(width=WIDE)),
    ("dpo", "pairs", 2, dict(share_prefix=True)),
    ("dpo", "pairs", 2, dict(width=WIDE, share_prefix=True)),
    ("cpl", "segments", 2, dict(width=WIDE, share_prefix=True)),
    ("list_mle", "lists", 3, dict(width=WIDE, share_prefix=True)),
  ],
)
def test_losses_and_gradients_are_the_unpacked_ones(
  policies, loss, kind, each, options
):
  model, params, reference = policies
  objective = make_objective(losses.CATALOGUE[loss].function, model, batch=kind)
  batch = _batch(kind, examples=24 // each, each=each)
  packed = _packed(batch, groups=2, **options)
  slots = packed.sequences.packed.tokens.size
  assert slots < batch.sequences.tokens.size
  want = _value(objective, params, batch, reference)
  _close(_value(objective, params, packed, reference), want)
  assert float(optax.tree.norm(want[1])) > 0.1


def test_mismatched_rows_are_packed_too(policies):
  model, params, reference = policies
  objective = make_objective(losses.kto, model)
  batch = batches.unpaired(16, fill=1)
  packed = data.Packing(width=24, groups=2).collate(lambda: batch)()
  groups, rows, _ = packed.mismatched.packed.tokens.shape
  assert groups * rows < len(batch.mismatched.tokens)
  want = _value(objective, params, batch, reference)
  _close(_value(objective, params, packed, reference), want)


def test_reference_log_probs_may_be_precomputed(policies):
  model, params, reference = policies
  batch = _batch("pairs")
  ref = sequence_logprobs(model, reference, batch.sequences)
  objective = make_objective(DPO, model)
  want = _value(objective, params, batch, reference)
  packed = _packed(batch, share_prefix=True).replace(ref_logps=ref)
  _close(_value(objective, params, packed, None), want)


def test_token_arrays_are_unpacked(policies):
  """Arrays from hidden states are unpacked, too, not only log-probs."""
  model, params, reference = policies
  names = ("chosen_collision_logps", "chosen_shared_logps", "ref_chosen_logps")
  batch = _batch("pairs", fill=0)
  found = [
    PAIRS.arrays(
      Outputs(model, params, x.sequences, names, ref_params=reference), x, names
    )
    for x in (batch, _packed(batch, width=WIDE, share_prefix=True))
  ]
  for name in names:
    np.testing.assert_allclose(found[1][name], found[0][name], rtol=1e-5)


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
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6),
    *(state.params for state, _ in found),
  )
  for name in ("loss", "grad_norm"):
    a, b = (sums[name][0] / sums[name][1] for _, sums in found)
    np.testing.assert_allclose(a, b, rtol=1e-6)
  with pytest.raises(UserError, match="4 groups of packed examples"):
    split_batch(packed, 8)


def test_sharded_equals_unsharded_and_sends_no_more(policies):
  """2 x 2 x 2 devices read packed rows without moving them."""
  config, model, params = tiny()
  reference = policies[2]
  batch = _batch("pairs", examples=16)
  objective = make_objective(DPO, model)
  want = _value(objective, params, batch, reference)
  mesh = sharding.make_mesh(2, 2, 2)
  layout = sharding.shardings(param_specs(config), mesh)
  sent = []
  with jax.set_mesh(mesh):
    on = [jax.device_put(p, layout) for p in (params, reference)]
    for options in (None, dict(width=WIDE), dict(share_prefix=True)):
      x = batch if options is None else _packed(batch, groups=4, **options)
      placed = jax.device_put(x, sharding.batch_sharding(mesh))
      program = _program(objective).lower(on[0], placed, on[1]).compile()
      _close(program(on[0], placed, on[1]), want, tolerance=2e-6)
      text = program.as_text()
      sent.append(
        sorted(re.findall(r"= (f32\[[\d,]*\])\S* all-gather\(", text))
      )
      # Embeddings of the policy and the reference, and the former's gradient.
      assert len(re.findall(r" all-to-all\(", text)) == 3
      assert "collective-permute(" not in text
  # Weights are sent over fsdp, and ids for the embedding's columns, but no
  # hidden states or log-probs.
  assert sent[0] and sent[1] == sent[2] == sent[0]


def test_a_model_that_takes_no_segments_says_so():
  from jalign.models import from_apply

  model = from_apply(
    lambda key: jnp.zeros((64, 64)), lambda params, tokens: params[tokens]
  )
  batch = _packed(_batch("pairs"), width=WIDE)
  objective = make_objective(DPO, model)
  with pytest.raises(ValueError, match="no positions, segment ids"):
    make_evaluation(objective)(jnp.zeros((64, 64)), batch, jnp.zeros((64, 64)))
