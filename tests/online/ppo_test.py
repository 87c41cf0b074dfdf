"""PPO on an enumerated game: exact gradients, its switches, its carry.

All 27 responses of three tokens are a round's prompts, each weighted by its
probability, so that the batch's mean is the exact expectation.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses
from jalign.errors import UserError
from jalign.games import tables
from jalign.online import ALGORITHMS, Judged, bind
from jalign.online.carry import StepTaken
from jalign.online.importance import importance_weights
from jalign.online.rows import actor_critic
from jalign.online.running import Moments, adapted, merged, moments
from jalign.training.critic import token_values
from jalign.training.objective import make_objective
from jalign.types import Rollout, Sequences

V, L = 3, 3
IDS = tables.sequences(V, L)
N = len(IDS)
NODES = tables.prefixes(V, L)
MODEL = tables.tabular(V, L)
RNG = np.random.default_rng(3)
TABLE = RNG.normal(size=(NODES, V))  # logits of the policy
REFERENCE = 0.7 * RNG.normal(size=(NODES, V))
REWARDS = RNG.normal(size=N)
BETA = 0.3


def tokens(table):
  """[N, L] float64 log-probs of the tokens of all responses."""
  with jax.enable_x64(True):
    return np.asarray(tables.token_log_probs(jnp.asarray(table), L))


def nodes():
  """[N, L] which prefix each token follows, as a row of the table."""
  found, at = [], np.zeros(N, int)
  for t in range(L):
    found.append(at)
    at = V * at + 1 + IDS[:, t]
  return np.stack(found, 1)


def exact_values(table, rewards, beta=BETA):
  """[NODES] expected reward to come less the KL penalties to come."""
  logps = tokens(table)
  to_come = -beta * (logps - tokens(REFERENCE))
  to_come[:, -1] += rewards
  to_come = np.flip(np.cumsum(np.flip(to_come, 1), 1), 1)
  probs, values = np.exp(logps.sum(1)), np.zeros(NODES)
  for node in range(NODES):
    below = nodes() == node
    share = np.where(below, probs[:, None], 0)
    values[node] = (share * to_come).sum() / share.sum()
  return values


def trained(table, values):
  """A policy's table, with a critic whose values are given."""
  critic = np.zeros((NODES, V))
  critic[:, 0] = values
  head = {"weight": jnp.eye(V)[0], "bias": jnp.zeros(())}
  logits = lambda x: {"logits": jnp.asarray(x, jnp.float32)}
  return {
    "model": logits(table),
    "critic": {"model": logits(critic), "head": head},
  }


def judged(table, params, rewards=REWARDS, *, drawn=None, weights=None, **more):
  """All responses as a round of N prompts; log-probs under the table."""
  rows = np.concatenate([np.zeros((N, 1), int), IDS], 1)
  mask = np.ones((N, L + 1), bool)
  mask[:, 0] = False
  sequences = Sequences(
    jnp.asarray(rows, jnp.int32), jnp.asarray(mask), jnp.full(N, L + 1)
  )
  pad = lambda x: jnp.asarray(np.pad(x, ((0, 0), (1, 0))), jnp.float32)
  logps = tokens(table)
  drawn = logps if drawn is None else drawn
  if weights is None:
    weights = np.exp(drawn.sum(1))
  carry = {"beta": jnp.float32(BETA), "rewards": Moments()} | more
  return Judged(
    Rollout(
      sequences,
      jnp.ones(N, int),
      pad(drawn),
      pad(logps)[None],
      jnp.ones(N, bool),
    ),
    rewards=np.asarray(rewards)[:, None],
    costs=None,
    preference=np.zeros((N, 0), np.float32),
    weights=np.asarray(weights, np.float32),
    carry=carry,
    key=jax.random.key(0),
    logps={"reference": pad(tokens(REFERENCE))[:, 1:]},
    values=token_values(MODEL, params["critic"], sequences),
  )


OBJECTIVE = make_objective(losses.ppo(value_weight=1.0), MODEL)


@jax.jit
def gradient(params, batch):
  """The gradient of the batch's mean loss, by tokens."""
  count = OBJECTIVE.counts(batch)["tokens"]
  return jax.grad(lambda p: OBJECTIVE.sums(p, batch)[0] / count)(params)


def value_of(table):
  """E[r] - beta KL(table, reference), a function to differentiate."""
  logps = tables.token_log_probs(table, L).sum(1)
  gained = jnp.asarray(REWARDS) - BETA * (logps - tokens(REFERENCE).sum(1))
  return jnp.exp(logps) @ gained


def exact_gradient(table):
  with jax.enable_x64(True):
    return np.asarray(jax.grad(value_of)(jnp.asarray(table)))


