"""Heads that score responses are trained on pairs and on lists."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jalign import data, losses
from jalign.data.packing import pack
from jalign.errors import UserError
from jalign.experiment.data.dataset import Dataset
from jalign.logprobs import sequence_logprobs
from jalign.models import heads
from jalign.training.objective import make_evaluation, make_objective
from jalign.training.state import init_state
from jalign.training.step import make_update
from tests.models.tiny import tiny
from tests.training import batches


@pytest.fixture(scope="module")
def model():
  config, model, params = tiny(num_hidden_layers=1, remat="none")
  return config, model, params


def _features(model, params, sequences):
  """[R, D] hidden states of the rows' last tokens, computed row by row."""
  states = np.asarray(jax.jit(model.forward)(params, sequences.tokens))
  return np.stack(
    [row[n - 1] for row, n in zip(states, np.asarray(sequences.lengths))]
  )


def _head(kind, config, seed=5):
  """(head, parameters); no parameter is 0."""
  head = getattr(heads, kind)(config.hidden_size)
  params = head.init(jax.random.key(seed))
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(seed), len(leaves))
  drawn = [
    x + 0.1 * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys)
  ]
  return head, jax.tree.unflatten(tree, drawn)


@pytest.mark.parametrize(
  "name", ["bradley_terry", "bradley_terry_soft", "bradley_terry_margin"]
)
def test_scores_of_pairs_equal_numpy(model, name):
  config, model, params = model
  head, own = _head("scalar", config)
  rng = np.random.default_rng(0)
  preference, margin = rng.uniform(size=(2, 5)).astype(np.float32)
  batch = batches.scored_pairs(
    5, fill=1, preference=jnp.asarray(preference), margin=jnp.asarray(margin)
  )
  objective = make_objective(losses.CATALOGUE[name].function, model, head=head)
  total, (count, metrics) = jax.jit(objective.sums)(
    {"model": params, "head": own}, batch
  )
  x = _features(model, params, batch.sequences)
  scores = x @ np.asarray(own["weight"]) + float(own["bias"])
  gap = scores[0::2] - scores[1::2]
  softplus = lambda z: np.log1p(np.exp(z))
  value = {
    "bradley_terry": softplus(-gap),
    "bradley_terry_soft": softplus(-gap) + (1 - preference) * gap,
    "bradley_terry_margin": softplus(margin - gap),
  }[name]
  np.testing.assert_allclose(total, value[:4].sum(), rtol=1e-4)
  assert float(count) == 4
  right, of = metrics["score_accuracy"]
  assert float(right) == (gap[:4] > 0).sum() and float(of) == 4
  np.testing.assert_allclose(
    metrics["score_mean"][0], scores[:8].sum(), rtol=1e-4
  )


def test_gradients_of_the_scalar_head_equal_numpy(model):
  config, model, params = model
  head, own = _head("scalar", config)
  batch = batches.scored_pairs(4)
  objective = make_objective(losses.bradley_terry, model, head=head)
  whole = {"model": params, "head": own}
  found = jax.jit(jax.grad(lambda p: objective.sums(p, batch)[0]))(whole)
  x = _features(model, params, batch.sequences)
  scores = x @ np.asarray(own["weight"])
  gap = scores[0::2] - scores[1::2]
  slope = -1 / (1 + np.exp(gap))
  expected = (slope[:, None] * (x[0::2] - x[1::2])).sum(0)
  np.testing.assert_allclose(
    found["head"]["weight"], expected, rtol=1e-3, atol=1e-5
  )

  def direct(p):
    states = model.forward(p["model"], batch.sequences.tokens)
    last = states[jnp.arange(8), batch.sequences.lengths - 1]
    scores = last @ p["head"]["weight"]
    return jnp.sum(jnp.log1p(jnp.exp(scores[1::2] - scores[0::2])))

  # The model below the head gets gradients, too.
  expected = jax.jit(jax.grad(direct))(whole)["model"]
  assert float(optax.tree.norm(expected)) > 0.1
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
    found["model"],
    expected,
  )


def _cross_entropy(z, preference):
  return np.log1p(np.exp(-z)) + (1 - preference) * z


