"""Heads that know the rater are trained on pairs with rater ids."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jalign import data, losses
from jalign.data.packing import pack
from jalign.errors import UserError
from jalign.experiment.data.dataset import Dataset
from jalign.models import ideal_points, rater_heads, scalar
from jalign.training.kinds import KINDS, rater_batch
from jalign.training.objective import make_evaluation, make_objective
from jalign.training.state import init_state
from jalign.training.step import make_update
from tests.models.tiny import tiny


@pytest.fixture(scope="module")
def model():
  config, model, params = tiny(num_hidden_layers=1, remat="none")
  return config, model, params


def _ids(*values):
  return np.array(values, np.int32)


def _pairs(count=12, people=3):
  """Pairs of several raters; rater i likes tokens that end in i's parity."""
  rng = np.random.default_rng(0)
  pairs = []
  for i in range(count):
    even, odd = _ids(10 + 2 * (i % 4), 3), _ids(31 + 2 * (i % 5), 5, 3)
    sides = (even, odd) if (i % people) % 2 == 0 else (odd, even)
    prompt = _ids(*rng.integers(40, 60, 2 + i % 3))
    pairs.append(
      data.EncodedPair(prompt, *sides, f"f:{i + 1}", rater=f"r{i % people}")
    )
  return pairs


def _dataset(train, held_out=()):
  return Dataset(
    "pairs", list(train), list(held_out), [], [], group_of={}, buckets=(16,),
    pad_id=0, facts={}, lines=(),
  )  # fmt: skip


def _batch(kind, part="train", count=6, **fields):
  pairs = [dataclasses.replace(pair, **fields) for pair in _pairs()]
  held = [
    dataclasses.replace(pair, rater=f"{pair.rater}?") for pair in pairs[:4]
  ]
  loader = _dataset(pairs, held).loader(
    kind, part, count, epochs=1, shuffle=False
  )
  batch = next(loader).data
  loader.close()
  return batch, pairs


def _vpl(config, **settings):
  head = rater_heads.vpl(config.hidden_size, latent=3, width=8, **settings)
  params = head.init(jax.random.key(1))
  params["score"] = jax.random.normal(jax.random.key(2), (8,))
  return head, params


# -------------------------------------------------------------------- batches


def test_context_is_of_the_same_rater_and_another_prompt():
  pairs = _pairs(24)
  pools = rater_batch.pools_of(pairs)
  counts = []
  for pair in pairs:
    for seed in range(8):
      drawn = rater_batch.draw_context(pair, pools[pair.rater], 3, seed)
      again = rater_batch.draw_context(pair, pools[pair.rater], 3, seed)
      assert drawn == again
      assert len({other.source for other in drawn}) == len(drawn)
      assert all(other.rater == pair.rater for other in drawn)
      assert not any(np.array_equal(o.prompt, pair.prompt) for o in drawn)
      counts.append(len(drawn))
  share = np.bincount(counts, minlength=4) / len(counts)
  np.testing.assert_allclose(share, 0.25, atol=0.1)
  # On one prompt, the label would be given away.
  same = [dataclasses.replace(p, prompt=_ids(1)) for p in _pairs()]
  assert rater_batch.draw_context(same[0], same, 3, 0) == ()


def test_rows_are_the_pair_and_then_its_context():
  batch, pairs = _batch("raters")
  most = rater_batch.CONTEXT
  assert batch.sequences.tokens.shape == (6 * 2 * (1 + most), 16)
  rows = batch.sequences.tokens.reshape(6, 1 + most, 2, 16)
  known = {}
  for pair in pairs:
    for j, side in enumerate((pair.chosen, pair.rejected)):
      row = np.zeros(16, np.int32)
      ids = np.concatenate([pair.prompt, side])
      row[: len(ids)] = ids
      known.setdefault((j, row.tobytes()), []).append(pair)
  for i in range(6):
    for c in range(most):
      if not batch.context[i, c]:
        np.testing.assert_array_equal(rows[i, 1 + c], rows[i, 0])
        continue
      for j in range(2):
        (pair,) = known[j, rows[i, 1 + c, j].tobytes()]
        assert pair.rater == pairs[i].rater and pair is not pairs[i]
  # A rater has four pairs, three of them beside the pair itself.
  assert batch.context.sum(1).max() <= 3 and batch.context.any()
  assert (np.diff(batch.context.astype(int), axis=1) <= 0).all()


def test_draws_depend_on_the_epoch_in_training_only():
  pairs = _pairs()
  make = lambda some, **options: rater_batch.collate_rated(
    some, 4, 16, pools=rater_batch.pools_of(pairs), **options
  )
  one, two = make(pairs[:4]), make([*pairs[:3], pairs[5]])
  np.testing.assert_array_equal(one.seeds, make(pairs[:4]).seeds)
  assert not np.any(one.seeds[:3] == two.seeds[:3])
  assert len(set(one.seeds)) == 4
  fixed = {"sampled": False}
  one, two = make(pairs[:4], **fixed), make([*pairs[:3], pairs[5]], **fixed)
  assert one.seeds is None
  np.testing.assert_array_equal(one.context[:3], two.context[:3])
  np.testing.assert_array_equal(
    one.sequences.tokens[: 3 * 18], two.sequences.tokens[: 3 * 18]
  )


