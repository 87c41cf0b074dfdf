"""Arrays that batches of each kind give to a loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jalign import losses
from jalign.errors import UserError
from jalign.logprobs import logits, sequence_logprobs
from jalign.training.kinds import KINDS, vocabulary
from jalign.training.objective import make_evaluation, make_objective
from jalign.training.outputs import Outputs
from jalign.training.state import init_state
from jalign.training.step import make_update
from jalign.types import RolloutBatch, SequenceBatch
from tests.models.tiny import tiny
from tests.training import batches

MAKE = {
  "pairs": lambda n, **kw: batches.pairs(
    n,
    preference=jnp.linspace(0, 1, n),
    chosen_scores=jnp.arange(n) * 1.0,
    rejected_scores=jnp.zeros(n),
    old_logps=-jnp.arange(2.0 * n),
    beside=batches.sequences(n, seed=9),
    **kw,
  ),
  "segments": batches.pairs,
  "lists": batches.lists,
  "ranked_segments": batches.lists,
  "unpaired": batches.unpaired,
  "sequences": lambda n, **kw: batches.singles(
    n,
    rewards=jnp.arange(n) * 1.0,
    values=jnp.ones(n),
    preference=jnp.full(n, 0.5),
    old_token_logps=jnp.zeros((n, 11)),
    anchor_token_logps=jnp.zeros((n, 11)),
    advantages=jnp.ones(n),
    greedy_rewards=jnp.zeros(n),
    target_logps=-jnp.ones(n),
    baselines=jnp.zeros(n),
    old_token_values=jnp.zeros((n, 11)),
    returns=jnp.ones((n, 11)),
    **kw,
  ),
  "rollouts": lambda n, **kw: batches.rollouts(n, advantages=True, **kw),
}
MAKE["tokens"] = MAKE["sequences"]


@pytest.fixture(scope="module")
def policies():
  _, model, params = tiny(num_hidden_layers=1, remat="none")
  return model, params, model.init(jax.random.key(3))


def given(policies, kind, data, names=None):
  model, params, reference = policies
  names = tuple(KINDS[kind].gives if names is None else names)

  @jax.jit
  def arrays(params, reference, data):
    rows = data.sequences
    head = {"weight": jnp.ones(32), "bias": jnp.zeros(())}
    outputs = Outputs(
      model,
      params,
      rows,
      names,
      ref_params=reference,
      critic={"model": params, "head": head},
    )
    return KINDS[kind].arrays(outputs, data, names)

  return arrays(params, reference, data)


def dense(policies, sequences, which=1):
  """[R, T - 1, V] log-probs of all tokens."""
  model, params = policies[0], policies[which]
  return np.asarray(_dense(model, params, sequences.tokens))


@functools.partial(jax.jit, static_argnums=0)
def _dense(model, params, tokens):
  hidden = model.forward(params, tokens)[:, :-1]
  return jax.nn.log_softmax(logits(model.head(params), hidden))


def tokens_of(policies, sequences, which=1):
  """[R, T - 1] log-probs of the scored tokens, 0 elsewhere."""
  picked = np.take_along_axis(
    dense(policies, sequences, which), sequences.tokens[:, 1:, None], -1
  )[..., 0]
  return np.where(sequences.mask[:, 1:], picked, 0)


@pytest.mark.parametrize("kind", MAKE)
def test_a_batch_gives_what_its_kind_promises(policies, kind):
  data = MAKE[kind](4, fill=1)
  found = given(policies, kind, data)
  sizes = {"B": 4, "K": 3, "2": 2, "T": 11, "C": 11}
  for name in KINDS[kind].gives:
    axes, _, dtype = vocabulary(kind)[name].partition(" ")
    assert found[name].shape == tuple(sizes[axis] for axis in axes), name
    assert (found[name].dtype == bool) == (dtype == "bool"), name


def test_lists_are_rows_of_a_prompt(policies):
  data = batches.lists(4, fill=1)
  found = given(policies, "lists", data)
  for name, which in (("logps", 1), ("ref_logps", 2)):
    sums = tokens_of(policies, data.sequences, which).sum(-1)
    np.testing.assert_allclose(found[name].reshape(-1), sums, rtol=1e-5)
  assert not found["valid"][-1].any()
  np.testing.assert_array_equal(found["valid"][:-1], data.valid[:-1])


def test_labelled_responses_and_their_mismatched_rows(policies):
  data = batches.unpaired(4, fill=1)
  found = given(policies, "unpaired", data)
  for name, rows, which in (
    ("logps", data.sequences, 1),
    ("mismatched_logps", data.mismatched, 1),
    ("ref_mismatched_logps", data.mismatched, 2),
  ):
    sums = tokens_of(policies, rows, which).sum(-1)
    np.testing.assert_allclose(found[name], sums, rtol=1e-5, err_msg=name)
  np.testing.assert_array_equal(found["valid"], [True, True, True, False])


def test_candidates_are_tokens_of_the_row(policies):
  data = MAKE["tokens"](3)
  found = given(policies, "tokens", data)
  every = dense(policies, data.sequences)
  targets = np.asarray(data.sequences.tokens[:, 1:])
  expected = np.take_along_axis(every, targets[:, None], -1)
  np.testing.assert_allclose(found["candidate_logps"], expected, atol=1e-5)
  scored = np.asarray(data.sequences.mask[:, 1:])
  mask = np.asarray(found["candidate_mask"])
  for b, row in enumerate(targets):
    for t in np.flatnonzero(scored[b]):
      before = {int(v) for v, live in zip(row[:t], scored[b]) if live}
      taken = [int(row[c]) for c in np.flatnonzero(mask[b, t])]
      assert sorted(taken) == sorted(before - {int(row[t])})


def test_shared_tokens_and_collisions_of_pairs(policies):
  data = MAKE["pairs"](4)
  found = given(policies, "pairs", data)
  tokens = tokens_of(policies, data.sequences)
  every = dense(policies, data.sequences)
  scored = np.asarray(data.sequences.mask[:, 1:])
  collisions = np.where(scored, np.log(np.exp(2 * every).sum(-1)), 0).sum(-1)
  for pair in range(4):
    both = [2 * pair, 2 * pair + 1]
    short = min(scored[row].sum() for row in both)
    for row, side in zip(both, ("chosen", "rejected")):
      first = np.flatnonzero(scored[row])[:short]
      np.testing.assert_allclose(
        found[f"{side}_shared_logps"][pair], tokens[row, first].sum(), rtol=1e-5
      )
      np.testing.assert_allclose(
        found[f"{side}_collision_logps"][pair], collisions[row], rtol=1e-4
      )


def test_collisions_under_a_soft_cap():
  _, model, params = tiny(num_hidden_layers=1, remat="none")
  plain = model.head
  capped = lambda p: plain(p).replace(scale=2.0, soft_cap=1.0)
  model = model._replace(head=capped)
  data = MAKE["pairs"](2)
  found = given((model, params, params), "pairs", data)
  every = dense((model, params), data.sequences)
  scored = np.asarray(data.sequences.mask[:, 1:])
  sums = np.where(scored, np.log(np.exp(2 * every).sum(-1)), 0).sum(-1)
  np.testing.assert_allclose(
    found["chosen_collision_logps"], sums[0::2], rtol=1e-4
  )


def test_old_log_probs_of_a_pair_are_those_of_its_rows(policies):
  data = MAKE["pairs"](4)
  names = ("chosen_logps", "old_chosen_logps", "old_rejected_logps")
  found = given(policies, "pairs", data, names)
  np.testing.assert_array_equal(found["old_chosen_logps"], [0, -2, -4, -6])
  np.testing.assert_array_equal(found["old_rejected_logps"], [-1, -3, -5, -7])
  with pytest.raises(UserError, match="old_logps"):
    given(policies, "pairs", data.replace(old_logps=None), names)


def test_a_third_response_beside_a_pair(policies):
  data = MAKE["pairs"](4)
  wanted = {"explore_logps": 1, "gold_logps": 1, "ref_explore_logps": 2}
  found = given(policies, "pairs", data, tuple(wanted))
  for name, which in wanted.items():
    sums = tokens_of(policies, data.beside, which).sum(-1)
    np.testing.assert_allclose(found[name], sums, rtol=1e-5, err_msg=name)
  with pytest.raises(UserError, match="beside"):
    given(policies, "pairs", data.replace(beside=None), ("gold_logps",))


def test_segments_are_responses_step_by_step(policies):
  data = batches.pairs(4)
  found = given(policies, "segments", data)
  np.testing.assert_allclose(
    found["step_logps"].reshape(8, -1),
    tokens_of(policies, data.sequences),
    rtol=1e-5,
    atol=1e-6,
  )
  np.testing.assert_array_equal(found["preference"], 1)
  soft = data.replace(preference=jnp.full(4, 0.7))
  np.testing.assert_allclose(
    given(policies, "segments", soft)["preference"], 0.7
  )


def test_rollouts_are_rows_of_a_prompt_token_by_token(policies):
  data = batches.rollouts(4, fill=1)
  names = ("token_logps", "old_token_logps", "ref_token_logps", "valid")
  found = given(policies, "rollouts", data, names)
  for name, which in (("token_logps", 1), ("ref_token_logps", 2)):
    tokens = tokens_of(policies, data.sequences, which)
    np.testing.assert_allclose(
      found[name].reshape(tokens.shape), tokens, rtol=1e-5, atol=1e-6
    )
  np.testing.assert_array_equal(
    found["old_token_logps"].reshape(12, -1), data.old_token_logps
  )
  assert not found["valid"][-1].any()
  recorded = data.replace(ref_token_logps=jnp.full((12, 11), -3.0))
  again = given(policies, "rollouts", recorded, names)
  np.testing.assert_array_equal(again["ref_token_logps"], -3)


@pytest.mark.parametrize("kind", ["tokens", "rollouts"])
def test_an_advantage_is_of_a_token_or_of_a_response(policies, kind):
  data = MAKE[kind](2)
  rows = data.sequences.mask[:, 1:].shape
  shape = (2,) if kind == "tokens" else (2, 3)
  one = jnp.arange(1.0, 1 + np.prod(shape)).reshape(shape)
  for values in (one, jnp.broadcast_to(one.reshape(-1, 1), rows)):
    found = given(
      policies, kind, data.replace(advantages=values), ("advantages",)
    )["advantages"]
    assert found.shape == (*shape, rows[1])
    np.testing.assert_array_equal(found, one[..., None] * np.ones(rows[1]))
  with pytest.raises(UserError, match="takes advantages, which the data"):
    given(policies, kind, data.replace(advantages=None), ("advantages",))


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "ppo_clip", "reinforce"])
def test_losses_on_samples_raise_what_was_rewarded(policies, name):
  model, params, reference = policies
  loss, entry = losses.resolve(name)
  reward = jnp.array([[1.0, -1.0, 0.0], [0.0, 2.0, -2.0]])
  rows = batches.sequences(6)
  old = jnp.asarray(tokens_of(policies, rows))
  if entry.batch == "rollouts":
    weights, valid = jnp.ones(2), jnp.ones((2, 3), bool)
    data = RolloutBatch(rows, weights, reward, valid, old)
  else:
    data = SequenceBatch(
      rows, jnp.ones(6), old_token_logps=old, advantages=reward.reshape(-1)
    )
  objective = make_objective(loss, model)
  optimizer = optax.sgd(0.1)
  update = make_update(objective, optimizer)
  state = init_state(jax.tree.map(jnp.array, params), optimizer)
  state, sums = update(state, data, reference)
  if "old_log_ratio_nats" in sums:
    np.testing.assert_allclose(sums["old_log_ratio_nats"][0], 0, atol=1e-4)
  moved = tokens_of((model, state.params), rows).sum(-1) - old.sum(-1)
  assert np.dot(moved, reward.reshape(-1)) > 1e-3


@pytest.mark.parametrize("name", ["grpo", "ppo_clip"])
def test_metrics_of_samples_are_means_over_the_live_responses(policies, name):
  """Log-ratios are the policy's log-probs less the compared policy's."""
  model, params, reference = policies
  loss, entry = losses.resolve(name)
  data = MAKE[entry.batch](4).replace(weights=jnp.array([1.0, 1.0, 0.0, 1.0]))
  rows = data.sequences
  old = jnp.where(rows.mask[:, 1:], -2.5, 0.0)
  data = data.replace(old_token_logps=old)
  if entry.batch == "tokens":
    data = data.replace(advantages=jnp.ones(4))
  sums = make_evaluation(make_objective(loss, model))(params, data, reference)
  live = np.repeat(data.weights > 0, len(rows.mask) // 4)
  if entry.batch == "rollouts":
    live &= np.asarray(data.valid).reshape(-1)
  own = tokens_of(policies, rows).sum(-1)[live]
  past = np.asarray(old).sum(-1)[live]
  other = tokens_of(policies, rows, 2).sum(-1)[live]
  mean = lambda name: float(sums[name][0] / sums[name][1])
  assert mean("old_log_ratio_nats") == pytest.approx(
    (own - past).mean(), rel=1e-4
  )
  assert abs((own - past).mean()) > 1
  if entry.batch == "rollouts":
    assert mean("log_ratio_nats") == pytest.approx(
      (own - other).mean(), rel=1e-4
    )
    want = np.asarray(data.rewards).reshape(-1)[live].mean()
    assert mean("reward_mean") == pytest.approx(want)


def test_what_the_data_lacks_is_named(policies):
  for name in ("rewards", "values"):
    with pytest.raises(UserError, match=f"takes {name}, which the data"):
      given(policies, "sequences", batches.singles(2), ("logps", name))
  model, params, _ = policies
  names, data = ("ref_step_logps",), batches.pairs(2)
  known = Outputs(model, params, data.sequences, names, ref_logps=jnp.zeros(4))
  with pytest.raises(UserError, match="ref_step_logps.*reference='step'"):
    KINDS["segments"].arrays(known, data, names)


# -------------------------------------------------------- sums of two counts


def test_terms_keep_their_denominators(policies):
  model, params, reference = policies
  loss = losses.weighted_sum({"dpo": 1.0, "sft": 0.5})
  objective = make_objective(loss, model)
  data = batches.pairs(6, fill=1)
  sums = make_evaluation(objective)(params, data, reference)
  logps = sequence_logprobs(model, params, data.sequences)
  ref = sequence_logprobs(model, reference, data.sequences)
  dpo = losses.dpo(logps[0::2], logps[1::2], ref[0::2], ref[1::2])[:5].mean()
  tokens = np.asarray(data.sequences.mask)[0:10:2].sum()
  sft = -logps[0:10:2].sum() / tokens
  mean = lambda name: float(sums[name][0] / sums[name][1])
  np.testing.assert_allclose(mean("loss"), dpo + 0.5 * sft, rtol=1e-5)
  np.testing.assert_allclose(mean("loss/dpo"), dpo, rtol=1e-5)
  np.testing.assert_allclose(mean("loss/sft"), sft, rtol=1e-5)
  assert sums["loss"][1] == 5 and sums["loss/sft"][1] == tokens


def test_two_counts_accumulate_as_the_full_batch(policies):
  model, params, reference = policies
  loss = losses.weighted_sum({"sft": 0.5, "dpo": 1.0})
  objective = make_objective(loss, model)
  data = batches.pairs(8, fill=1)
  optimizer = optax.sgd(1.0)
  found = []
  for parts in (1, 4):
    update = make_update(objective, optimizer, microbatches=parts)
    copy = jax.tree.map(jnp.array, params)
    state, sums = update(init_state(copy, optimizer), data, reference)
    found.append((state.params, {k: v[0] / v[1] for k, v in sums.items()}))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=3e-5, atol=1e-6), *found
  )
  moved = optax.tree.norm(optax.tree.sub(found[0][0], params))
  assert moved > 0.1
