"""Rows on rewards: what their `arrange` makes of judged responses."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign.errors import UserError
from jalign.feedback import Judge, from_preference, from_reward
from jalign.feedback.segments import from_segments
from jalign.losses.advantages import group_advantages, leave_one_out_advantages
from jalign.online import ALGORITHMS, REFERENCE, Judged, bind
from jalign.online.carry import StepTaken
from jalign.online.rows.baselines import added, log_added
from jalign.online.rows.rewards import ROWS
from jalign.online.segments import listed_answers, token_rewards
from jalign.online.unfinished import Unfinished, check_unfinished
from jalign.types import Rollout, Sequences
from tests.online.toy_rounds import round_of, six_prompts, tiny_model

T = 4  # a prompt token and up to three response tokens


def judged(rewards, logps=None, ref_logps=None, carry=(), lengths=None, **more):
  """Responses to prompts with rewards [P, K] and token log-probs [P K, 3]."""
  rewards = np.asarray(rewards, float)
  rows = rewards.size
  lengths = np.full(rows, 3) if lengths is None else np.asarray(lengths)
  mask = np.arange(T - 1) < lengths[:, None]
  logps = -np.ones((rows, T - 1)) if logps is None else np.asarray(logps)
  ref = logps if ref_logps is None else np.asarray(ref_logps)
  float32 = lambda x: jnp.asarray(np.where(mask, x, 0), jnp.float32)
  before = lambda x: jnp.pad(x, ((0, 0), (1, 0)))
  tokens = np.arange(rows)[:, None] * np.ones(T)
  sequences = Sequences(
    jnp.asarray(tokens, jnp.int32),
    before(jnp.asarray(mask)),
    jnp.asarray(lengths + 1, jnp.int32),
  )
  old = before(float32(logps))
  rollout = Rollout(
    sequences, jnp.ones(rows, jnp.int32), old, old[None], jnp.ones(rows, bool)
  )
  return Judged(
    rollout,
    rewards,
    None,
    np.zeros((len(rewards), 0), np.float32),
    np.ones(len(rewards), np.float32),
    carry,
    jax.random.key(0),
    {REFERENCE.name: float32(ref)},
    **more,
  )


def one_token(probabilities):
  """Log-probs of one-token responses."""
  logps = np.zeros((len(probabilities), T - 1))
  logps[:, 0] = np.log(probabilities)
  return logps


def test_rloo_scores_are_rewards_less_the_log_ratios():
  rng = np.random.default_rng(0)
  logps, ref = rng.normal(-2, 1, (2, 6, 3))
  rewards = rng.normal(size=(2, 3))
  batch = ROWS["rloo"].arrange(judged(rewards, logps, ref), beta=0.3)
  want = rewards - 0.3 * (logps - ref).sum(-1).reshape(2, 3)
  np.testing.assert_allclose(batch.scores, want, rtol=1e-5)
  assert np.asarray(batch.valid).all()


def test_what_follows_a_token_is_the_reward_and_the_log_ratios_from_it_on():
  rng = np.random.default_rng(1)
  logps, ref = rng.normal(-2, 1, (2, 2, 3))
  lengths, rewards, mean = np.array([3, 2]), np.array([[1.5], [-0.5]]), 0.25
  carry = {"mean": jnp.float32(mean), "count": jnp.float32(2)}
  given = judged(rewards, logps, ref, carry, lengths)
  batch = ROWS["reinforce"].arrange(given, beta=0.2)
  live = np.arange(3) < lengths[:, None]
  ratios = np.where(live, logps - ref, 0)
  later = np.flip(np.cumsum(np.flip(ratios, 1), 1), 1)
  want = rewards - 0.2 * later - mean
  np.testing.assert_allclose(
    np.where(live, batch.advantages, 0), np.where(live, want, 0), rtol=1e-5
  )
  measured = ROWS["reinforce"].measure(given, beta=0.2)
  total = (rewards - 0.2 * ratios.sum(1, keepdims=True)).mean()
  assert measured["return_mean"] == pytest.approx(total, rel=1e-5)
  # A reward of one segment at the last token is a reward of the response.
  at_the_end = np.zeros((2, 3), np.float32)
  at_the_end[[0, 1], lengths - 1] = rewards[:, 0]
  segments = given._replace(token_rewards=jnp.asarray(at_the_end), rewards=None)
  again = ROWS["reinforce_segments"].arrange(segments, beta=0.2)
  np.testing.assert_allclose(again.advantages, batch.advantages, rtol=1e-6)
  assert ROWS["reinforce_segments"].measure(segments, beta=0.2) == (
    pytest.approx(measured, rel=1e-5)
  )


def test_remax_takes_the_last_response_as_the_baseline():
  rewards = np.array([[1.0, 3.0, 2.0], [0.0, -1.0, 5.0]])
  batch = ROWS["remax"].arrange(judged(rewards), beta=0.0)
  np.testing.assert_array_equal(batch.rewards, [1, 3, 0, -1])
  np.testing.assert_array_equal(batch.greedy_rewards, [2, 2, 5, 5])
  rows = np.asarray(batch.sequences.tokens)[:, 0]
  np.testing.assert_array_equal(rows, [0, 1, 3, 4])
  assert len(batch.weights) == 4


def test_p3o_pairs_neighbours_in_the_order_of_drawing():
  rewards = np.array([[1.0, 3.0, 2.0, 0.0]])
  logps = -np.arange(12.0).reshape(4, 3)
  batch = ROWS["p3o"].arrange(judged(rewards, logps), beta=0.1)
  np.testing.assert_array_equal(batch.chosen_scores, [1, 2])
  np.testing.assert_array_equal(batch.rejected_scores, [3, 0])
  np.testing.assert_array_equal(batch.old_logps, logps.sum(-1))
  with pytest.raises(UserError, match="in pairs") as error:
    ROWS["p3o"].arrange(judged(np.zeros((2, 3))))
  assert error.value.where == "samples"


@pytest.mark.parametrize("name", ["raft", "best_of_n_distill"])
def test_the_best_response_is_imitated(name):
  rewards = np.array([[1.0, 3.0, 2.0], [4.0, 4.0, 0.0]])
  batch = ROWS[name].arrange(judged(rewards))
  rows = np.asarray(batch.sequences.tokens)[:, 0]
  np.testing.assert_array_equal(rows, [1, 3])  # of equal ones the first
  assert ROWS[name].measure(judged(rewards)) == {"best_reward_mean": 3.5}


@pytest.mark.parametrize(
  "name", ["rloo", "grpo", "dr_grpo", "raft", "best_of_n_distill"]
)
def test_rows_that_compare_responses_refuse_a_single_one(name):
  with pytest.raises(UserError) as error:
    ROWS[name].arrange(judged(np.zeros((2, 1))))
  assert error.value.where == "samples"
  with pytest.raises(UserError, match="from 2") as error:
    bind(ROWS[name], {"samples": 1})
  assert error.value.where == "algorithm_settings.samples"


@pytest.mark.parametrize("beta", [-0.1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["reinforce", "rloo", "remax", "p3o"])
def test_a_penalty_is_a_finite_number(name, beta):
  with pytest.raises(UserError) as error:
    ROWS[name].arrange(judged(np.zeros((2, 2))), beta=beta)
  assert error.value.where == "beta"


def test_equal_rewards_have_no_advantage():
  """Nor has a response alone; empty responses count like others."""
  equal = judged(np.full((2, 3), 7.0), lengths=[1, 3, 1, 2, 1, 1])
  scores = ROWS["rloo"].arrange(equal).scores
  valid = np.ones((2, 3), bool)
  np.testing.assert_array_equal(leave_one_out_advantages(scores, valid), 0)
  np.testing.assert_array_equal(group_advantages(scores, valid), 0)
  alone = leave_one_out_advantages(scores[:, :1], valid[:, :1])
  np.testing.assert_array_equal(alone, 0)
  pairs = ROWS["p3o"].arrange(judged(np.full((2, 2), 7.0)))
  np.testing.assert_array_equal(pairs.chosen_scores, pairs.rejected_scores)
  greedy = ROWS["remax"].arrange(equal)
  np.testing.assert_array_equal(greedy.rewards, greedy.greedy_rewards)
  baseline = {"mean": jnp.float32(7), "count": jnp.float32(1)}
  plain = ROWS["reinforce"].arrange(equal._replace(carry=baseline))
  live = np.asarray(equal.mask)
  np.testing.assert_array_equal(np.asarray(plain.advantages)[live], 0)


def test_grpo_with_two_outcomes():
  """sqrt((1 - p) / p) and -sqrt(p / (1 - p)), with K in the denominator."""
  rewards = np.array([[1.0, -1.0, -1.0, -1.0]])
  batch = ROWS["grpo"].arrange(judged(rewards))
  found = group_advantages(batch.rewards, batch.valid)[0]
  found = found * math.sqrt(4 / 3)  # GRPO here divides by K - 1
  np.testing.assert_allclose(found[:2], [1.7320508, -0.5773503], rtol=1e-5)


def test_the_law_of_the_best_of_k_goes_on_from_round_to_round():
  """Best of K of a snapshot that is the best of K^(t-1): best of K^t."""
  rewards = np.arange(4.0)
  law = np.array([0.1, 0.4, 0.3, 0.2])
  best = lambda q, k: np.diff(np.cumsum(q) ** k, prepend=0)

  def imitated(q, k):
    """The law of the rows that the row picks, over all groups of k."""
    found = np.zeros(4)
    groups = np.indices((4,) * k).reshape(k, -1).T
    given = judged(rewards[groups])
    picked = ROWS["raft"].arrange(given).rewards
    np.add.at(found, np.asarray(picked, int), q[groups].prod(-1))
    return found

  once = imitated(law, 2)
  np.testing.assert_allclose(once, best(law, 2), rtol=1e-12)
  np.testing.assert_allclose(imitated(once, 2), best(law, 4), rtol=1e-12)


# ---------------------------------------------------------------------- f-DPG


def f_dpg(name="f_dpg_reverse_kl", carry=None, **given):
  row = ROWS[name]
  start = row.carry.init(None)
  return row, judged(
    [[0.5, 1.0, -1.0]],
    one_token([0.5, 0.3, 0.2]),
    one_token([0.2, 0.3, 0.5]),
    jax.tree.map(jnp.float32, start) if carry is None else carry,
    lengths=[1, 1, 1],
    **given,
  )


def test_the_target_is_the_tilted_reference_over_the_carried_normaliser():
  row, first = f_dpg()
  unscaled = np.array([0.2, 0.3, 0.5]) * np.exp([1.0, 2.0, -2.0])
  own = np.log(np.mean(unscaled / [0.5, 0.3, 0.2]))
  batch = row.arrange(first, beta=0.5)
  np.testing.assert_allclose(
    batch.target_logps, np.log(unscaled) - own, rtol=1e-5
  )
  measured = row.measure(first, beta=0.5)
  assert measured["log_normaliser"] == pytest.approx(own, rel=1e-5)
  log_t = np.log([0.5, 0.3, 0.2]) - np.log(unscaled) + own
  assert measured["factor_mean"] == pytest.approx(np.mean(log_t + 1), rel=1e-4)
  kept = {
    "z": {"log_mean": jnp.float32(0.7), "count": jnp.float32(3)},
    "factor": {"mean": jnp.float32(-0.2), "count": jnp.float32(3)},
  }
  batch = row.arrange(first._replace(carry=kept), beta=0.5)
  np.testing.assert_allclose(
    batch.target_logps, np.log(unscaled) - 0.7, rtol=1e-5
  )
  np.testing.assert_allclose(batch.baselines, -0.2, rtol=1e-6)
  with pytest.raises(UserError):
    row.arrange(first, beta=0.0)


def test_the_reverse_kl_is_rlhf_with_a_running_baseline():
  """Its factor is 1 / beta times minus (r - beta log-ratio - constants)."""
  row, first = f_dpg()
  batch = row.arrange(first, beta=0.5)
  logps = one_token([0.5, 0.3, 0.2])[:, 0]
  slope = jax.grad(
    lambda x: row.loss.function(x, batch.target_logps, batch.baselines).sum()
  )(jnp.asarray(logps, jnp.float32))
  rewards = np.array([0.5, 1.0, -1.0])
  ratios = logps - one_token([0.2, 0.3, 0.5])[:, 0]
  rlhf = -(rewards - 0.5 * ratios) / 0.5
  np.testing.assert_allclose(np.diff(slope), np.diff(rlhf), rtol=1e-5)


def test_excluded_responses_have_a_finite_target():
  for name in ROWS:
    if not name.startswith("f_dpg"):
      continue
    row, first = f_dpg(name)
    batch = row.arrange(first, threshold=0.0)
    assert np.isfinite(batch.target_logps).all()
    assert batch.target_logps[2] < -9e3 < batch.target_logps[1]
    measured = row.measure(first, threshold=0.0)
    assert np.isfinite(list(measured.values())).all()
    none = row.arrange(first, threshold=9.0)
    assert np.isfinite(none.target_logps).all()


def test_running_means():
  kept, logs = {"mean": 0.0, "count": 0.0}, {"log_mean": 0.0, "count": 0.0}
  values = [3.0, 5.0, 1.0]
  for value in values:
    kept = added(kept, value)
    logs = log_added(logs, jnp.log(value))
  assert kept["mean"] == pytest.approx(3.0)
  assert float(logs["log_mean"]) == pytest.approx(math.log(3.0), rel=1e-6)
  recent = functools.reduce(
    lambda old, x: added(old, x, 0.5), values, {"mean": 0.0, "count": 0.0}
  )
  weights = np.array([0.25, 0.5, 1.0])
  assert recent["mean"] == pytest.approx(weights @ values / weights.sum())
  carry = ROWS["reinforce"].carry
  taken = StepTaken(None, {"algorithm/return_mean": 2.0}, 1)
  assert carry.next(carry.init(None), taken) == {"mean": 2.0, "count": 1.0}
  with pytest.raises(UserError):
    carry.next(carry.init(None), taken, baseline_decay=0.0)


# ------------------------------------------------- responses that didn't end


def test_unfinished_responses_lose_their_score():
  rewards = np.array([[2.0, -0.5], [np.nan, 1.0]])
  finished = np.array([[True, False], [False, False]])
  fixed = Unfinished(replace=True, reward=-1.0)
  np.testing.assert_array_equal(
    fixed.rewards(rewards, finished), [[2, -1], [np.nan, -1]]
  )
  less = Unfinished(penalty=0.5)
  np.testing.assert_array_equal(
    less.rewards(rewards, finished), [[2, -1], [np.nan, 0.5]]
  )
  mask = np.array([[True, True, False], [True, True, True]])
  tokens = np.array([[1.0, 2.0, 0.0], [1.0, 2.0, 3.0]])
  ended = np.array([False, True])
  np.testing.assert_array_equal(
    fixed.token_rewards(tokens, ended, mask), [[0, -1, 0], [1, 2, 3]]
  )
  np.testing.assert_array_equal(
    less.token_rewards(tokens, ended, mask), [[1, 1.5, 0], [1, 2, 3]]
  )


def test_a_fixed_reward_makes_the_zero_of_rewards_matter():
  """Three arms alike, the third unfinished, beta 0.5: RLHF's optimum."""

  def optimum(rewards):
    given = Unfinished(replace=True).rewards(
      np.array(rewards), np.array([True, True, False])
    )
    law = np.exp(given / 0.5)
    return law / law.sum()

  np.testing.assert_allclose(
    optimum([2.0, -0.5, 9.0]), [0.9909, 0.0067, 0.0025], atol=5e-5
  )
  np.testing.assert_allclose(
    optimum([-1.0, -3.5, 6.0]), [0.4983, 0.0034, 0.4983], atol=5e-5
  )