@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
def test_the_gradient_at_the_old_policy_is_exact(lam):
  """With the true values, whatever lam; the critic is then at rest."""
  params = trained(TABLE, exact_values(TABLE, REWARDS))
  batch = actor_critic.actor_and_critic(judged(TABLE, params), lam=lam)
  got = gradient(params, batch)
  want = -exact_gradient(TABLE) / L
  assert np.abs(want).max() > 0.01
  np.testing.assert_allclose(got["model"]["logits"], want, atol=3e-7)
  # E[A | prefix] = 0 for the true values: the targets average to the values.
  critic = got["critic"]["model"]["logits"][:, 0]
  np.testing.assert_allclose(critic, 0, atol=3e-7)


def test_a_wrong_critic_costs_nothing_but_noise_at_lam_1():
  params = trained(TABLE, RNG.normal(size=NODES))
  round_ = judged(TABLE, params)
  got = gradient(params, actor_critic.actor_and_critic(round_, lam=1.0))
  want = -exact_gradient(TABLE) / L
  np.testing.assert_allclose(got["model"]["logits"], want, atol=5e-7)
  biased = gradient(params, actor_critic.actor_and_critic(round_, lam=0.0))
  assert np.abs(biased["model"]["logits"] - want).max() > 0.01


def test_ratios_start_at_1():
  params = trained(TABLE, np.zeros(NODES))
  batch = actor_critic.actor_and_critic(judged(TABLE, params))
  sums = OBJECTIVE.sums(params, batch)[1][1]
  gap, _ = sums["first_ratio_gap"]
  assert abs(float(gap)) < 1e-5
  moved = trained(TABLE + 0.5 * RNG.normal(size=TABLE.shape), np.zeros(NODES))
  sums = OBJECTIVE.sums(moved, batch)[1][1]
  ratio = np.exp(tokens(moved["model"]["logits"]) - tokens(TABLE))
  weights = np.exp(tokens(TABLE).sum(1))
  gap = weights @ np.abs(ratio - 1).max(1)
  np.testing.assert_allclose(sums["first_ratio_gap"][0], gap, rtol=1e-4)
  outside = weights @ (np.abs(ratio - 1) > 0.2).sum(1)
  got, count = sums["clipped_share"]
  np.testing.assert_allclose([got, count], [outside, 3], rtol=1e-4)


def test_a_constant_in_the_rewards_leaves_advantages(shift=7.0):
  """The values of a converged critic move with the rewards."""
  advantages = []
  for more in (0.0, shift):
    values = exact_values(TABLE, REWARDS + more)
    params = trained(TABLE, values)
    batch = actor_critic.actor_and_critic(judged(TABLE, params, REWARDS + more))
    advantages.append(np.asarray(batch.advantages))
  np.testing.assert_allclose(*advantages, atol=5e-6)
  assert np.abs(advantages[0]).max() > 0.5


@pytest.mark.slow
def test_it_rests_at_the_tilted_reference():
  """Exact steps with the true critic end at ref exp(r / beta) / Z."""
  table, rewards = TABLE.copy(), REWARDS / 3
  for _ in range(400):
    params = trained(table, exact_values(table, rewards))
    batch = actor_critic.actor_and_critic(judged(table, params, rewards))
    table -= 25.0 * np.asarray(gradient(params, batch)["model"]["logits"])
  got = tokens(table).sum(1)
  want = tokens(REFERENCE).sum(1) + rewards / BETA
  want -= np.log(np.exp(want).sum())
  assert np.exp(want) @ (want - got) < 1e-4


# --------------------------------------------------- samplers off the policy


def tempered(temperature):
  """[N, L] log-probs of tokens that are drawn at a temperature."""
  return tokens(TABLE / temperature)


def test_weights_of_responses_undo_a_temperature():
  drawn = tempered(0.6)
  params = trained(TABLE, RNG.normal(size=NODES))
  round_ = judged(TABLE, params, drawn=drawn)
  of = lambda **more: np.asarray(
    gradient(params, actor_critic.actor_and_critic(round_, lam=1.0, **more))[
      "model"
    ]["logits"]
  )
  want = -exact_gradient(TABLE) / L
  by = {"importance_by_response": True}
  weighed, plain = of(importance_cap=1e6, **by), of()
  np.testing.assert_allclose(weighed, want, atol=2e-6)
  assert np.abs(plain - want).max() > 0.02
  # A cap takes off some of the largest weights: less variance for some bias.
  capped = of(importance_cap=1.5, **by)
  assert 1e-3 < np.abs(capped - want).max() < np.abs(plain - want).max()


