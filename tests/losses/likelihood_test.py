"""Properties of unlikelihood, CUT, PoFT and A-LoL."""

import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses
from jalign.losses._arrays import log1mexp
from tests.losses.identities_test import close, few, length, logp, value

mean = st.floats(-5, -0.1)
likely = st.floats(0.01, 0.98)
rows = st.lists(st.integers(0, 3), min_size=10, max_size=10)


@pytest.fixture(autouse=True)
def _float64():
  with jax.enable_x64(True):
    yield


def logs(*probabilities):
  """[1, T] log-probs of the given probabilities."""
  return jnp.log(jnp.array([probabilities]))


def ones(x):
  return jnp.ones(x.shape, bool)


def test_log1mexp():
  close(log1mexp(jnp.array(-1e-10)), -23.02585, 1e-6)
  close(log1mexp(jnp.array(-50.0)), -1.92875e-22, 1e-6)
  for z in (-1e-20, -1e-6, -0.6931, -0.6932, -50.0, -1e4):
    for dtype in (jnp.float32, jnp.float64):
      slope = jax.grad(log1mexp)(jnp.array(z, dtype))
      close(slope, -1 / math.expm1(-z) if z > -700 else 0, 1e-5)


# ----------------------------------------------------------- unlikelihood


def unlikely(tokens, candidates, mask=None, **settings):
  """The loss of one row, given its probabilities."""
  tokens, candidates = logs(*tokens), jnp.log(jnp.array([candidates]))
  mask = ones(candidates) if mask is None else jnp.array([mask])
  return losses.unlikelihood(
    tokens, candidates, mask, ones(tokens), **settings
  )[0]


@few
@hypothesis.given(p=likely, q=likely, c=likely, a=st.floats(0, 3))
def test_unlikelihood_by_its_terms(p, q, c, a):
  candidates = [[c, 0.5], [0.5, 0.5]]
  sft = -math.log(p) - math.log(q)
  close(unlikely([p, q], candidates, alpha=0.0), sft)
  none = [[False, False], [False, False]]
  close(unlikely([p, q], candidates, none), sft)
  mask = [[True, False], [False, False]]
  close(unlikely([p, q], candidates, mask, alpha=a), sft - a * math.log(1 - c))
  close(unlikely([p, q], [[1e-300, 0.5], [0.5, 0.5]], mask), sft)


@few
@hypothesis.given(z=st.lists(st.floats(-4, 4), min_size=3, max_size=3))
def test_the_penalty_pushes_a_logit_by_its_probability(z):
  def penalty(logits):
    logps = jax.nn.log_softmax(logits)[None, None, :1]
    token = jnp.zeros((1, 1))
    return losses.unlikelihood(
      token, logps, ones(logps), ones(token), alpha=0.7
    )[0]

  z = jnp.array(z)
  close(jax.grad(penalty)(z)[0], 0.7 * jax.nn.softmax(z)[0])


def test_unlikelihood_is_clamped():
  certain = jnp.zeros((1, 1))
  args = (certain, certain[..., None], ones(certain[..., None]), ones(certain))
  close(losses.unlikelihood(*args), [-math.log(1e-5)])
  assert jax.grad(lambda c: losses.unlikelihood(certain, c, *args[2:])[0])(
    args[1]
  ) == jnp.zeros((1, 1, 1))
  repeated = lambda x: losses.unlikelihood_sequence(
    x, ones(certain), ones(certain)
  )
  close(repeated(certain), [-math.log(1e-20)])
  assert jax.grad(lambda x: repeated(x)[0])(certain) == 0
  assert jax.grad(lambda x: repeated(x)[0])(certain - 1e-3) > 0


def test_unlikelihood_of_a_sample():
  tokens = logs(0.2, 0.05, 0.6)
  all_repeat = losses.unlikelihood_sequence(tokens, ones(tokens), ones(tokens))
  close(all_repeat, [1.190728], 1e-6)
  last = jnp.array([[False, False, True]])
  close(
    losses.unlikelihood_sequence(tokens, last, ones(tokens)), [-math.log(0.4)]
  )
  close(losses.unlikelihood_sequence(tokens, ~ones(tokens), ones(tokens)), [0])


@few
@hypothesis.given(tokens=rows, seed=st.integers(0, 99))
def test_previous_token_candidates(tokens, seed):
  mask = np.random.default_rng(seed).uniform(size=len(tokens)) < 0.7
  candidates = losses.previous_token_candidates(
    jnp.array([tokens]), jnp.array(mask)[None]
  )[0]
  for t, row in enumerate(np.asarray(candidates)):
    held = [tokens[s] for s in np.flatnonzero(row)]
    said = {tokens[s] for s in range(t) if mask[s]} - {tokens[t]}
    assert sorted(held) == (sorted(said) if mask[t] else [])
    # they are the first scored occurrence of each token
    assert all(mask[s] for s in np.flatnonzero(row))
    assert all(
      tokens[r] != tokens[s]
      for s in np.flatnonzero(row)
      for r in np.flatnonzero(mask[:s])
    )


@few
@hypothesis.given(tokens=rows, seed=st.integers(0, 99), n=st.integers(1, 4))
def test_repeated_ngrams(tokens, seed, n):
  mask = np.random.default_rng(seed).uniform(size=len(tokens)) < 0.9
  repeats = losses.repeated_ngrams(
    jnp.array([tokens]), jnp.array(mask)[None], n=n
  )
  expected, seen = np.zeros(len(tokens), bool), set()
  for s in range(len(tokens) - n + 1):
    if mask[s : s + n].all():
      gram = tuple(tokens[s : s + n])
      expected[s : s + n] |= gram in seen
      seen.add(gram)
  np.testing.assert_array_equal(repeats[0], expected)


