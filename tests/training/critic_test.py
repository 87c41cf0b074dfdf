"""A critic beside a policy: its values, its part of training, its optimiser."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jalign import losses
from jalign.errors import UserError
from jalign.games import tables
from jalign.models import lora
from jalign.models.heads import scalar
from jalign.training import critic
from jalign.training.objective import make_objective
from jalign.training.optimizer import OptimizerConfig
from jalign.training.state import init_state
from jalign.training.step import make_update
from jalign.training.trainable import trainable
from jalign.types import SequenceBatch, Sequences
from tests.models.tiny import tiny
from tests.training import batches

KEY = jax.random.key(0)


@pytest.fixture(scope="module", name="policy")
def _policy():
  return tiny(num_hidden_layers=1, remat="none")


def divided(config, *, rank=0, patterns=()):
  """The way to divide a policy with a critic."""
  part = trainable(config, lora.LoraConfig(rank=rank), patterns)
  return critic.with_critic(part, scalar(config.hidden_size).init)


def valued(params):
  """Parameters of a critic whose head isn't zero."""
  weight = jax.random.normal(jax.random.key(5), params["head"]["weight"].shape)
  return params | {"head": {"weight": weight, "bias": jnp.float32(0.3)}}


TABLES = tables.tabular(3, 3)


def two_tables():
  """A policy and a critic that are tables."""
  own = TABLES.init(jax.random.key(2))
  head = {"weight": jnp.ones(3), "bias": jnp.float32(0.3)}
  return {
    "model": TABLES.init(KEY),
    "critic": {"model": own, "head": head},
  }


def batch(count=6):
  rng = np.random.default_rng(1)
  draw = lambda: jnp.asarray(rng.normal(size=(count, 3)), jnp.float32)
  columns = np.arange(4)[None]
  lengths = rng.integers(2, 5, count)
  mask = (columns > 0) & (columns < lengths[:, None])
  return SequenceBatch(
    Sequences(
      jnp.asarray(np.where(mask, rng.integers(0, 3, (count, 4)), 0)),
      jnp.asarray(mask),
      jnp.asarray(lengths),
    ),
    jnp.ones(count),
    old_token_logps=jnp.where(mask[:, 1:], -1.1 + 0.2 * draw(), 0.0),
    advantages=draw(),
    old_token_values=draw(),
    returns=draw(),
  )


def test_a_value_is_of_what_comes_before_the_token(policy):
  _, model, params = policy
  rows = batches.sequences(3)
  own = valued({"model": params, "head": {"weight": jnp.zeros(32)}})
  got = critic.token_values(model, own, rows)
  hidden = np.asarray(model.forward(params, rows.tokens), np.float64)
  head = jax.tree.map(np.asarray, own["head"])
  want = hidden[:, :-1] @ head["weight"] + head["bias"]
  mask = np.asarray(rows.mask[:, 1:])
  np.testing.assert_allclose(got, np.where(mask, want, 0), atol=1e-4)


HOW = {
  "all": {},
  "paths": {"patterns": ("embed", "blocks/w*")},
  "lora": {"rank": 2},
}


def _same(a, b):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), a, b)


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_both_networks_start_at_the_policy(policy, how):
  config, _, params = policy
  plain = trainable(config, lora.LoraConfig(rank=how.get("rank", 0)), ())
  part = divided(config, **how)
  trained, frozen = part.start(params, KEY), part.frozen(params)
  assert jax.tree.structure(part.specs) == jax.tree.structure(trained)
  both = part.join(trained, frozen)
  own = critic.critic_of(both)
  assert not any(np.any(x) for x in own["head"].values())
  for network in (critic.policy_of(both), own["model"]):
    _same(plain.whole(network), params)
  _same(part.whole(both), params)


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_a_critic_may_start_elsewhere(policy, how):
  config, _, params = policy
  plain = trainable(config, lora.LoraConfig(rank=how.get("rank", 0)), ())
  head = {"weight": jnp.zeros(config.hidden_size)}
  other = valued(
    {"model": jax.tree.map(lambda x: x + 0.1, params), "head": head}
  )
  part = divided(config, **how)
  start = {"model": params, "critic": other}
  both = part.join(part.start(start, KEY), part.frozen(start))
  own = critic.critic_of(both)
  _same({"model": plain.whole(own["model"]), "head": own["head"]}, other)
  _same(plain.whole(critic.policy_of(both)), params)


