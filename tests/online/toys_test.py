"""Algorithms of one's own compute the right updates in the training loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jalign import losses
from jalign.errors import UserError
from jalign.feedback import from_preference
from jalign.online import (
  GREEDY,
  POLICY,
  REFERENCE,
  Carry,
  Updates,
  beside_carry,
  bind,
  hyperparameters,
  init_carry,
  make_finish,
  try_out,
)
from jalign.training import loop
from jalign.training.objective import make_objective
from jalign.training.packed import token_logps
from jalign.training.state import init_state
from jalign.training.step import make_update
from tests.online import toys
from tests.online.toy_rounds import (
  NEW,
  P,
  round_of,
  six_prompts,
  tiny_model,
)


def _objective(algorithm):
  loss = algorithm.loss
  if isinstance(loss, str):
    loss = losses.CATALOGUE[loss]
  return make_objective(loss.function, tiny_model()[0], batch=loss.batch)


def _advantages(batch):
  """[P, K] rewards less the mean of the others', in float64."""
  tokens, mask = map(np.asarray, (batch.sequences.tokens, batch.sequences.mask))
  rewards = np.array([t[m].sum() / 5 for t, m in zip(tokens, mask)])
  rewards = rewards.reshape(-1, toys.K)
  others = [np.delete(rewards, k, 1).mean(1) for k in range(toys.K)]
  return rewards - np.stack(others, 1)


@functools.cache
def _token_logps():
  return jax.jit(functools.partial(token_logps, tiny_model()[0]))


def _logps(params, batch):
  """[P, K] log-probs of the responses, in float64."""
  logps = _token_logps()(params, batch.sequences)
  return np.asarray(logps, np.float64).sum(-1).reshape(-1, toys.K)


@functools.cache
def _differentiated(algorithm):
  return jax.jit(jax.value_and_grad(_objective(algorithm).sums, has_aux=True))


def _gradient(algorithm, params, batch):
  (total, (count, _)), grads = _differentiated(algorithm)(params, batch)
  return float(total / count), jax.tree.map(lambda g: g / count, grads)


def test_at_the_old_policy_clipped_ratios_pull_as_rloo_does():
  _, params = tiny_model()
  batches = {}
  for name, algorithm in (("rloo", toys.RLOO), ("clipped", toys.CLIPPED)):
    played = round_of(algorithm)(params, None, six_prompts(), jax.random.key(1))
    batches[name] = played.batches
    assert len(played.batches) == 4
    assert played.rollout.finished.shape == (P * toys.K,)
  for plain, clipped in zip(*batches.values()):
    value, wanted = _gradient(toys.RLOO, params, plain)
    want = -(_advantages(plain) * _logps(params, plain)).mean()
    assert value == pytest.approx(want, rel=1e-4)
    value, grads = _gradient(toys.CLIPPED, params, clipped)
    # Ratios are 1, and a prompt's advantages add up to 0.
    assert value == pytest.approx(0, abs=1e-5)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), grads, wanted
    )
    assert optax.tree.norm(wanted) > 0.1


def test_later_updates_see_the_old_log_probs():
  """All four updates by hand, with clipped ratios to recorded log-probs."""
  _, params = tiny_model()
  algorithm = bind(toys.CLIPPED, {"advantage_scale": 2.0})
  played = round_of(algorithm)(params, None, six_prompts(), jax.random.key(1))
  optimizer = optax.sgd(0.3)
  update = make_update(_objective(algorithm), optimizer, counts=False)
  state, clips = init_state(params, optimizer), 0
  for batch in played.batches:
    ratio = np.exp(_logps(state.params, batch) - _logps(params, batch))
    kept = np.clip(ratio, 0.8, 1.2)
    advantage = 2 * _advantages(batch)
    want = -np.minimum(ratio * advantage, kept * advantage).mean()
    state, sums = update(state, batch)
    assert float(sums["loss"][0] / sums["loss"][1]) == pytest.approx(
      want, rel=1e-3, abs=1e-4
    )
    clips += np.sum(ratio != kept)
  assert clips > 4 and int(state.step) == 0