def test_repeats_of_a_sentence():
  tokens = jnp.array([[1, 2, 3, 4, 5, 1, 2, 3, 4]])
  repeats = losses.repeated_ngrams(tokens, ones(tokens))
  np.testing.assert_array_equal(repeats[0], [0, 0, 0, 0, 0, 1, 1, 1, 1])
  assert not losses.repeated_ngrams(tokens[:, :8], ones(tokens[:, :8])).any()


# -------------------------------------------------------------- CUT and PoFT

PLAIN, NEGATIVE, POSITIVE = (0.5, 0.3, 0.2), (0.4, 0.6, 0.2), (0.5, 0.3, 0.19)


def cut(negative=NEGATIVE, positive=POSITIVE, aligned=False, **settings):
  plain = logs(*PLAIN)
  return losses.cut(
    plain,
    logs(*positive),
    logs(*negative),
    jnp.array([aligned]),
    ones(plain),
    **settings,
  )[0]


def test_cut():
  mle = -sum(map(math.log, PLAIN)) / 3
  second = -sum(map(math.log, NEGATIVE)) / 3
  close(cut() - second, 0.886420, 1e-6)
  close(cut(gamma=1.0) - second, 0.838863, 1e-6)
  close(cut(lam=1e9), mle + second)  # no token is bad
  close(cut(positive=NEGATIVE), mle + second)
  close(cut(positive=NEGATIVE, aligned=True), 2 * mle)
  close(cut(lam=1e-9, alpha=0.0), second)  # all are bad, with weight 0


def test_cut_learns_from_the_criticised_context():
  plain = logs(*PLAIN)
  gradients = jax.grad(
    lambda q, n, aligned: losses.cut(
      plain, q, n, jnp.array([aligned]), ones(plain), gamma=1.0
    )[0],
    (0, 1),
  )
  positive, negative = gradients(logs(*POSITIVE), logs(*NEGATIVE), False)
  close(positive, 0)
  close(negative, -1 / 3)
  close(gradients(logs(*POSITIVE), logs(*NEGATIVE), True)[1], 0)


def poft(p, n, others, lengths=None):
  others = jnp.array([others])
  lengths = jnp.ones_like(others) if lengths is None else jnp.array([lengths])
  return losses.poft(
    jnp.asarray(p, float)[None], jnp.array([float(n)]), others, lengths
  )[0]


@few
@hypothesis.given(
  p=logp, n=length, a=st.floats(-5, -0.1), b=st.floats(-5, -0.1)
)
def test_poft(p, n, a, b):
  loss = poft(p, n, [a, b])
  close(loss, poft(p, n, [a, b, a, b, a, b]))
  close(loss, poft(p, n, [7 * a, 3 * b], [7.0, 3.0]))
  geometric, own = math.exp((a + b) / 2), math.exp(p / n)
  slope = jax.grad(poft)(p, n, [a, b])
  close(slope, -geometric / (geometric + own) / n)
  close(jax.grad(poft)(p, 2, [p / 2 + 40.0]), -0.5)  # SFT
  close(jax.grad(poft)(p, 2, [p / 2 - 40.0]), 0)  # left alone
  close(jax.grad(poft)(p, 2, [p / 2]), -0.25)


def test_poft_golden():
  close(poft(-10, 5, [-1.8, -1.6]), 0.854355, 1e-6)


# -------------------------------------------------------------------- A-LoL


def test_a_lol_golden():
  close(value(losses.a_lol, -10.0, -11.0, 1.4, 0.9), 9.5)
  close(value(losses.a_lol_ref_free, -10.0, 1.4, 0.9), 5.0)
  close(value(losses.a_lol_kl, -10.0, -11.0, 1.4, 0.9), 5.1)


@few
@hypothesis.given(p=logp, ref=logp, r=st.floats(0, 3), v=st.floats(0, 3))
def test_a_lol(p, ref, r, v):
  free = value(losses.a_lol_ref_free, p, r, v)
  assert free == 0 or r > v
  close(value(losses.a_lol, p, p, r, v), free)
  close(value(losses.a_lol, p, ref, r, v, clip=0.0), free)
  close(value(losses.a_lol_kl, p, ref, r, v, beta=0.0), free)
  close(value(losses.a_lol, p, ref, r, r + v), 0)
  close(value(losses.a_lol_kl, p, ref, r, r + v), 0.1 * (p - ref))
  close(value(losses.r_lol, p, ref, r), value(losses.a_lol, p, ref, r, 0.0))
  close(value(losses.r_lol, p, ref, -r), -value(losses.r_lol, p, ref, r))
  arrays = jnp.array([[p]]), jnp.array([[ref]]), jnp.array([r]), jnp.array([v])
  seq = losses.a_lol_seq(*arrays, jnp.array([[True]]))[0]
  close(seq, value(losses.a_lol, p, ref, r, v))


def test_a_lol_takes_a_ratio_that_underflows():
  close(value(losses.a_lol, -5000.0, -1.0, 2.0, 1.0), 0.1 * 5000)
  close(value(losses.a_lol, -1.0, -5000.0, 2.0, 1.0), 1.9)