def test_the_longest_row_of_a_rater_decides_the_bucket():
  short, long = _pairs(2, people=1)
  long = dataclasses.replace(long, chosen=_ids(*range(20, 33)))
  dataset = dataclasses.replace(_dataset([short, long]), buckets=(8, 24))
  assert dataset.lengths("raters", "train") == [data.pair_length(long)] * 2
  assert dataset.lengths("rater_pairs", "train")[0] < 8


def test_raters_are_numbered_and_unseen_ones_are_minus_one():
  batch, _ = _batch("rater_pairs", count=5, preference=0.75)
  np.testing.assert_array_equal(batch.raters, [0, 1, 2, 0, 1])
  np.testing.assert_array_equal(batch.preference, [0.75] * 5)
  batch, _ = _batch("rater_pairs", part="eval", count=5)
  np.testing.assert_array_equal(batch.raters, [-1] * 5)
  np.testing.assert_array_equal(batch.weights, [1, 1, 1, 1, 0])


# --------------------------------------------------------------------- arrays


def _features(model, params, sequences, at):
  states = np.asarray(model.forward(params, jnp.asarray(sequences.tokens)))
  return np.stack([row[i] for row, i in zip(states, at)])


def test_scores_as_an_inferred_rater_equal_the_heads_own(model):
  config, model, params = model
  head, own = _vpl(config)
  batch, _ = _batch("raters", part="eval", count=5)
  kind = KINDS["raters"]

  def loss(chosen_scores, rejected_scores, latent_means, latent_log_variances):
    return (
      chosen_scores
      - 2 * rejected_scores
      + (latent_means + 3 * latent_log_variances).sum(-1)
    )

  objective = make_objective(loss, model, batch=kind, head=head)
  whole = {"model": params, "head": own}
  total, (count, metrics) = jax.jit(objective.sums)(whole, batch)
  assert float(count) == 4
  last = np.asarray(batch.sequences.lengths) - 1
  x = _features(model, params, batch.sequences, last)
  x = x.reshape(5, 1 + rater_batch.CONTEXT, 2, -1)[:4]
  latent = head.infer(own, x[:, 1:, 0], x[:, 1:, 1], batch.context[:4])
  scores = head.score_as(own, x[:, 0], latent.mean)
  want = scores[:, 0] - 2 * scores[:, 1] + latent.mean.sum(-1)
  want += 3 * latent.log_variance.sum(-1)
  np.testing.assert_allclose(total, want.sum(), rtol=1e-4)
  mean, lv = np.asarray(latent.mean), np.asarray(latent.log_variance)
  nats = 0.5 * (np.exp(lv) + mean**2 - 1 - lv)
  ratio = lambda name: float(metrics[name][0] / metrics[name][1])
  assert ratio("latent_kl_nats") == pytest.approx(nats.sum(-1).mean(), rel=1e-4)
  assert ratio("latent_active_count") == pytest.approx(
    (nats > 0.01).sum(-1).mean()
  )
  known = batch.context[:4].sum(1)
  assert ratio("context_pairs_count") == known.mean()
  won = np.asarray(scores[:, 0] > scores[:, 1])
  assert metrics["score_accuracy_no_context"] == (
    won[known == 0].sum(), (known == 0).sum()
  )  # fmt: skip
  assert metrics["score_accuracy_some_context"] == (
    won[known > 0].sum(), (known > 0).sum()
  )  # fmt: skip


def test_prompts_features_are_states_before_the_response(model):
  config, model, params = model
  head = ideal_points.pal_b(config.hidden_size, raters=3, prototypes=2, width=4)
  own = head.init(jax.random.key(0))
  batch, pairs = _batch("rater_pairs", count=4)
  whole = {"model": params, "head": own}
  loss = lambda chosen_scores, rejected_scores: (
    chosen_scores - 2 * rejected_scores
  )
  objective = make_objective(loss, model, batch="rater_pairs", head=head)
  total, (_, metrics) = jax.jit(objective.sums)(whole, batch)
  ends = np.asarray(batch.sequences.lengths) - 1
  x = _features(model, params, batch.sequences, ends).reshape(4, 2, -1)
  starts = np.repeat([len(pair.prompt) - 1 for pair in pairs[:4]], 2)
  before = _features(model, params, batch.sequences, starts)[::2]
  weights = head.weights(own, jnp.asarray(batch.raters))
  scores = head.score_as(own, x, weights, before)
  np.testing.assert_allclose(
    total, (scores[:, 0] - 2 * scores[:, 1]).sum(), rtol=1e-4
  )
  assert float(metrics["unseen_raters_share"][0]) == 0
  packed = pack(
    jax.tree.map(np.asarray, batch.sequences), np.ones(4, bool), width=32,
    share_prefix=True, groups=2,
  )  # fmt: skip
  np.testing.assert_allclose(
    jax.jit(objective.sums)(whole, batch.replace(sequences=packed))[0],
    total,
    rtol=1e-4,
  )