def test_a_pass_sees_each_prompt_once_with_all_its_responses():
  play = round_of(toys.RLOO)
  _, params = tiny_model()
  played = play(params, None, six_prompts(), jax.random.key(1))
  rows = np.asarray(played.rollout.sequences.tokens).reshape(P, toys.K, -1)
  orders = []
  for at in (0, 2):
    parts = played.batches[at : at + 2]
    tokens = [np.asarray(b.sequences.tokens) for b in parts]
    tokens = np.concatenate(tokens).reshape(P, toys.K, -1)
    scores = np.concatenate([np.asarray(b.scores) for b in parts])
    order = [
      next(i for i in range(P) if np.array_equal(rows[i], group))
      for group in tokens
    ]
    assert sorted(order) == list(range(P))
    want = rows[order][:, :, 2:].sum(-1) / 5
    np.testing.assert_allclose(scores, want, rtol=1e-6)
    orders.append(order)
  assert orders[0] != orders[1]
  again = play(params, None, six_prompts(), jax.random.key(1))
  jax.tree.map(np.testing.assert_array_equal, played.batches, again.batches)


class _Prompts:
  """Batches with the same prompts at each step."""

  def __next__(self):
    return six_prompts()

  def get_state(self):
    return None


def _train(algorithm, steps, **options):
  """States before and after each step, and the rounds between them."""
  _, params = tiny_model()
  optimizer = optax.sgd(0.5)
  update = make_update(_objective(algorithm), optimizer, counts=False)
  play, states, rounds = round_of(algorithm, **options), [], []
  carry = init_carry(algorithm.carry, params)
  state = init_state(params, optimizer).replace(carry=carry)

  def prepare(state, prompts):
    states.append(jax.device_get(state))
    key = jax.random.fold_in(jax.random.key(0), state.step)
    played = play(state.params, params, prompts, key, carry=state.carry)
    rounds.append(played)
    return loop.Placed(played.batches, ["here"], played.values)

  state = loop.run(
    state,
    steps=steps,
    batches=_Prompts(),
    prepare=prepare,
    update=beside_carry(update, algorithm.reference),
    finish=make_finish(algorithm.carry),
    ref_params=params,
  )
  return [*states, jax.device_get(state)], rounds


@pytest.mark.parametrize("algorithm", [toys.RLOO, toys.CLIPPED])
def test_what_is_rewarded_is_learned(algorithm):
  states, rounds = _train(algorithm, 8)
  assert [int(state.step) for state in states] == list(range(9))
  rewards = [played.values["rollouts/reward_mean"] for played in rounds]
  assert rewards[-1] > rewards[0] + 0.3


def test_a_carry_goes_on_as_it_is_told():
  algorithm = bind(toys.ADAPTIVE, {"target": 0.05, "coefficient": 0.3})
  states, rounds = _train(algorithm, 5, stop_ids=(1,))
  coefficient, spread = np.float64(0.3), 0
  ema = states[0].params
  opponent = states[0].params
  for step, (state, played) in enumerate(zip(states[1:], rounds), 1):
    assert int(state.step) == step
    error = np.clip(played.values["rollouts/kl_k1_nats"] / 0.05 - 1, -0.5, 0.5)
    coefficient *= 1 + 0.2 * error
    ema = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, ema, state.params)
    if step % 2 == 0:
      opponent = state.params
    assert float(state.carry["coefficient"]) == pytest.approx(coefficient)
    lengths = np.asarray(played.rollout.sequences.mask.sum(-1))
    spread += lengths.max() - lengths.min()
    assert float(state.carry["spread"]) == spread
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
      state.carry["reference"],
      ema,
    )
    jax.tree.map(
      np.testing.assert_array_equal, state.carry["opponent"], opponent
    )
  assert coefficient != 0.3 and spread > 0
  # The opponent isn't the policy that is trained.
  assert not np.array_equal(opponent["embed"], states[-1].params["embed"])


def test_the_opponent_and_the_reference_are_the_carried_ones():
  """Carried parameters draw the opponent's responses, and score."""
  model, params = tiny_model()
  other, third = (model.init(jax.random.key(i)) for i in (4, 5))
  carry = {"coefficient": jnp.float32(0.5), "opponent": other}
  carry["reference"] = third
  judge = from_preference(lambda prompt, a, b: 0.75)
  algorithm = bind(toys.ADAPTIVE, {"target": 1.0})
  play = round_of(algorithm, judge)
  key = jax.random.key(3)
  played = play(params, None, six_prompts(), key, carry=carry)
  sequences = played.rollout.sequences
  logps = {
    name: np.asarray(_token_logps()(own, sequences))
    for name, own in (("own", params), ("other", other), ("third", third))
  }
  drawn = np.asarray(played.rollout.model_logps[0])[:, 1:]
  np.testing.assert_allclose(drawn[0::2], logps["own"][0::2], atol=1e-5)
  np.testing.assert_allclose(drawn[1::2], logps["other"][1::2], atol=1e-5)
  ratios = (logps["own"] - logps["third"]).sum(-1)[0::2]
  (batch,) = played.batches
  np.testing.assert_allclose(batch.rewards, 0.25 - 0.5 * ratios, atol=1e-5)
  assert played.values["rollouts/kl_k1_nats"] == pytest.approx(
    ratios.mean(), rel=1e-4
  )
  assert played.values["rollouts/win_rate_over_opponent"] == 0.75
  # The policy's responses don't depend on who else draws.
  alone = round_of(algorithm._replace(draws=(POLICY, POLICY)), judge)
  same = alone(params, None, six_prompts(), key, carry=carry).rollout.sequences
  np.testing.assert_array_equal(same.tokens[0::2], sequences.tokens[0::2])
  assert not np.array_equal(same.tokens[1::2], sequences.tokens[1::2])


