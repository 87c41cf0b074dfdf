"""Two heads in one pass: KL and geometric mixtures equal float64's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import logprobs
from jalign.errors import UserError
from jalign.logprobs import dense
from jalign.types import Head
from tests.logprobs import oracle
from tests.programs import traced

B, T, D, V, WIDE = 2, 3, 5, 11, 7
POLICY, REFERENCE = dict(scale=0.5, cap=2.0), dict(scale=1.5)
MIXES = [0.3, (0.25, 0.8)]


@pytest.fixture(scope="module")
def arrays():
  keys = jax.random.split(jax.random.key(0), 6)
  return {
    "hidden": jax.random.normal(keys[0], (B, T, D)),
    "weight": jax.random.normal(keys[1], (V, D)),
    "ref_hidden": jax.random.normal(keys[2], (B, T, WIDE)),
    "ref_weight": jax.random.normal(keys[3], (V, WIDE)),
    "targets": jax.random.randint(keys[4], (B, T), 0, V),
    "given": jax.random.normal(keys[5], (B, T)),
  }


def _heads(weight, ref_weight, dense_heads=False):
  heads = (
    Head(weight, scale=POLICY["scale"], soft_cap=POLICY["cap"]),
    Head(ref_weight, scale=REFERENCE["scale"]),
  )
  if not dense_heads:
    return heads
  return tuple(
    Head(None, dense=functools.partial(logprobs.logits, head)) for head in heads
  )


def _kl(arrays, tile, **kw):
  def function(hidden, weight, ref_hidden, ref_weight, mix):
    head, ref_head = _heads(weight, ref_weight, **kw)
    out = logprobs.token_kl(hidden, head, ref_hidden, ref_head, tile=tile)
    return jnp.sum(out * arrays["given"]), out

  return function


def _mixture(arrays, tile, **kw):
  def function(hidden, weight, ref_hidden, ref_weight, mix):
    head, ref_head = _heads(weight, ref_weight, **kw)
    out = logprobs.mixture_logprobs(
      hidden, head, ref_hidden, ref_head, arrays["targets"], mix, tile=tile
    )
    return jnp.sum(out * arrays["given"]), out

  return function


def _run(function, arrays, mix=0.5, jit=True):
  """(values, gradients in all five arguments); the mix is traced."""
  run = jax.value_and_grad(function, range(5), has_aux=True)
  names = "hidden", "weight", "ref_hidden", "ref_weight"
  args = [arrays[name] for name in names]
  (_, out), grads = (jax.jit(run) if jit else run)(*args, jnp.asarray(mix))
  return out, grads


def _check(got, arrays, definition):
  """Checks values and gradients; the reference has no gradient."""
  out, grads = got
  reference = oracle.logits(
    arrays["ref_hidden"], arrays["ref_weight"], **REFERENCE
  )
  value = lambda hidden, weight: definition(
    oracle.logits(hidden, weight, **POLICY), reference
  )
  given = np.asarray(arrays["given"], np.float64)
  states = arrays["hidden"], arrays["weight"]
  np.testing.assert_allclose(out, value(*states), atol=5e-6)
  exact = oracle.gradient(lambda *x: (value(*x) * given).sum(), *states)
  for x, y in zip(grads, exact):
    np.testing.assert_allclose(x, y, atol=2e-5)
  assert not any(np.any(x) for x in grads[2:])


@pytest.mark.parametrize("tile", [4, 1, None])
def test_kl_equals_float64(arrays, tile):
  _check(_run(_kl(arrays, tile), arrays), arrays, oracle.kl)


@pytest.mark.parametrize("tile, mix", [(4, MIXES[0]), (4, MIXES[1]), (11, 0.9)])
def test_mixtures_equal_their_enumeration(arrays, tile, mix):
  definition = lambda z, ref: oracle.mixture(z, ref, arrays["targets"], mix)
  _check(_run(_mixture(arrays, tile), arrays, mix), arrays, definition)


@pytest.mark.parametrize("make", [_kl, _mixture])
def test_dense_heads_by_chunks_and_without_jit_are_the_same(
  arrays, make, monkeypatch
):
  want = _run(make(arrays, 4), arrays, MIXES[1])
  eager = _run(make(arrays, 4), arrays, MIXES[1], jit=False)
  monkeypatch.setattr(dense, "TILE_BYTES", 4 * V * B * 2)
  chunked = _run(make(arrays, 4, dense_heads=True), arrays, MIXES[1])
  for got in (eager, chunked):
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), got, want
    )


@pytest.mark.parametrize("size", [1.0, 300.0])
def test_equal_heads_have_no_divergence(arrays, size):
  """Value and gradient are exactly 0, even if logits are large."""
  hidden, weight = size * arrays["hidden"], arrays["weight"]
  run = lambda h, w: jnp.sum(
    logprobs.token_kl(h, Head(w), hidden, Head(weight), tile=4)
  )
  value, grads = jax.value_and_grad(run, (0, 1))(hidden, weight)
  assert value == 0
  assert not any(np.any(x) for x in grads)


def test_the_divergence_of_near_heads_is_small_and_not_negative(arrays):
  """It is of second order, and float32's rounding must not swamp it."""
  hidden, weight = 20 * arrays["hidden"], arrays["weight"]
  near = hidden + 0.01 * jax.random.normal(jax.random.key(9), hidden.shape)
  got = logprobs.token_kl(near, Head(weight), hidden, Head(weight), tile=4)
  want = oracle.kl(oracle.logits(near, weight), oracle.logits(hidden, weight))
  np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("dense_heads", [False, True])