def test_a_critic_of_another_width_is_refused(policy):
  config, _, params = policy
  wide = tiny(num_hidden_layers=1, remat="none", intermediate_size=64)[2]
  start = {"model": params, "critic": {"model": wide, "head": {}}}
  with pytest.raises(UserError, match="another architecture than the policy"):
    divided(config).start(start, KEY)


def test_each_loss_reaches_its_own_network():
  both, data = two_tables(), batch()

  def gradient(loss):
    objective = make_objective(loss, TABLES, batch="tokens")
    assert dict(objective.counts(data)) == {
      "tokens": np.asarray(data.sequences.mask[:, 1:]).sum()
    }
    return jax.jit(jax.grad(lambda p: objective.sums(p, data)[0]))(both)

  ppo = gradient(losses.ppo(clip=0.3, value_clip=0.4, value_weight=0.5))
  for name, other, term, clip, weight in (
    ("model", "critic", "ppo_clip", 0.3, 1.0),
    ("critic", "model", "value_clip", 0.4, 0.5),
  ):
    alone = gradient(losses.weighted_sum({term: 1.0}, **{term: {"clip": clip}}))
    norm = lambda tree: float(optax.tree.norm(tree))
    assert norm(alone[other]) == 0 < norm(alone[name])
    jax.tree.map(
      lambda a, b, w=weight: np.testing.assert_allclose(a, w * b, atol=1e-5),
      ppo[name],
      alone[name],
    )


def test_without_a_critic_there_are_no_values():
  objective = make_objective(losses.ppo(), TABLES)
  with pytest.raises(UserError, match="come from a critic, and there is none"):
    objective.sums(two_tables()["model"], batch())


def test_the_optimiser_of_both():
  """Updates by hand: norms apart, the critic's rate, the policy's warm-up."""
  rates = OptimizerConfig(
    learning_rate=0.5,
    schedule="constant",
    b1=0.0,
    b2=0.0,
    eps=1.0,
    max_grad_norm=0.01,
  )
  settings = critic.CriticConfig(learning_rate_scale=3.0, warmup_steps=1)
  optimizer = critic.optimizer_beside(rates, 8, settings, per_step=2)
  objective = make_objective(losses.ppo(), TABLES)
  data = batch()
  state = init_state(two_tables(), optimizer)
  update = make_update(objective, optimizer)
  count = objective.counts(data)["tokens"]
  grads = jax.jit(jax.grad(lambda p: objective.sums(p, data)[0] / count))
  seen = [jax.tree.map(np.asarray, state.params)]
  for _ in range(3):
    state, _ = update(state, data)
    seen.append(jax.tree.map(np.asarray, state.params))
  same = lambda a, b: all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))
  assert same(seen[2]["model"], seen[0]["model"])
  assert not same(seen[1]["critic"], seen[0]["critic"])
  assert not same(seen[3]["model"], seen[2]["model"])
  for step, name, rate in ((0, "critic", 1.5), (2, "model", 0.5)):
    g = grads(seen[step])[name]
    norm = float(optax.tree.norm(g))
    assert norm > 0.01  # so that clipping acts
    g = jax.tree.map(lambda x, n=norm: x * 0.01 / n, g)
    want = jax.tree.map(
      lambda a, x, r=rate: a - r * x / (jnp.abs(x) + 1), seen[step][name], g
    )
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
      seen[step + 1][name],
      want,
    )


def test_settings_out_of_range():
  with pytest.raises(UserError, match="critic.warmup_steps"):
    critic.CriticConfig(warmup_steps=-1)
  with pytest.raises(UserError, match="critic.learning_rate_scale"):
    critic.CriticConfig(learning_rate_scale=0.0)
  with pytest.raises(UserError, match="value_weight"):
    losses.ppo(value_weight=0.0)