def test_weights_are_truncated_ratios():
  logps, drawn = tokens(TABLE), tempered(0.6)
  mask = np.ones((N, L), bool)
  mask[:, -1] = False
  ratio = np.where(mask, np.exp(logps - drawn), 1)
  got = importance_weights(logps, drawn, jnp.asarray(mask), cap=1.2)
  np.testing.assert_allclose(got, np.minimum(ratio, 1.2), rtol=1e-5)
  got = importance_weights(
    logps, drawn, jnp.asarray(mask), cap=1.2, by_response=True
  )
  whole = np.minimum(ratio.prod(1), 1.2)[:, None]
  np.testing.assert_allclose(got, np.where(mask, whole, 1), rtol=1e-5)
  with pytest.raises(UserError, match="importance_cap"):
    importance_weights(logps, drawn, jnp.asarray(mask), cap=0.0)


# ------------------------------------------------------------------- switches


def arranged(params=None, **settings):
  """(advantages, returns) of a round with some settings, float64."""
  params = params or trained(TABLE, 0.1 * RNG.normal(size=NODES))
  batch = actor_critic.actor_and_critic(judged(TABLE, params), **settings)
  return np.asarray(batch.advantages, float), np.asarray(batch.returns, float)


CRITIC = trained(TABLE, 0.3 * np.arange(NODES) / NODES)
VALUES = (0.3 * np.arange(NODES) / NODES)[nodes()]


def test_token_rewards_pay_for_the_kl_of_each_token():
  """At discount 1 and lam 1: returns are rewards less penalties to come."""
  _, returns = arranged(CRITIC, lam=1.0)
  penalty = BETA * (tokens(TABLE) - tokens(REFERENCE))
  to_come = np.flip(np.cumsum(np.flip(penalty, 1), 1), 1)
  np.testing.assert_allclose(returns, REWARDS[:, None] - to_come, atol=1e-5)


def test_lam_and_discount_reach_gae():
  advantages, returns = arranged(CRITIC, lam=0.0, discount=0.9)
  rewards = -BETA * (tokens(TABLE) - tokens(REFERENCE))
  rewards[:, -1] += REWARDS
  after = np.pad(VALUES[:, 1:], ((0, 0), (0, 1)))
  errors = rewards + 0.9 * after - VALUES
  np.testing.assert_allclose(advantages, errors, atol=1e-5)
  np.testing.assert_allclose(returns, errors + VALUES, atol=1e-5)


def test_rewards_are_normalised_by_all_rewards_so_far():
  before = Moments(9.0, 2.0, 4.0)
  x = np.concatenate(
    [REWARDS, 2 + 2 * np.array([1, -1, 1, -1, 1, -1, 1, -1, 0])]
  )
  x[N:] = 2 + (x[N:] - 2) * np.sqrt(4.0 / x[N:].var())
  mean, std = x.mean(), x.std()
  kw = {"centre": True, "scale": True, "clip": 1.0}
  so_far = merged(before, moments(jnp.asarray(REWARDS), jnp.ones(N, bool)))
  np.testing.assert_allclose(so_far.mean, mean, rtol=1e-5)
  np.testing.assert_allclose(np.sqrt(so_far.variance), std, rtol=1e-5)
  of = lambda **kw: actor_critic.normalised(jnp.asarray(REWARDS), so_far, **kw)
  want = (REWARDS - mean) / std
  np.testing.assert_allclose(of(**kw), np.clip(want, -1, 1), rtol=1e-4)
  np.testing.assert_allclose(of(**kw | {"clip": 0.0}), want, rtol=1e-4)
  np.testing.assert_allclose(
    of(**kw | {"centre": False, "clip": 0.0}), REWARDS / std, rtol=1e-4
  )
  np.testing.assert_allclose(
    of(**kw | {"scale": False, "clip": 0.0}), REWARDS - mean, atol=1e-5
  )
  # In a round, the same: the last token's return is the reward of its response.
  params = trained(TABLE, np.zeros(NODES))
  round_ = judged(TABLE, params, beta=jnp.zeros(()))
  round_.carry["rewards"] = before
  batch = actor_critic.actor_and_critic(
    round_, centre_rewards=True, scale_rewards=True, clip_rewards=1.0
  )
  np.testing.assert_allclose(
    batch.returns[:, -1], np.clip(want, -1, 1), rtol=1e-4
  )