def test_comparisons_of_two_responses_equal_numpy(model):
  config, model, params = model
  head, own = _head("pairwise", config)
  rng = np.random.default_rng(1)
  preference = rng.uniform(size=4).astype(np.float32)
  batch = batches.scored_pairs(4, preference=jnp.asarray(preference))
  x = _features(model, params, batch.sequences)
  a, b = x[0::2], x[1::2]
  u, v, r = (np.asarray(own[name]) for name in ("u", "v", "score"))
  logit = (a - b) @ r + ((a @ u) * (b @ v) - (b @ u) * (a @ v)).sum(-1)
  whole = {"model": params, "head": own}
  # The head is antisymmetric, so both orders together count twice.
  for name, z in (("pairwise_preference", 2 * logit),
                  ("general_preference", logit)):  # fmt: skip
    loss = losses.CATALOGUE[name].function
    objective = make_objective(loss, model, head=head)
    slopes = jax.jit(jax.value_and_grad(objective.sums, has_aux=True))
    (total, (_, metrics)), found = slopes(whole, batch)
    expected = _cross_entropy(z, preference)
    np.testing.assert_allclose(total, expected.sum(), rtol=1e-4)
    assert float(metrics["score_accuracy"][0]) == (logit > 0).sum()
    found = found["head"]
    slope = 1 / (1 + np.exp(-z)) - preference
    factor = 2 if name == "pairwise_preference" else 1
    np.testing.assert_allclose(
      found["score"],
      factor * (slope[:, None] * (a - b)).sum(0),
      rtol=1e-3,
      atol=1e-5,
    )
    planes = np.einsum("p,pd,pk->dk", slope, a, b @ v) - np.einsum(
      "p,pd,pk->dk", slope, b, a @ v
    )
    np.testing.assert_allclose(
      found["u"], factor * planes, rtol=1e-3, atol=1e-5
    )


def test_packed_rows_score_the_same(model):
  config, model, params = model
  head, own = _head("scalar", config)
  batch = batches.scored_pairs(4)
  host = jax.tree.map(np.asarray, batch.sequences)
  rows = pack(host, np.ones(4, bool), width=40, share_prefix=True, groups=2)
  objective = make_objective(losses.bradley_terry, model, head=head)
  whole = {"model": params, "head": own}
  np.testing.assert_allclose(
    jax.jit(objective.sums)(whole, batch.replace(sequences=rows))[0],
    jax.jit(objective.sums)(whole, batch)[0],
    rtol=1e-5,
  )


def test_what_a_head_does_not_give_is_named(model):
  config, model, params = model
  scalar, _ = _head("scalar", config)
  with pytest.raises(UserError, match="takes outputs of a score head"):
    make_objective(losses.bradley_terry, model)
  with pytest.raises(UserError, match="takes no score head"):
    make_objective(losses.dpo, model, head=scalar)
  with pytest.raises(UserError, match="logits, swapped_logits.*chosen_scores"):
    make_objective(losses.pairwise_preference, model, head=scalar)
  with pytest.raises(UserError, match="harmful_costs"):
    make_objective(losses.cost_model, model, head=_head("pairwise", config)[0])
  margin = make_objective(losses.bradley_terry_margin, model, head=scalar)
  whole = {"model": params, "head": scalar.init(jax.random.key(0))}
  with pytest.raises(UserError, match="margin, which the data doesn't hold"):
    margin.sums(whole, batches.scored_pairs(2))


# ------------------------------------------------------- from records to them


def _ids(*values):
  return np.array(values, np.int32)


def _dataset(kind, records):
  return Dataset(
    kind, records, records, [], [], group_of={}, buckets=(8,), pad_id=0,
    facts={}, lines=(),
  )  # fmt: skip


def test_pairs_become_scored_pairs():
  records = [
    data.EncodedPair(
      _ids(1, 2), _ids(3 + i, 4), _ids(5), f"f:{i}", 0.75, 2.0 + i, 0.5
    )
    for i in range(3)
  ]
  loader = _dataset("pairs", records).loader(
    "scores", "train", 4, epochs=1, shuffle=False
  )
  batch = next(loader).data
  np.testing.assert_array_equal(batch.weights, [1, 1, 1, 0])
  np.testing.assert_array_equal(batch.ranks, [[1, 2]] * 4)
  np.testing.assert_array_equal(batch.margin[:3], [1.5, 2.5, 3.5])
  np.testing.assert_array_equal(batch.preference[:3], 0.75)
  np.testing.assert_array_equal(batch.sequences.tokens[0, :4], [1, 2, 3, 4])
  np.testing.assert_array_equal(batch.sequences.tokens[1, :3], [1, 2, 5])