def test_rounds_change_rewards_before_anything_sees_them():
  """No response ends here, as there is no stop token."""
  model, params = tiny_model()
  key = jax.random.key(0)
  values, scores = [], []
  for unfinished in (Unfinished(), Unfinished(penalty=2.0)):
    play = round_of(ALGORITHMS["rloo"], unfinished=unfinished)
    got = play(params, params, six_prompts(), key)
    values.append(got.values["rollouts/reward_mean"])
    scores.append(np.asarray(got.batches[0].scores))
    assert got.values["rollouts/finished_share"] == 0
  assert values[0] - values[1] == pytest.approx(2)
  np.testing.assert_allclose(scores[0] - scores[1], 2, rtol=1e-5)
  # Preferences follow from changed rewards: all are equal.
  play = round_of(ALGORITHMS["online_ipo"], unfinished=Unfinished(replace=True))
  got = play(params, params, six_prompts(), key)
  assert got.values["rollouts/preference_certainty"] == 0


def test_what_cannot_be_changed_is_refused():
  judge = from_reward(lambda prompt, response: 0.0)
  check_unfinished(Unfinished(replace=True), judge, "here")
  for wrong in (Unfinished(penalty=-1.0), Unfinished(reward=math.nan)):
    with pytest.raises(UserError):
      check_unfinished(wrong, judge, "here")
  preferring = from_preference(lambda prompt, a, b: 0.5)
  check_unfinished(Unfinished(), preferring, "here")
  with pytest.raises(UserError, match="reward"):
    check_unfinished(Unfinished(penalty=1.0), preferring, "here")