def test_rewards_of_segments_are_of_their_tokens():
  """A reward on the last token alone is a reward of the response."""
  params = CRITIC
  round_ = judged(TABLE, params)
  alone = np.zeros((N, L), np.float32)
  alone[:, -1] = REWARDS
  of = lambda dense, **kw: actor_critic.actor_and_critic(
    round_._replace(token_rewards=jnp.asarray(dense, jnp.float32)), **kw
  )
  plain = actor_critic.actor_and_critic(round_, scale_rewards=True)
  same = of(alone, scale_rewards=True)
  np.testing.assert_allclose(same.advantages, plain.advantages, atol=1e-6)
  dense = alone.copy()
  dense[:, 0] = np.arange(N) / N
  got = of(dense, lam=1.0).returns - of(alone, lam=1.0).returns
  want = np.zeros((N, L))
  want[:, 0] = np.arange(N) / N
  np.testing.assert_allclose(got, want, atol=1e-6)
  with pytest.raises(UserError, match="centre_rewards"):
    of(dense, centre_rewards=True)


def test_advantages_are_whitened_and_clipped():
  plain, returns = arranged(CRITIC)
  whitened, same = arranged(CRITIC, whiten=True)
  np.testing.assert_allclose(returns, same, atol=1e-6)
  want = (plain - plain.mean()) / plain.std()
  np.testing.assert_allclose(whitened, want, atol=1e-5)
  clipped, same = arranged(CRITIC, whiten=True, clip_advantages=0.5)
  np.testing.assert_allclose(clipped, np.clip(want, -0.5, 0.5), atol=1e-5)
  np.testing.assert_allclose(returns, same, atol=1e-6)


def test_prompts_that_fill_the_round_count_for_nothing():
  weights = np.ones(N)
  weights[5:] = 0
  params = CRITIC
  rewards = np.where(weights > 0, REWARDS, np.nan)
  rewards[5:] = 1e6
  round_ = judged(TABLE, params, rewards, weights=weights)
  settings = {"whiten": True, "centre_rewards": True, "scale_rewards": True}
  batch = actor_critic.actor_and_critic(round_, **settings)
  assert abs(np.asarray(batch.advantages)[:5].mean()) < 1e-6
  assert not np.asarray(batch.advantages)[5:].any()
  told = actor_critic.measured(round_)
  assert told["responses_count"] == 5
  np.testing.assert_allclose(told["reward_mean"], REWARDS[:5].mean(), rtol=1e-5)
  np.testing.assert_allclose(
    told["reward_variance"], REWARDS[:5].var(), rtol=1e-5
  )


def test_equal_rewards_and_empty_responses_teach_nothing():
  table = REFERENCE
  params = trained(table, np.full(NODES, 2.0))
  round_ = judged(table, params, np.full(N, 2.0))
  settings = {"whiten": True, "scale_rewards": False}
  batch = actor_critic.actor_and_critic(round_, **settings)
  assert not np.asarray(batch.advantages).any()
  rows = round_.rollout.sequences
  empty = rows.replace(mask=jnp.zeros_like(rows.mask))
  round_ = round_._replace(rollout=round_.rollout.replace(sequences=empty))
  batch = actor_critic.actor_and_critic(round_, **settings)
  for x in gradient(params, batch)["model"].values():
    assert not np.asarray(x).any()


def test_the_coefficient_adapts():
  np.testing.assert_allclose(
    adapted(0.1, 9.0, 64, target=6.0, horizon=10_000), 0.100128
  )
  np.testing.assert_allclose(
    adapted(0.1, 1.0, 64, target=6.0, horizon=10_000), 0.1 * (1 - 0.00128)
  )
  numbers = {
    "rollouts/kl_k1_nats": jnp.float32(6.6),
    "algorithm/responses_count": jnp.float32(50),
    "algorithm/reward_mean": jnp.float32(1),
    "algorithm/reward_variance": jnp.float32(2),
  }
  taken = StepTaken({}, numbers, jnp.int32(1))
  carry = actor_critic.begin({}, beta=0.2)
  after = actor_critic.go_on(carry, taken, kl_target=6.0, kl_horizon=100.0)
  np.testing.assert_allclose(after["beta"], 0.2 * 1.05, rtol=1e-5)
  np.testing.assert_allclose(after["rewards"], (50, 1, 2))
  assert actor_critic.go_on(carry, taken)["beta"] == 0.2
  # A coefficient of 0 would stay 0.
  with pytest.raises(UserError, match="above 0"):
    actor_critic.begin({}, beta=0.0, kl_target=6.0)


@pytest.mark.parametrize(
  "settings, said",
  [
    ({"clip_rewards": -1.0}, "clip_rewards"),
    ({"clip_advantages": -1.0}, "clip_advantages"),
    ({"importance_cap": -1.0}, "importance_cap"),
    ({"importance_by_response": True}, "importance_by_response"),
    ({"lam": 1.5}, "lam"),
    ({"discount": -0.1}, "discount"),
  ],
)
def test_settings_out_of_range(settings, said):
  row = bind(ALGORITHMS["ppo"], settings)
  with pytest.raises(UserError) as error:
    row.arrange(judged(TABLE, CRITIC))
  assert error.value.where == said