def test_mixtures_end_at_the_two_models(arrays, dense_heads):
  function, times = traced(_mixture(arrays, 4, dense_heads=dense_heads))
  run = jax.jit(function)
  names = "hidden", "weight", "ref_hidden", "ref_weight"
  args = [arrays[name] for name in names]
  heads = _heads(arrays["weight"], arrays["ref_weight"])
  states = arrays["hidden"], arrays["ref_hidden"]
  for mix, head, hidden in zip((0.0, 1.0), heads, states):
    want = logprobs.token_logprobs(hidden, head, arrays["targets"])
    np.testing.assert_allclose(run(*args, mix)[1], want, atol=5e-6)
  assert len(times) == 1  # a schedule compiles once


def test_dense_heads_may_exclude_tokens(arrays):
  """Both heads exclude the same tokens, by -inf; at the mixture's ends, too."""
  cut = jnp.where(jnp.arange(V) < V - 2, 0.0, -jnp.inf)
  short = arrays | {
    name: arrays[name][: V - 2] for name in ("weight", "ref_weight")
  }
  short["targets"] = arrays["targets"] % (V - 2)
  heads = _heads(arrays["weight"], arrays["ref_weight"])
  masked = [
    Head(None, dense=lambda h, head=head: logprobs.logits(head, h) + cut)
    for head in heads
  ]

  def run(hidden, mix):
    kl = logprobs.token_kl(hidden, masked[0], arrays["ref_hidden"], masked[1])
    mixed = logprobs.mixture_logprobs(
      hidden, masked[0], arrays["ref_hidden"], masked[1], short["targets"], mix
    )
    return jnp.sum(kl * arrays["given"]), jnp.sum(mixed * arrays["given"])

  for mix in (0.0, 0.4, 1.0):
    got = jax.vjp(functools.partial(run, mix=mix), arrays["hidden"])
    for i, make in enumerate((_kl, _mixture)):
      out, grads = _run(make(short, 4), short, mix)
      want = jnp.sum(out * arrays["given"])
      np.testing.assert_allclose(got[0][i], want, atol=2e-5)
      one_hot = [1.0, 0.0] if i == 0 else [0.0, 1.0]
      (grad,) = got[1](tuple(map(jnp.float32, one_hot)))
      np.testing.assert_allclose(grad, grads[0], atol=2e-5)


def test_vocabularies_must_agree(arrays):
  head = Head(arrays["weight"])
  other = Head(arrays["ref_weight"][:-1])
  with pytest.raises(UserError, match="11 tokens and the reference's 10"):
    logprobs.token_kl(arrays["hidden"], head, arrays["ref_hidden"], other)


def test_weights_of_a_mixture_are_one_a_row(arrays):
  heads = _heads(arrays["weight"], arrays["ref_weight"])
  with pytest.raises(AssertionError):
    logprobs.mixture_logprobs(
      arrays["hidden"],
      heads[0],
      arrays["ref_hidden"],
      heads[1],
      arrays["targets"],
      jnp.ones(B + 1),
    )
