"""Samplers: truncation equals sorting in NumPy, draws follow the softmax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jalign import sharding
from jalign.decode import greedy, inverse_cdf, log_prob, sampler
from jalign.decode.categorical import _first_above
from jalign.errors import UserError
from jalign.types import Layout


def _softmax(z):
  p = np.exp(z - z.max(-1, keepdims=True))
  return p / p.sum(-1, keepdims=True)


def _reference(
  z,
  seen=None,
  temperature=1.0,
  top_k=0,
  top_p=1.0,
  min_p=0.0,
  repetition_penalty=1.0,
  bias=None,
  forbidden=(),
):
  """The filtered distribution by sorting; filters in `transformers`' order."""
  z = z.astype(np.float64)
  for token, value in (bias or {}).items():
    z[:, token] += value
  rarer = np.where(z > 0, z / repetition_penalty, z * repetition_penalty)
  z = np.where(seen, rarer, z)
  z[:, list(forbidden)] = -np.inf
  z /= temperature
  out = z.copy()
  for row in out:
    if top_k:
      row[row < np.sort(row)[-top_k]] = -np.inf
    if top_p < 1:
      order = np.argsort(-row)
      cumulative = np.cumsum(_softmax(row)[order])
      # Tokens stay until the mass is reached, with the token that reaches it.
      row[order[1:][cumulative[:-1] >= top_p]] = -np.inf
    if min_p:
      p = _softmax(row)
      row[p < min_p * p.max()] = -np.inf
  return _softmax(out)


@pytest.mark.parametrize(
  "settings",
  [
    dict(temperature=0.6),
    dict(top_k=1),
    dict(top_k=50),
    dict(top_p=0.9),
    dict(top_p=0.01),
    dict(min_p=0.05),
    dict(temperature=1.7, top_k=40, top_p=0.8, min_p=0.02),
    dict(repetition_penalty=1.5),
    dict(bias={5: 4.0, 63: -2.0}, forbidden=(0, 9)),
    dict(
      repetition_penalty=1.2,
      bias={5: 4.0},
      forbidden=(3,),
      temperature=0.8,
      top_k=30,
      top_p=0.9,
    ),
  ],
)
@pytest.mark.parametrize("vocab", [64, 1000])
def test_filtered_distributions_equal_the_sorted_ones(settings, vocab):
  z = 3 * np.asarray(jax.random.normal(jax.random.key(0), (16, vocab)))
  seen = np.asarray(jax.random.bernoulli(jax.random.key(1), 0.3, z.shape))
  draw = sampler(**settings)
  got = jax.nn.softmax(draw.filter(jnp.asarray(z), jnp.asarray(seen)))
  want = _reference(z, seen if draw.reads_seen else False, **settings)
  np.testing.assert_array_equal(np.asarray(got) > 0, want > 0)
  np.testing.assert_allclose(got, want, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(
  st.lists(st.integers(-40, 40), min_size=2, max_size=40),
  st.integers(1, 12),
)
def test_top_k_keeps_ties_with_the_threshold(values, k):
  z = np.asarray([values], np.float32) / 4  # many ties, zeros, signs
  support = np.isfinite(sampler(top_k=k).filter(jnp.asarray(z)))[0]
  threshold = np.sort(z[0])[-min(k, len(values))]
  np.testing.assert_array_equal(support, z[0] >= threshold)


def test_min_p_of_one_keeps_the_most_probable_tokens():
  z = jnp.array([[1.0, 3.0, 3.0, 2.0], [0.0, -1.0, -1.0, -2.0]])
  kept = np.isfinite(sampler(min_p=1.0).filter(z))
  np.testing.assert_array_equal(kept, z == z.max(-1, keepdims=True))


def test_greedy_takes_the_first_maximum():
  z = jnp.array([[1.0, 3.0, 3.0], [2.0, -jnp.inf, 1.0]])
  np.testing.assert_array_equal(greedy(z), [1, 0])
  draw = sampler(temperature=0)
  np.testing.assert_array_equal(draw.draw(z, jnp.zeros(2)).tokens, [1, 0])


@pytest.mark.parametrize("vocab", [5, 256, 700])
def test_draws_have_the_law_of_softmax(vocab):
  rows = 40_000
  z = 2 * jax.random.normal(jax.random.key(0), (vocab,))
  uniforms = jax.random.uniform(jax.random.key(1), (rows,))
  draws = jax.jit(inverse_cdf)(
    jnp.broadcast_to(z, (rows, vocab)), uniforms
  ).tokens
  expected = rows * _softmax(np.asarray(z, np.float64))
  big = expected > 5
  counts = np.bincount(draws, minlength=vocab)
  chi2 = ((counts - expected)[big] ** 2 / expected[big]).sum()
  assert chi2 < big.sum() + 5 * np.sqrt(2 * big.sum())


def test_the_draw_is_the_inverse_of_the_cdf():
  z = jax.random.normal(jax.random.key(0), (1, 600))
  cumulative = np.cumsum(_softmax(np.asarray(z, np.float64))[0])
  for u in np.linspace(0.001, 0.999, 37):
    token = int(inverse_cdf(z, jnp.array([u], jnp.float32)).tokens[0])
    low = cumulative[token - 1] if token else 0.0
    assert low - 1e-6 <= u <= cumulative[token] + 1e-6


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-24])
def test_a_token_without_mass_is_never_drawn(uniform):
  z = jnp.full((300, 700), -jnp.inf)
  alive = jnp.arange(300) * 2 + 1
  z = z.at[jnp.arange(300), alive].set(jnp.linspace(-300.0, 300.0, 300))
  draws = inverse_cdf(z, jnp.full(300, uniform, jnp.float32)).tokens
  np.testing.assert_array_equal(draws, alive)