# ------------------------------------------------------------------- training


def _vpl_loss(chosen_scores, rejected_scores, latent_means):
  gap = chosen_scores - rejected_scores
  return jax.nn.softplus(-gap) + 1e-3 * jnp.square(latent_means).sum(-1)


def _train(model, params, kind, head, loss, batch, steps=60):
  objective = make_objective(loss, model, batch=kind, head=head)
  optimizer = optax.adam(1e-2)
  update = make_update(objective, optimizer, microbatches=2)
  whole = {"model": params, "head": head.init(jax.random.key(0))}
  state = init_state(jax.tree.map(jnp.array, whole), optimizer)
  batches = batch if isinstance(batch, list) else [batch]
  for i in range(steps):
    state, _ = update(state, batches[i % len(batches)])
  evaluate = make_evaluation(objective)

  def measure(batch):
    sums = evaluate(state.params, batch, None)
    return {k: float(a / b) for k, (a, b) in sums.items() if b}

  return state.params, measure


def test_an_inferred_rater_follows_the_context(model):
  """Raters 0 and 2 like what rater 1 dislikes."""
  config, model, params = model
  pairs = _pairs(48 * 12)
  collate = lambda some: rater_batch.collate_rated(
    some, 48, 8, pools=rater_batch.pools_of(some), most=2
  )
  *known, held_out = (collate(pairs[i : i + 48]) for i in range(0, 576, 48))
  head = _vpl(config)[0]
  _, measure = _train(model, params, "raters", head, _vpl_loss, known, 80)
  batch = held_out
  assert measure(batch)["score_accuracy_some_context"] > 0.75
  tokens = batch.sequences.tokens.reshape(48, -1, 2, 8)
  turned = np.concatenate([tokens[:, :1], tokens[:, 1:, ::-1]], 1)
  lengths = batch.sequences.lengths.reshape(48, -1, 2)
  sequences = batch.sequences.replace(
    tokens=turned.reshape(-1, 8),
    lengths=np.concatenate([lengths[:, :1], lengths[:, 1:, ::-1]], 1).reshape(
      -1
    ),
  )
  other = measure(batch.replace(sequences=sequences))
  assert other["score_accuracy_some_context"] < 0.25
  assert other["score_accuracy_no_context"] == pytest.approx(
    measure(batch)["score_accuracy_no_context"]
  )


def test_weights_of_opposed_raters_part(model):
  config, model, params = model
  pairs = _pairs(48 * 6)
  numbers = rater_batch.numbers_of(pairs)
  known = [
    rater_batch.collate_numbered(pairs[i : i + 48], 48, 8, numbers=numbers)
    for i in range(0, 288, 48)
  ]
  head = ideal_points.pal_a(config.hidden_size, 3, 2, 8)
  trained, measure = _train(
    model, params, "rater_pairs", head, losses.pal_logistic, known, 80
  )
  assert measure(known[0])["score_accuracy"] > 0.9
  first = np.asarray(head.weights(trained["head"], jnp.arange(3)))[:, 0]
  apart = first[[0, 2]] - first[1]
  assert (apart > 0.2).all() or (apart < -0.2).all()


# --------------------------------------------------------------------- errors


def test_what_is_missing_is_named(model):
  config, model, _ = model
  head, _ = _vpl(config)
  pal = ideal_points.pal_a(config.hidden_size)
  loss = lambda latent_means: latent_means.sum(-1)
  with pytest.raises(UserError, match="latent_means, which this head doesn't"):
    make_objective(loss, model, batch="raters", head=pal)
  weights = lambda rater_weights: rater_weights.sum(-1)
  with pytest.raises(UserError, match="rater_weights, which this head"):
    make_objective(weights, model, batch="rater_pairs", head=head)
  # Heads of other kinds have other functions.
  plain = lambda chosen_scores: chosen_scores
  for kind, wrong in (("rater_pairs", scalar(4)), ("scores", pal)):
    with pytest.raises(UserError, match="chosen_scores, which this head"):
      make_objective(plain, model, batch=kind, head=wrong)

  reading = KINDS["raters"].records["pairs"]
  nobody = [dataclasses.replace(p, rater=None) for p in _pairs()]
  with pytest.raises(UserError, match="12 of 12 pairs have no 'rater'.*f:1"):
    reading.check("vpl", (), reading.view(nobody))
  alone = [dataclasses.replace(p, rater=p.source) for p in _pairs()]
  with pytest.raises(UserError, match="no rater has pairs on two prompts"):
    reading.check("vpl", (), reading.view(alone))
  reading.check("vpl", (), _pairs())
