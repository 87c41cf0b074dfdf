"""Averages, snapshots and the two phases that algorithms carry along."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jalign.errors import UserError
from jalign.games.examples import golden
from jalign.online import (
  ALGORITHMS,
  StepTaken,
  beside_carry,
  bind,
  carries,
  init_carry,
  make_finish,
  try_out,
)
from jalign.online.draws import Cast
from jalign.training.state import init_state
from jalign.training.step import make_update
from tests.games.sampled import (
  algorithm_of,
  objective_of,
  prompts_of,
  reference_params,
  round_of,
)
from tests.games.stationary import ROWS

G1 = golden()


def _taken(params, step):
  return StepTaken(params, {}, jnp.int32(step))


def _weights(*values, dtype=jnp.float32):
  return {"w": jnp.array(values, dtype)}


def test_an_average_forgets_at_the_rate_of_its_decay():
  carry = carries.begin_average(_weights(1.0, -2.0))
  want = np.array([1.0, -2.0])
  for step in range(1, 5):
    new = np.array([step, step**2])
    want = 0.75 * want + 0.25 * new
    carry = carries.next_average(
      carry, _taken(_weights(*new), step), decay=0.75
    )
  np.testing.assert_allclose(carry["average"]["w"], want, rtol=1e-6)
  # Without memory it is the policy.
  last = carries.next_average(carry, _taken(_weights(7.0, 8.0), 5), decay=0.0)
  np.testing.assert_array_equal(last["average"]["w"], [7, 8])


def test_an_average_of_half_precision_moves_by_small_steps():
  """0.001 of the way is lost in bfloat16, whose numbers near 1 are 2^-7 apart.

  The model that draws has the policy's type again.
  """
  carry = carries.begin_average(_weights(1.0, dtype=jnp.bfloat16))
  policy = _weights(2.0, dtype=jnp.bfloat16)
  for step in range(1, 1001):
    carry = carries.next_average(carry, _taken(policy, step), decay=0.999)
    if step == 10:
      np.testing.assert_allclose(carry["average"]["w"], 2 - 0.999**10)
  drawing = carries.of_average(Cast(policy, None, carry))["w"]
  assert drawing.dtype == jnp.bfloat16
  np.testing.assert_allclose(drawing, 2 - np.exp(-1), atol=0.01)


def test_an_iterate_stays_for_a_number_of_steps():
  carry, kept = carries.begin_iterate(_weights(0.0)), []
  for step in range(1, 8):
    carry = carries.next_iterate(carry, _taken(_weights(step), step), every=3)
    kept.append(float(carry["iterate"]["w"][0]))
  assert kept == [0, 0, 3, 3, 3, 6, 6]
  assert carries.the_iterate(carry, None) is carry["iterate"]


def test_phases_go_back_to_the_anchor_half_way():
  """Every step adds 1; a half step and a full step have two steps each."""
  carry, params, seen = carries.begin_phases(_weights(0.0)), _weights(0.0), []
  for step in range(1, 9):
    params = jax.tree.map(lambda x: x + 1, params)
    carry = carries.next_phase(carry, _taken(params, step), inner=2)
    params = carries.back_to_the_anchor(carry, params)
    now = (carry["anchor"]["w"], carry["opponent"]["w"], params["w"])
    seen.append([float(x[0]) for x in now])
  once = [[0, 0, 1], [0, 2, 0], [0, 2, 1], [2, 2, 2]]
  assert seen == once + [[a + 2, b + 2, c + 2] for a, b, c in once]


def _phases(step_from, rounds):
  """Iterates of a method whose two steps are `(anchor, opponent) -> policy`."""
  start = {"x": jnp.asarray(np.log(G1.reference))}
  carry, params = carries.begin_phases(start), start
  for step in range(1, 2 * rounds + 1):
    # The phases start where `restart` has put the policy.
    np.testing.assert_array_equal(params["x"], carry["anchor"]["x"])
    params = {"x": step_from(params["x"], carry["opponent"]["x"])}
    carry = carries.next_of_two(carry, _taken(params, step))
    params = carries.back_to_the_anchor(carry, params)
  return np.asarray(params["x"])


def _wins(opponent):
  return G1.preferences @ (np.exp(opponent) / np.exp(opponent).sum())


def test_two_phases_are_the_extragradient():
  """Exact steps give the iterates of the papers' tabular algorithms."""
  tau, size, log_reference = 0.1, 2.0, np.log(G1.reference)

  def egpo(x, opponent):
    pulled = (1 - size * tau) * x + size * tau * log_reference
    return pulled + size * _wins(opponent)

  def mirror_prox(x, opponent):
    moved = x + size * tau * log_reference + size * _wins(opponent)
    return moved / (1 + size * tau)

  with jax.enable_x64(True):
    for step in (egpo, mirror_prox):
      x = log_reference
      for _ in range(5):
        x = step(x, step(x, x))
      np.testing.assert_allclose(_phases(step, 5), x, rtol=1e-12)
      # Plain steps against oneself are another method.
      y = log_reference
      for _ in range(10):
        y = step(y, y)
      assert np.abs(y - x).max() > 0.01