def test_greedy_and_reference_draws():
  model, params = tiny_model()
  reference = model.init(jax.random.key(4))
  draws = (REFERENCE, POLICY, GREEDY, REFERENCE)
  algorithm = toys.RLOO._replace(draws=draws, updates=Updates())
  play = round_of(algorithm)
  rows = [
    np.asarray(
      play(
        params, reference, six_prompts(), jax.random.key(i)
      ).rollout.sequences.tokens
    ).reshape(P, 4, -1)
    for i in range(2)
  ]
  np.testing.assert_array_equal(rows[0][:, 2], rows[1][:, 2])
  for k in (0, 1, 3):
    assert not np.array_equal(rows[0][:, k], rows[1][:, k])
  hidden = model.forward(params, rows[0][:, 2])
  best = np.argmax(hidden @ model.head(params).weight.T, -1)[:, 1:-1]
  np.testing.assert_array_equal(best, rows[0][:, 2, 2:])
  with pytest.raises(UserError, match="draws from the reference"):
    play(params, None, six_prompts(), jax.random.key(0))


def test_what_is_wrong_with_a_row_is_said():
  known = hyperparameters(toys.ADAPTIVE)
  assert {"coefficient", "target", "every", "passes"} <= known.keys()
  for settings, text in (
    (
      {"targte": 1.0, "target": 1.0},
      "algorithm_settings.targte.*Did you mean 'target'",
    ),
    ({}, "algorithm_settings.target: needs a value"),
    (
      {"target": float("nan")},
      "algorithm_settings.target: nan is not a finite",
    ),
    ({"target": 1.0, "passes": 0}, "algorithm_settings.passes: 0 is not"),
  ):
    with pytest.raises(UserError, match=text):
      bind(toys.ADAPTIVE, settings)
  with pytest.raises(UserError, match="needs a judge with a reward"):
    round_of(toys.RLOO, from_preference(lambda prompt, a, b: 0.5))
  _, params = tiny_model()
  three = round_of(toys.RLOO._replace(updates=Updates(1, 4)))
  with pytest.raises(UserError, match="6 prompts don't divide into 4"):
    three(params, None, six_prompts(), jax.random.key(0))


@pytest.mark.parametrize(
  "change, text",
  [
    (
      lambda carry, taken: taken.statistics["reward_mean"],
      "'rollouts/reward_mean'",
    ),
    (lambda carry, taken: carry.astype(jnp.bfloat16), "was float32"),
    (lambda carry, taken: (carry, carry), "Return the structure"),
  ],
)
def test_a_carry_that_changes_its_form_is_refused(change, text):
  carry = Carry(lambda params: jnp.float32(1), change)
  algorithm = toys.RLOO._replace(carry=carry)
  with pytest.raises(UserError, match=text):
    _train(algorithm, 1)
  if "reward_mean" not in text:  # that only a step can know
    with pytest.raises(UserError, match=text):
      try_out(algorithm, tiny_model()[1], prompts=4, columns=8)


def test_a_trial_gives_the_loss_what_the_rounds_give_it():
  _, params = tiny_model()
  shapes = jax.eval_shape(lambda: params)
  for algorithm, settings in (
    (toys.RLOO, {}),
    (toys.CLIPPED, {}),
    (toys.ADAPTIVE, {"target": 1.0}),
  ):
    algorithm = bind(algorithm, settings)
    batch = try_out(algorithm, shapes, prompts=P, columns=2 + NEW)
    carry = init_carry(algorithm.carry, params)
    play = round_of(algorithm)
    key = jax.random.key(0)
    played = play(params, params, six_prompts(), key, carry=carry)
    like = lambda x: (x.shape, x.dtype)
    assert jax.tree.map(like, batch) == jax.tree.map(like, played.batches[0])
