"""Refilled rows, and a shared prefill, draw the same tokens as a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import sharding
from jalign.decode import MixtureParams, generate, geometric, sampler
from jalign.errors import UserError
from jalign.models import from_apply, param_specs
from tests.models.tiny import tiny

COUNT, WIDTH, NEW = 22, 11, 9
STOPS = (*range(3, 12), (20, 21))


@pytest.fixture(scope="module")
def asked():
  tokens = jax.random.randint(jax.random.key(1), (COUNT, WIDTH), 0, 64)
  lengths = 1 + jnp.arange(COUNT) * 7 % WIDTH
  return tokens, lengths, jax.random.split(jax.random.key(2), COUNT)


def _generate(policy, params, asked, **changes):
  settings = dict(max_new_tokens=NEW, stop_ids=STOPS) | changes
  return generate(policy, params, *asked, **settings)


def _same(got, want, atol=2e-5):
  np.testing.assert_array_equal(got.sequences.tokens, want.sequences.tokens)
  np.testing.assert_array_equal(got.sequences.mask, want.sequences.mask)
  np.testing.assert_array_equal(got.sequences.lengths, want.sequences.lengths)
  np.testing.assert_array_equal(got.finished, want.finished)
  np.testing.assert_allclose(got.logps, want.logps, atol=atol)
  np.testing.assert_allclose(got.model_logps, want.model_logps, atol=atol)


@pytest.mark.parametrize(
  "slots, chunk, admit",
  [
    (5, 4, 3),
    (1, 3, None),
    (40, 4, None),
    pytest.param(5, 4, 1, marks=pytest.mark.slow),
    pytest.param(4, 64, 3, marks=pytest.mark.slow),
    pytest.param(8, 5, 8, marks=pytest.mark.slow),
  ],
)
def test_refilled_rows_draw_the_same_tokens(asked, slots, chunk, admit):
  _, model, params = tiny()
  want = _generate(model, params, asked)
  lengths = np.asarray(want.sequences.lengths - want.prompt_lengths)
  assert len(set(lengths)) > 3 and 0 < want.finished.sum() < COUNT
  got = _generate(model, params, asked, slots=slots, chunk=chunk, admit=admit)
  _same(got, want)


def test_refilled_rows_keep_what_their_sampler_has_seen(asked):
  _, model, params = tiny()
  settings = dict(
    draw=sampler(repetition_penalty=1.8, temperature=0.8),
    entropy=True,
    top_k_mass=4,
  )
  want = _generate(model, params, asked, **settings)
  got = _generate(model, params, asked, slots=4, chunk=4, **settings)
  _same(got, want)
  np.testing.assert_allclose(got.entropy, want.entropy, atol=2e-5)
  np.testing.assert_allclose(got.top_k_mass, want.top_k_mass, atol=2e-5)


def test_refilled_rows_of_a_mixture_have_their_own_weights(asked):
  _, model, params = tiny()
  other = model.init(jax.random.key(4))
  weights = jnp.arange(COUNT) % 3 / 2
  pair = MixtureParams(params, other, weights)
  mixture = geometric(model, model)
  want = _generate(mixture, pair, asked)
  _same(_generate(mixture, pair, asked, slots=5, chunk=4), want)
  ends = [_generate(model, p, asked).sequences.tokens for p in (params, other)]
  for row in range(COUNT):
    if weights[row] != 0.5:
      np.testing.assert_array_equal(
        want.sequences.tokens[row], ends[int(weights[row])][row]
      )


def test_refilled_rows_on_a_mesh(asked):
  config, model, params = tiny()
  want = _generate(model, params, asked)
  mesh = sharding.make_mesh(2, 2, 2)
  placed = jax.device_put(params, sharding.shardings(param_specs(config), mesh))
  with jax.set_mesh(mesh):
    got = _generate(model, placed, asked, slots=4, chunk=4)
  _same(got, want)


def _counting(calls):
  """A model in which a - 1 follows a, and 0 ends; records each run's rows."""

  def apply(params, tokens):
    jax.debug.callback(lambda: calls.append(tokens.shape[0]))
    return params * jax.nn.one_hot(tokens - 1, 32)

  return from_apply(lambda key: jnp.float32(90.0), apply)


def test_no_row_waits_for_the_longest():
  """Response lengths 1 .. 16 in 4 rows: 34 steps if none ever waits."""
  calls: list[int] = []
  model = _counting(calls)
  order = np.random.default_rng(0).permutation(16)
  prompts = jnp.asarray(order + 1)[:, None]
  rollout = generate(
    model,
    jnp.float32(90.0),
    prompts,
    jnp.ones(16, int),
    jax.random.split(jax.random.key(0), 16),
    max_new_tokens=16,
    stop_ids=(0,),
    slots=4,
    draw=sampler(temperature=0),
  )
  jax.effects_barrier()
  lengths = np.asarray(rollout.sequences.lengths) - 1
  np.testing.assert_array_equal(lengths, order + 1)
  steps = sum(rows == 4 for rows in calls)  # reads have one row each
  waiting = sum(max(lengths[i : i + 4]) - 1 for i in range(0, 16, 4))
  ideal = -(-(lengths - 1).sum() // 4)
  assert ideal <= steps < ideal + 12 and steps < 0.85 * waiting


def test_samples_share_a_prefill_and_nothing_else(asked):
  _, model, params = tiny()
  tokens, lengths, keys = asked
  tokens, lengths = tokens[:6], lengths[:6]
  keys = keys[:18]
  repeated = jnp.repeat(tokens, 3, 0), jnp.repeat(lengths, 3), keys
  want = _generate(model, params, repeated)
  got = _generate(model, params, (tokens, lengths, keys), samples=3)
  _same(got, want)
  rows = np.asarray(got.sequences.tokens).reshape(6, 3, -1)
  assert (rows[:, 0] != rows[:, 1]).any(-1).all()
  refill = _generate(model, params, (tokens, lengths, keys), samples=3, slots=4)
  _same(refill, want)


def test_a_prefill_runs_each_prompt_once():
  calls: list[int] = []
  model = _counting(calls)
  rollout = generate(
    model,
    jnp.float32(90.0),
    jnp.array([[3], [1]]),
    jnp.ones(2, int),
    jax.random.split(jax.random.key(0), 8),
    max_new_tokens=4,
    stop_ids=(0,),
    samples=4,
  )
  jax.effects_barrier()
  assert sorted(calls) == [2, 8, 8]  # one prefill of 2 rows, two steps of 8
  np.testing.assert_array_equal(rollout.sequences.lengths, [4] * 4 + [2] * 4)


@pytest.mark.parametrize("name", ["slots", "samples", "chunk", "admit"])
def test_counts_below_one_name_themselves(asked, name):
  _, model, params = tiny()
  with pytest.raises(UserError, match=f"generate.{name}"):
    _generate(model, params, asked, **{name: 0})