def test_lists_become_ranked_scores(model):
  config, model, params = model
  scores = ([1.0, 3.0, 2.0], [0.0, 5.0], [2.0, 2.0, 4.0])
  records = [
    data.EncodedList(
      _ids(1, 2),
      tuple(_ids(10 * i + j + 3, 4) for j in range(len(row))),
      np.array(row, np.float32),
      f"f:{i}",
    )
    for i, row in enumerate(scores)
  ]
  dataset = _dataset("lists", records)
  batch = next(
    dataset.loader("scores", "train", 3, epochs=1, shuffle=False)
  ).data
  np.testing.assert_array_equal(
    batch.ranks * batch.valid, [[1, 2, 3], [1, 2, 0], [1, 2, 2]]
  )
  # The best comes first: the first list's second response has 3 points.
  np.testing.assert_array_equal(batch.sequences.tokens[::3, 2], [4, 14, 25])
  head, own = _head("scalar", config)
  objective = make_objective(losses.bradley_terry_list, model, head=head)
  total, _ = jax.jit(objective.sums)({"model": params, "head": own}, batch)
  x = _features(model, params, batch.sequences).reshape(3, 3, -1)
  s = x @ np.asarray(own["weight"])
  pairs = [[(0, 1), (0, 2), (1, 2)], [(0, 1)], [(0, 1), (0, 2)]]
  expected = sum(
    np.mean([np.log1p(np.exp(s[i, b] - s[i, a])) for a, b in row])
    for i, row in enumerate(pairs)
  )
  np.testing.assert_allclose(total, expected, rtol=1e-4)
  pair = make_objective(losses.bradley_terry, model, head=head)
  with pytest.raises(UserError, match="of two responses.*has 3"):
    pair.sums({"model": params, "head": own}, batch)


@pytest.mark.parametrize(
  "name, kind",
  [
    ("bradley_terry", "scalar"),
    ("pairwise_preference", "pairwise"),
    ("general_preference", "pairwise"),
  ],
)
def test_a_model_and_its_head_train(model, name, kind):
  config, model, params = model
  head, own = _head(kind, config)
  loss = losses.CATALOGUE[name].function
  objective = make_objective(loss, model, head=head)
  optimizer = optax.adam(3e-3)
  update = make_update(objective, optimizer, microbatches=2)
  whole = jax.tree.map(jnp.array, {"model": params, "head": own})
  state = init_state(whole, optimizer)
  batch = batches.scored_pairs(8)
  evaluate = make_evaluation(objective)
  before = evaluate(whole, batch, None)
  for _ in range(25):
    state, _ = update(state, batch)
  after = evaluate(state.params, batch, None)
  assert float(after["loss"][0]) < float(before["loss"][0]) / 2
  assert float(after["score_accuracy"][0]) == 8


def test_a_language_model_loss_on_the_chosen_responses_beside_scores(model):
  """Each term keeps its denominator; packed rows give the same numbers."""
  config, functions, params = model
  head, own = _head("scalar", config)
  both = {"model": params, "head": own}
  batch = batches.scored_pairs(4, fill=1)
  loss = losses.weighted_sum({"bradley_terry": 1.0, "sft": 0.5})
  objective = make_objective(loss, functions, head=head)
  run = jax.jit(objective.sums)
  total, (count, metrics) = run(both, batch)
  alone = make_objective(losses.bradley_terry, functions, head=head)
  ranked, (pairs, _) = jax.jit(alone.sums)(both, batch)
  chosen = jax.tree.map(lambda x: x[0::2], batch.sequences)
  logps = np.asarray(
    jax.jit(lambda p: sequence_logprobs(functions, p, chosen))(params)
  )
  live = np.asarray(batch.weights)
  tokens = (np.asarray(chosen.mask[:, 1:]).sum(-1) * live).sum()
  nll = -(logps * live).sum() / tokens
  np.testing.assert_allclose(total / count, ranked / pairs + 0.5 * nll, 1e-5)
  np.testing.assert_allclose(np.divide(*metrics["loss/sft"]), nll, 1e-5)
  host = jax.tree.map(np.asarray, batch.sequences)
  rows = pack(host, live > 0, width=64, share_prefix=True)
  packed, _ = run(both, batch.replace(sequences=rows))
  np.testing.assert_allclose(packed, total, rtol=1e-5)
