"""Each form of record for a score head: collated, scored, packed, learnt."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jalign import data, losses
from jalign.data.packing import pack
from jalign.errors import UserError
from jalign.experiment.data.dataset import Dataset
from jalign.models import heads
from jalign.training.objective import make_evaluation, make_objective
from jalign.training.state import init_state
from jalign.training.step import make_update
from tests.models.tiny import tiny

VOCAB = 64


@pytest.fixture(scope="module")
def model():
  config, model, params = tiny(num_hidden_layers=1, remat="none")
  return config, model, params


def _ids(*values):
  return np.array(values, np.int32)


def _dataset(kind, records, held_out=()):
  return Dataset(
    kind, records, list(held_out) or records, [], [], group_of={},
    buckets=(8,), pad_id=0, facts={}, lines=(),
  )  # fmt: skip


def _batch(kind, records, size, held_out=()):
  dataset = _dataset(kind, records, held_out)
  loader = dataset.loader("scores", "train", size, epochs=1, shuffle=False)
  return next(loader).data


# Losses on each form, as sums over no more than what the kind gives.


def of_labels(response_scores, desirable):
  return jax.nn.softplus(
    jnp.where(desirable, -response_scores, response_scores)
  )


def of_ratings(objective_scores, ratings, rated):
  errors = jnp.square(objective_scores - ratings)
  return jnp.sum(jnp.where(rated, errors, 0.0), -1)


def of_objectives(
  chosen_objective_scores,
  rejected_objective_scores,
  objective_preferences,
  objective,
):
  gaps = chosen_objective_scores - rejected_objective_scores
  nll = jax.nn.softplus(-gaps) + (1 - objective_preferences) * gaps
  return jnp.sum(objective * nll, -1)


def of_features(chosen_features, rejected_features, feature_gaps, objective):
  gaps = jnp.sum((chosen_features - rejected_features - feature_gaps) ** 2, -1)
  return gaps + jnp.sum(objective * jnp.sum(feature_gaps, -1)[:, None], -1)


def _objective(model, loss, head):
  return make_objective(loss, model, batch="scores", head=head)


def _drawn(head, seed=5):
  """Parameters of a head; none is 0."""
  leaves, tree = jax.tree.flatten(head.init(jax.random.key(seed)))
  keys = jax.random.split(jax.random.key(seed), len(leaves))
  return jax.tree.unflatten(
    tree,
    [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys)],
  )


def _states(model, params, batch):
  """[R, D] states of the last tokens, row by row, without padding."""
  forward = jax.jit(model.forward)
  rows = []
  lengths = np.asarray(batch.sequences.lengths)
  for row, n in zip(np.asarray(batch.sequences.tokens), lengths):
    rows.append(np.asarray(forward(params, row[None, :n]))[0, -1])
  return np.stack(rows)


PAIRS = [
  data.EncodedPair(
    _ids(1, 2), _ids(7, 4), _ids(8, 9, 4), "f:1", chosen_score=9.0,
    rejected_score=1.0, objectives={"short": 1.0}, margin=0.5,
    chosen_unsafe=False, rejected_unsafe=True,
  ),
  data.EncodedPair(
    _ids(3, 2), _ids(5, 5, 4), _ids(6, 4), "f:2", chosen_score=9.0,
    rejected_score=1.0, objectives={"short": 0.25, "kind": 1.0}, margin=2.0,
    chosen_unsafe=True, rejected_unsafe=True,
  ),
  data.EncodedPair(
    _ids(3, 9), _ids(15, 4), _ids(16, 4), "f:3", chosen_score=9.0,
    rejected_score=1.0, objectives={}, margin=0.0,
    chosen_unsafe=False, rejected_unsafe=False,
  ),
]  # fmt: skip
RATINGS = [
  data.EncodedRating(_ids(1, 2), _ids(7, 4), {"b": 3.0, "a": -1.0}, "f:1"),
  data.EncodedRating(_ids(1, 3), _ids(8, 8, 4), {"b": 4.0}, "f:2"),
  data.EncodedRating(_ids(5, 3), _ids(9, 4), {"a": 0.5}, "f:3"),
]
LABELS = [
  data.EncodedBinary(_ids(1, 2), _ids(7, 4), True, "f:1"),
  data.EncodedBinary(_ids(1, 3), _ids(8, 8, 4), False, "f:2"),
  data.EncodedBinary(_ids(5, 3), _ids(9, 4), True, "f:3"),
]


def test_pairs_are_collated_with_all_that_they_say():
  batch = _batch("pairs", PAIRS, 4)
  np.testing.assert_array_equal(batch.weights, [1, 1, 1, 0])
  # A margin of its own goes before the difference of scores, which is 8.
  np.testing.assert_array_equal(batch.margin[:3], [0.5, 2, 0])
  assert batch.names == ("kind", "short")
  np.testing.assert_array_equal(batch.objective[:3], [[0, 1], [1, 1], [0, 0]])
  np.testing.assert_array_equal(
    batch.objective_preferences[:3], [[0.5, 1], [1, 0.25], [0.5, 0.5]]
  )
  np.testing.assert_array_equal(
    batch.unsafe[:3], [[False, True], [True, True], [False, False]]
  )
  np.testing.assert_array_equal(batch.sequences.tokens[2, :5], [3, 2, 5, 5, 4])
  plain = _batch("pairs", [data.EncodedPair(_ids(1), _ids(2), _ids(3), "f")], 2)
  assert plain.unsafe is plain.objective is plain.margin is None


def test_single_responses_are_collated():
  batch = _batch("unpaired", LABELS, 4)
  np.testing.assert_array_equal(batch.desirable[:3], [True, False, True])
  np.testing.assert_array_equal(batch.weights, [1, 1, 1, 0])
  np.testing.assert_array_equal(batch.valid, np.ones((4, 1)))
  np.testing.assert_array_equal(batch.sequences.lengths[:3], [4, 5, 4])
  batch = _batch("ratings", RATINGS, 4)
  assert batch.names == ("a", "b")
  np.testing.assert_array_equal(batch.ratings[:3], [[-1, 3], [0, 4], [0.5, 0]])
  np.testing.assert_array_equal(batch.rated[:3], [[1, 1], [0, 1], [1, 0]])


def test_costs_equal_numpy(model):
  config, model, params = model
  head = heads.scalar(config.hidden_size)
  own, batch = _drawn(head), _batch("pairs", PAIRS, 4)
  objective = _objective(model, losses.cost_model, head)
  total, (count, metrics) = jax.jit(objective.sums)(
    {"model": params, "head": own}, batch
  )
  c = _states(model, params, batch) @ np.asarray(own["weight"]) + own["bias"]
  harmless, harmful = c[0:6:2], c[1:6:2]  # the rejected one is more harmful
  softplus = lambda z: np.log1p(np.exp(z))
  sign = lambda unsafe: np.where(unsafe, 1, -1)
  signs = sign(np.asarray(batch.unsafe)[:3])
  expected = (
    softplus(harmless - harmful)
    + softplus(-signs[:, 0] * harmless)
    + softplus(-signs[:, 1] * harmful)
  )
  np.testing.assert_allclose(total, expected.sum(), rtol=1e-4)
  right = (signs * np.stack([harmless, harmful], 1) > 0).sum()
  assert float(metrics["unsafe_accuracy"][0]) == right
  assert float(metrics["score_accuracy"][0]) == (harmful > harmless).sum()


def test_several_objectives_equal_numpy(model):
  config, model, params = model
  head = heads.objectives(config.hidden_size, count=2)
  own, batch = _drawn(head), _batch("pairs", PAIRS, 4)
  whole = {"model": params, "head": own}
  objective = _objective(model, of_objectives, head)
  total, (_, metrics) = jax.jit(objective.sums)(whole, batch)
  x = _states(model, params, batch)
  scores = x @ np.asarray(own["weight"]) + np.asarray(own["bias"])
  gaps = (scores[0::2] - scores[1::2])[:3]
  nll = lambda z, p: p * np.log1p(np.exp(-z)) + (1 - p) * np.log1p(np.exp(z))
  kept = [nll(gaps[0, 1], 1), nll(gaps[1, 1], 0.25), nll(gaps[1, 0], 1)]
  np.testing.assert_allclose(total, sum(kept), rtol=1e-4)
  np.testing.assert_allclose(
    metrics["score_nll_nats"], [sum(kept), 3], rtol=1e-4
  )
  # Under "short" the second pair prefers the other response.
  short = float(gaps[0, 1] > 0) + float(gaps[1, 1] < 0)
  np.testing.assert_allclose(metrics["score_accuracy/short"], [short, 2])
  np.testing.assert_allclose(
    metrics["score_accuracy/kind"], [float(gaps[1, 0] > 0), 1]
  )


def test_features_are_what_the_head_reads(model):
  config, model, params = model
  head = heads.scalar(config.hidden_size)
  batch = _batch("pairs", PAIRS, 4)
  objective = _objective(model, of_features, head)
  whole = {"model": params, "head": _drawn(head)}
  total, _ = jax.jit(objective.sums)(whole, batch)
  x = _states(model, params, batch)
  gaps = (x[0::2] - x[1::2]).sum(-1)
  np.testing.assert_allclose(total, gaps[0] + 2 * gaps[1], rtol=1e-4)


def test_labels_and_ratings_equal_numpy(model):
  config, model, params = model
  head = heads.scalar(config.hidden_size)
  own, batch = _drawn(head), _batch("unpaired", LABELS, 4)
  objective = _objective(model, of_labels, head)
  total, _ = jax.jit(objective.sums)({"model": params, "head": own}, batch)
  s = _states(model, params, batch) @ np.asarray(own["weight"]) + own["bias"]
  z = np.array([1, -1, 1]) * s[:3]
  np.testing.assert_allclose(total, np.log1p(np.exp(-z)).sum(), rtol=1e-4)

  head = heads.objectives(config.hidden_size, count=2)
  own, batch = _drawn(head), _batch("ratings", RATINGS, 4)
  objective = _objective(model, of_ratings, head)
  total, (_, metrics) = jax.jit(objective.sums)(
    {"model": params, "head": own}, batch
  )
  x = _states(model, params, batch)
  scores = x @ np.asarray(own["weight"]) + np.asarray(own["bias"])
  a = (scores[0, 0] + 1) ** 2 + (scores[2, 0] - 0.5) ** 2
  b = (scores[0, 1] - 3) ** 2 + (scores[1, 1] - 4) ** 2
  np.testing.assert_allclose(total, a + b, rtol=1e-4)
  np.testing.assert_allclose(metrics["rating_error/a"], [a, 2], rtol=1e-4)
  np.testing.assert_allclose(metrics["rating_error"], [a + b, 4], rtol=1e-4)


# ------------------------------------------------- what every form has to keep


FORMS = {
  "costs": ("pairs", losses.cost_model, heads.scalar),
  "objectives": ("pairs", of_objectives, heads.objectives),
  "embeddings": ("pairs", losses.general_preference, heads.general),
  "labels": ("unpaired", of_labels, heads.scalar),
  "ratings": ("ratings", of_ratings, heads.objectives),
}
RECORDS = {"pairs": PAIRS, "unpaired": LABELS, "ratings": RATINGS}


@pytest.mark.parametrize("form", ["objectives", "ratings"])
def test_padding_and_packing_change_nothing(model, form):
  config, model, params = model
  kind, loss, make = FORMS[form]
  head = make(config.hidden_size)
  whole = {"model": params, "head": _drawn(head)}
  batch = _batch(kind, RECORDS[kind], 4)
  sums = jax.jit(_objective(model, loss, head).sums)
  expected = sums(whole, batch)[0]
  rows = batch.sequences
  columns = np.arange(rows.tokens.shape[1])
  padded = np.where(columns < rows.lengths[:, None], rows.tokens, 63)
  other = batch.replace(sequences=rows.replace(tokens=padded))
  np.testing.assert_allclose(sums(whole, other)[0], expected, rtol=1e-6)
  # The last token does count.
  last = np.where(columns == rows.lengths[:, None] - 1, 50, rows.tokens)
  moved = sums(whole, batch.replace(sequences=rows.replace(tokens=last)))[0]
  assert abs(float(moved - expected)) > 1e-3
  packed = pack(
    jax.tree.map(np.asarray, rows),
    np.asarray(batch.weights) > 0,
    width=16,
    share_prefix=True,
    groups=2,
  )
  np.testing.assert_allclose(
    sums(whole, batch.replace(sequences=packed))[0], expected, rtol=1e-5
  )


def _tasks(count=24):
  """Records of each kind in which a response is good if its token is even."""
  rng = np.random.default_rng(0)
  for kind in RECORDS:
    records = []
    for i in range(count):
      prompt = _ids(1, rng.integers(2, 8))
      even, odd = 2 * rng.integers(5, 30, 2) + np.array([0, 1])
      tail = rng.integers(2, 5)
      good, bad = _ids(even, *[3] * tail), _ids(odd, 3)
      if kind == "pairs":
        record = data.EncodedPair(
          prompt, good, bad, f"f:{i}", preference=1.0, chosen_unsafe=False,
          rejected_unsafe=True, objectives={"even": 1.0, "odd": 0.0},
        )  # fmt: skip
      elif kind == "unpaired":
        record = data.EncodedBinary(
          prompt, good if i % 2 else bad, bool(i % 2), f"f:{i}"
        )
      else:
        worth = 1.0 if i % 2 else -1.0
        ratings = {"even": worth} | ({"odd": -worth} if i % 3 else {})
        record = data.EncodedRating(
          prompt, good if i % 2 else bad, ratings, f"f:{i}"
        )
      records.append(record)
    yield kind, records


@functools.cache
def _task(kind):
  return dict(_tasks())[kind]


@pytest.mark.parametrize("form", FORMS)
def test_a_head_learns_from_each_form(model, form):
  config, model, params = model
  kind, loss, make = FORMS[form]
  head = make(config.hidden_size)
  objective = _objective(model, loss, head)
  optimizer = optax.adam(1e-2)
  update = make_update(objective, optimizer, microbatches=2)
  whole = {"model": params, "head": head.init(jax.random.key(1))}
  state = init_state(jax.tree.map(jnp.array, whole), optimizer)
  batch = _batch(kind, _task(kind), 24)
  evaluate = make_evaluation(objective)
  before = evaluate(whole, batch, None)
  for _ in range(40):
    state, _ = update(state, batch)
  after = evaluate(state.params, batch, None)
  mean = lambda sums, name: float(sums[name][0] / sums[name][1])
  assert mean(after, "loss") < mean(before, "loss") / 2
  if form == "ratings":
    assert mean(after, "rating_error/even") < 0.2  # 1 for a constant
    return
  assert mean(after, "score_accuracy") > 0.95
  if form == "objectives":
    assert mean(after, "score_accuracy/odd") > 0.95
  if form == "costs":
    assert mean(after, "unsafe_accuracy") > 0.95


# --------------------------------------------------------------- bad records


def test_what_does_not_fit_is_named(model):
  config, model, params = model
  scalar = heads.scalar(config.hidden_size)
  whole = {"model": params, "head": scalar.init(jax.random.key(0))}
  plain = [data.EncodedPair(_ids(1), _ids(2), _ids(3), "f:1")]
  sums = _objective(model, losses.cost_model, scalar).sums
  with pytest.raises(UserError, match="labels of safety") as error:
    sums(whole, _batch("pairs", plain, 1))
  assert "chosen_unsafe" in error.value.remedy
  with pytest.raises(UserError, match="of two responses, .* 1 response to"):
    sums(whole, _batch("unpaired", LABELS, 4))
  sums = _objective(model, of_labels, scalar).sums
  with pytest.raises(UserError, match="of one response, .* 2 responses to"):
    sums(whole, _batch("pairs", plain, 1))
  three = heads.objectives(config.hidden_size, count=3)
  sums = _objective(model, of_ratings, three).sums
  whole = {"model": params, "head": three.init(jax.random.key(0))}
  with pytest.raises(UserError, match="3 objectives, .* has 2: a, b"):
    sums(whole, _batch("ratings", RATINGS, 4))
  other = [data.EncodedRating(_ids(1), _ids(2), {"new": 1.0}, "g:7")]
  with pytest.raises(UserError, match="'new', which no training") as error:
    _batch("ratings", RATINGS, 2, held_out=other)
  assert error.value.where == "g:7"
  pair = data.EncodedPair(_ids(1), _ids(2), _ids(3), "g:8")
  other = [dataclasses.replace(pair, objectives={"x": 1.0})]
  with pytest.raises(UserError, match="'x', which no training"):
    _batch("pairs", PAIRS, 2, held_out=other)


def _check(kind, names, records):
  dataset = _dataset(kind, records)
  dataset.reading("scores").check("my loss", names, records)


def test_records_that_teach_nothing_are_refused_or_said(capsys):
  same = [
    data.EncodedBinary(_ids(1), _ids(2), False, f"f:{i}") for i in range(3)
  ]
  with pytest.raises(UserError, match="all 3 responses .* are undesirable"):
    _check("unpaired", ("desirable",), same)
  _check("unpaired", ("desirable",), LABELS)
  half = [
    data.EncodedPair(_ids(1), _ids(2), _ids(3), "f:1", preference=0.5)
  ] * 2
  with pytest.raises(UserError, match="preferences of pairs, and all 2"):
    _check("pairs", ("preference",), half)
  _check("pairs", ("chosen_scores",), half)
  tied = data.EncodedList(
    _ids(1), (_ids(2), _ids(3)), np.float32([2, 2]), "f:4"
  )
  with pytest.raises(UserError, match="all 1 lists"):
    _check("lists", (), [tied])
  flat = [
    data.EncodedRating(_ids(1), _ids(2), {"a": 2.0, "b": float(i)}, f"f:{i}")
    for i in range(3)
  ]
  with pytest.raises(UserError, match="all are constant: a is 2 in all 1, b"):
    _check("ratings", (), flat[:1])
  capsys.readouterr()
  _check("ratings", (), flat)
  assert "a is 2 in all 3" in capsys.readouterr().out
  _check("ratings", (), RATINGS)
  assert "missing of 3 responses: a of 1, b of 1" in capsys.readouterr().out
  untied = data.EncodedList(
    _ids(1), (_ids(2), _ids(3)), np.float32([2, 1]), "f:5"
  )
  _check("lists", (), [tied, untied])
  assert "1 of 2 lists are equal (f:4 is the first)" in capsys.readouterr().out
  unsafe = [
    data.EncodedPair(_ids(1), _ids(2), _ids(3), "f", chosen_unsafe=True,
                     rejected_unsafe=True)
  ]  # fmt: skip
  _check("pairs", ("harmful_unsafe",), unsafe)
  assert "are unsafe" in capsys.readouterr().out
  _check("pairs", ("objective",), PAIRS)
  assert "1 of 3 pairs have no objective (f:3" in capsys.readouterr().out
