"""Wrong arguments raise errors that explain the mistake."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jalign import data, losses
from jalign.data.loader import Batch
from jalign.decode import generate
from jalign.errors import UserError
from jalign.games import tables
from jalign.training import (
  init_state,
  make_evaluation,
  make_objective,
  make_update,
)
from jalign.training.misuse import check_reference
from tests.training import batches

MODEL = tables.tabular(3, 3)
PARAMS = MODEL.init(jax.random.key(0))


def _pairs():
  """Pairs of the table's tokens: prompts have one, responses three."""
  tokens = np.random.default_rng(0).integers(0, 3, (4, 4)).astype(np.int32)
  mask = np.arange(4)[None] > np.zeros((4, 1))
  rows = batches.sequences(4, length=8).replace(
    tokens=jnp.asarray(tokens),
    mask=jnp.asarray(mask),
    lengths=jnp.full(4, 4, jnp.int32),
  )
  return batches.pairs(2).replace(sequences=rows)


OBJECTIVE = make_objective(losses.dpo, MODEL)
SGD = optax.sgd(0.1)


def _update(batch, *rest):
  state = init_state(jax.tree.map(jnp.copy, PARAMS), SGD)
  return make_update(OBJECTIVE, SGD)(state, batch, *rest)


@pytest.mark.parametrize(
  "call",
  [
    _update,
    lambda batch: make_evaluation(OBJECTIVE)(PARAMS, batch),
    lambda batch: OBJECTIVE.sums(PARAMS, batch),
  ],
  ids=["update", "evaluate", "sums"],
)
def test_a_forgotten_reference(call):
  with pytest.raises(UserError, match="ref_chosen_logps.*Pass ref_params"):
    call(_pairs())


@pytest.mark.parametrize(
  "call",
  [
    lambda batch: _update(batch, PARAMS),
    lambda batch: make_evaluation(OBJECTIVE)(PARAMS, batch, PARAMS),
    lambda batch: OBJECTIVE.sums(PARAMS, batch, PARAMS),
    OBJECTIVE.counts,
  ],
  ids=["update", "evaluate", "sums", "counts"],
)
def test_a_loaders_record_for_the_batch_in_it(call):
  record = Batch(7, _pairs(), ("a:1", "a:2"))
  with pytest.raises(
    UserError, match=r"loader yields \(batch 7.* PairBatch.*Pass its \.data"
  ):
    call(record)
  call(record.data)


def test_a_loader_still_yields_its_records():
  """The loader's pipeline takes records apart to count their bytes."""
  rows = [np.full(3, i, np.int32) for i in range(4)]
  pairs = [data.EncodedPair(row, row, row, f"f:{row[0]}") for row in rows]
  loader = data.make_loader(
    pairs, data.collate_pairs, batch_size=2, buckets=(8,)
  )
  assert next(iter(loader)).index == 0
  loader.close()


def test_a_reference_of_another_architecture():
  wide = tables.tabular(4, 3).init(jax.random.key(0))
  with pytest.raises(
    UserError, match=r"logits has shape \(21, 4\), the policy's \(13, 3\)"
  ):
    _update(_pairs(), wide)


@pytest.mark.parametrize(
  "ours, theirs, said",
  [
    ({"a": 1}, {"a": 1, "b": {"c": 2}}, "it has b/c, which the policy lacks"),
    ({"a": 1, "b": 2}, {"a": 1}, "it lacks b, which the policy has"),
    ({"a": {"w": 1}}, {"a": {"v": 1}}, "it has a/v"),
    ({"a": 1}, {}, "it lacks a"),
  ],
)
def test_what_one_model_has_and_the_other_lacks(ours, theirs, said):
  with pytest.raises(UserError, match="another architecture") as e:
    check_reference(ours, theirs)
  assert said in str(e.value) and "ref_params" in str(e.value)


def test_a_low_rank_change_lies_beside_its_weight():
  w = np.zeros((2, 2))
  plain, changed = {"a": w, "b": w}, {"a": {"w": w, "low": w[0]}, "b": w}
  check_reference(changed, plain)
  check_reference(plain, changed)


@pytest.mark.parametrize(
  "keys, said",
  [
    (jax.random.key(0), r"one key of shape \(\) for 6 rows"),
    (jax.random.PRNGKey(0), r"one key of shape \(2,\) for 6 rows"),
    (jax.random.split(jax.random.key(0), 3), r"keys of shape \(3,\) for 6"),
    (jax.random.split(jax.random.key(0), (6, 2)), r"keys of shape \(6, 2\)"),
  ],
)
def test_generate_wants_a_key_for_each_row(keys, said):
  prompts = jnp.zeros((3, 1), jnp.int32), jnp.ones(3, jnp.int32)
  with pytest.raises(
    AssertionError, match=said + r".*jax\.random\.split\(key, 6\)"
  ):
    generate(
      MODEL, PARAMS, *prompts, keys, max_new_tokens=3, stop_ids=(), samples=2
    )


def test_one_raw_key_is_not_two_rows():
  """A raw key has two numbers, which is also the number of rows here."""
  prompts = jnp.zeros((2, 1), jnp.int32), jnp.ones(2, jnp.int32)
  with pytest.raises(AssertionError, match="one key of shape"):
    generate(
      MODEL, PARAMS, *prompts, jax.random.PRNGKey(0),
      max_new_tokens=3, stop_ids=(),
    )  # fmt: skip


@pytest.mark.parametrize(
  "loss, arrays",
  [
    (losses.dpo, 4),
    (losses.ipo, 4),
    (losses.simpo, 4),
    (losses.slic_hf, 2),
    (losses.sft_sum, 1),
    (losses.orpo, 4),
  ],
)
def test_token_log_probs_in_a_loss_of_sums(loss, arrays):
  with pytest.raises(AssertionError, match=r"\[B\].*\(4, 7\).*scored tokens"):
    loss(*[jnp.zeros((4, 7))] * arrays)


def test_a_mixed_shape_names_both():
  sums, tokens = jnp.zeros(4), jnp.zeros((4, 7))
  with pytest.raises(AssertionError, match=r"\(4, 7\), \(4, 7\), \(4,\)"):
    losses.dpo(tokens, tokens, sums, sums)