def test_a_target_at_the_total_takes_the_last_token_with_mass():
  """If rounding leaves no mass above the target, no index is past the end."""
  mass = jnp.array([[1.0, 2.0, 0.0, 0.0], [0.0, 1.0, 0.0, 3.0]])
  index, left = _first_above(mass, jnp.array([3.0, 4.0]))
  np.testing.assert_array_equal(index, [1, 3])
  np.testing.assert_array_equal(left, [2.0, 3.0])
  index, left = _first_above(mass, jnp.array([0.5, 0.5]))
  np.testing.assert_array_equal(index, [0, 1])
  np.testing.assert_array_equal(left, [0.5, 0.5])


@pytest.mark.parametrize(
  "settings, key",
  [
    (dict(temperature=-1.0), "temperature"),
    (dict(top_k=-1), "top_k"),
    (dict(top_p=0.0), "top_p"),
    (dict(top_p=1.5), "top_p"),
    (dict(min_p=2.0), "min_p"),
    (dict(temperature=0.0, top_k=5), "temperature"),
    (dict(repetition_penalty=0.0), "repetition_penalty"),
  ],
)
def test_bad_settings_name_themselves(settings, key):
  with pytest.raises(UserError, match=f"sampler.{key}"):
    sampler(**settings)


def test_equal_settings_are_one_sampler():
  assert sampler(top_k=5) is sampler(top_k=5)
  assert sampler(bias={1: 2, 3: 4}) is sampler(bias={3: 4.0, 1: 2.0})
  assert sampler(forbidden=[4, 2]) is sampler(forbidden=(2, 4, 4))


@pytest.mark.parametrize(
  "settings, key",
  [
    (dict(forbidden=(64,)), "forbidden"),
    (dict(forbidden=range(64)), "forbidden"),
    (dict(bias={-1: 2.0}), "bias"),
  ],
)
def test_tokens_outside_the_vocabulary_name_themselves(settings, key):
  with pytest.raises(UserError, match=f"sampler.{key}"):
    sampler(**settings).filter(jnp.zeros((1, 64)))


@pytest.mark.parametrize("vocab", [40, 512, 1187, 1100])
def test_a_draw_reports_its_log_prob(vocab):
  z = 4 * jax.random.normal(jax.random.key(0), (50, vocab))
  z = z.at[:, 3:7].set(-jnp.inf)
  got = inverse_cdf(z, jax.random.uniform(jax.random.key(1), (50,)))
  law = _softmax(np.asarray(z, np.float64))
  want = np.log(law[np.arange(50), got.tokens])
  np.testing.assert_allclose(got.logps, want, atol=1e-5)
  np.testing.assert_allclose(log_prob(z, got.tokens), want, atol=1e-5)


@pytest.mark.parametrize("mesh", [(1, 1, 8), (2, 2, 2), (8, 1, 1)])
def test_split_logits_give_the_same_draws(mesh):
  """On 8 devices tokens, log-probs and the greedy token are the same."""
  layout = Layout(("data", "fsdp"), "tensor")
  z = 3 * jax.random.normal(jax.random.key(0), (64, 1024))
  z = z.at[:, 128:256].set(-jnp.inf)  # a device without mass
  z = z.at[0, 900].set(100.0).at[1, 5].set(100.0)
  u = jax.random.uniform(jax.random.key(1), (64,)).at[2].set(0.0)

  def all_three(z, u):
    drawn = inverse_cdf(z, u, layout)
    return *drawn, greedy(z, layout), log_prob(z, drawn.tokens, layout)

  want = jax.jit(all_three)(z, u)
  devices = sharding.make_mesh(*mesh)
  with jax.set_mesh(devices):
    place = jax.sharding.NamedSharding(
      devices, jax.sharding.PartitionSpec(("data", "fsdp"), "tensor")
    )
    got = jax.jit(all_three)(jax.device_put(z, place), u)
  for a, b in zip(got, want):
    np.testing.assert_allclose(a, b, atol=1e-5)