def test_a_full_step_is_taken_from_where_the_half_step_was():
  """Both by the loop's own functions, with samples of the enumerated game."""
  row, algorithm = ROWS["egpo"], algorithm_of("egpo")
  optimizer = optax.sgd(1.0)
  objective = objective_of(algorithm, row.loss)
  update = make_update(objective, optimizer, counts=False)
  play, start = round_of(row, algorithm), reference_params()
  finish = make_finish(algorithm.carry, None, algorithm.restart)
  first = jax.tree.map(jnp.copy, start)
  carry = init_carry(algorithm.carry, first)
  state = init_state(first, optimizer).replace(carry=carry)
  stepped = beside_carry(update, algorithm.reference)
  trial = None
  for number in range(2):
    key = jax.random.key(number)
    got = play(state.params, start, prompts_of(64), key, state.carry)
    # The same batch moves a policy that has never left the start.
    fresh = init_state(jax.tree.map(jnp.copy, start), optimizer)
    fresh, _ = update(fresh, got.batches[0], start)
    state, sums = stepped(state, got.batches[0], start)
    state, sound = finish(state, got.values, [sums])
    assert sound
    wanted = np.asarray(fresh.params["logits"])
    if trial is None:
      trial = wanted
      assert np.abs(trial - start["logits"]).max() > 1e-3
      np.testing.assert_array_equal(state.params["logits"], start["logits"])
      opponent = state.carry["opponent"]["logits"]
      np.testing.assert_allclose(opponent, trial, rtol=1e-6)
  np.testing.assert_allclose(state.params["logits"], wanted, rtol=1e-6)
  for kept in ("anchor", "opponent"):
    np.testing.assert_array_equal(
      state.carry[kept]["logits"], state.params["logits"]
    )


@pytest.mark.parametrize(
  "name, settings, key, words",
  [
    ("nash_ema", {"decay": 1.0}, "decay", r"not in \[0, 1\).*0\.999"),
    ("inpo", {"every": 0}, "every", "integer of at least 1"),
    ("nash_mirror_prox", {"inner": 2.5}, "inner", "integer of at least 1"),
    ("inpo", {"samples": 4}, "samples", "samples to 2; or set tournament"),
    ("iterative_dpo", {"smoothing": 0.6}, "smoothing", "0 for certain"),
    ("iterative_dpo", {"smoothing": "low"}, "smoothing", "0 for certain"),
    ("iterative_dpo", {"samples": 1}, "samples", "integer from 2 on"),
    ("nash_ema", {"decay": "slow"}, "decay", "'slow' is not a number"),
    ("rloo", {"beta": None}, "beta", "None is not a number"),
    ("rloo", {"passes": True}, "passes", "True is not a number"),
    ("inpo", {"tournament": 2}, "tournament", "neither true nor false"),
    ("f_dpg_js", {"threshold": [1]}, "threshold", "is not a number"),
  ],
)
def test_settings_that_no_algorithm_can_use_are_named(
  name, settings, key, words
):
  with pytest.raises(UserError, match=words) as error:
    algorithm = bind(ALGORITHMS[name], settings)
    try_out(algorithm, _weights(1.0), prompts=2, columns=4)
  assert error.value.where == f"algorithm_settings.{key}"