# -------------------------------------------------------------------- segments


def test_rewards_of_segments_are_rewards_of_tokens():
  """The variance of the golden example falls, and its mean stays."""
  words = {1: "ab", 2: "c", 3: "d ", 4: "e."}  # "abcd " is a word in three
  decode = lambda ids: "".join(words.get(i, "") for i in ids)
  tokens = np.array([[9, 1, 2, 3, 4, 0], [9, 4, 7, 0, 0, 0]])
  mask = np.array([[0, 1, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0]], bool)
  rollout = Rollout(
    Sequences(jnp.asarray(tokens), jnp.asarray(mask), jnp.array([5, 3])),
    jnp.ones(2, jnp.int32),
    jnp.zeros((2, 6)),
    jnp.zeros((1, 2, 6)),
    jnp.array([False, True]),
  )
  segments = {"abcd e.": [(4, 1.0), (7, 0.5)], "e.": [(0, 0.25), (2, 2.0)]}
  judge = from_segments(lambda prompt, response: segments[response])
  answers = listed_answers(["x"], list(segments))
  found = token_rewards(judge, answers, rollout, decode)
  np.testing.assert_array_equal(found, [[0, 0, 1, 0.5, 0], [2.25, 0, 0, 0, 0]])
  assert judge.reward(answers) == [1.5, 2.25]
  cut = token_rewards(judge, answers, rollout, decode, Unfinished(penalty=1.0))
  np.testing.assert_array_equal(cut[0], [0, 0, 1, -0.5, 0])


def test_dense_rewards_have_less_variance():
  """Two independent segments, p = 0.3: .5082 becomes .3570, the mean stays."""
  p, outcomes = 0.3, np.array(list(np.ndindex(2, 2)))
  chance = np.where(outcomes, p, 1 - p).prod(-1)
  scores = outcomes - p  # d log pi / d logit of either segment

  def moments(advantages):
    estimate = scores * advantages
    mean = chance @ estimate
    return mean, chance @ ((estimate - mean) ** 2)

  zeros = {"mean": jnp.float32(0), "count": jnp.float32(0)}
  given = judged(outcomes.sum(1)[:, None], carry=zeros, lengths=[2] * 4)
  whole = ROWS["reinforce"].arrange(given, beta=0.0).advantages[:, :2]
  dense = ROWS["reinforce_segments"].arrange(
    given._replace(
      token_rewards=jnp.pad(jnp.asarray(outcomes, float), ((0, 0), (0, 1)))
    ),
    beta=0.0,
  )
  mean, variance = moments(np.asarray(whole))
  np.testing.assert_allclose(mean, [0.21, 0.21], rtol=1e-6)
  np.testing.assert_allclose(variance, [0.2541, 0.2541], rtol=1e-6)
  mean, variance = moments(np.asarray(dense.advantages[:, :2]))
  np.testing.assert_allclose(mean, [0.21, 0.21], rtol=1e-6)
  np.testing.assert_allclose(variance, [0.2541, 0.1029], rtol=1e-6)


def test_a_round_with_segments():
  _, params = tiny_model()
  judge = from_segments(lambda prompt, response: [(len(response), 1.0)])
  play = round_of(ALGORITHMS["reinforce_segments"], judge)
  row = ALGORITHMS["reinforce_segments"]
  carry = jax.tree.map(jnp.float32, row.carry.init(None))
  got = play(params, params, six_prompts(), jax.random.key(0), carry)
  live = np.asarray(got.rollout.sequences.mask)[:, 1:]
  # The policy is the reference, so that each token is followed by reward 1.
  np.testing.assert_allclose(
    np.asarray(got.batches[0].advantages)[live], 1, atol=1e-5
  )
  with pytest.raises(UserError, match="rewards of segments.*gives a reward"):
    round_of(row, from_reward(lambda prompt, response: 0.0))
  with pytest.raises(UserError, match="gives nothing"):
    round_of(row, Judge())
