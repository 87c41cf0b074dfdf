"""KL of a reference to a policy, whole and by its likeliest classes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import logprobs, losses
from jalign.errors import UserError
from jalign.logprobs import dense
from jalign.types import Head
from tests import programs
from tests.logprobs import oracle

B, T, D, V, WIDE = 2, 3, 5, 11, 7
POLICY, REFERENCE = dict(scale=0.5, cap=2.0), dict(scale=1.5)


@pytest.fixture(scope="module")
def arrays():
  keys = jax.random.split(jax.random.key(0), 5)
  return (
    jax.random.normal(keys[0], (B, T, D)),
    jax.random.normal(keys[1], (V, D)),
    jax.random.normal(keys[2], (B, T, WIDE)),
    jax.random.normal(keys[3], (V, WIDE)),
    np.asarray(jax.random.normal(keys[4], (B, T)), np.float64),
  )


def _heads(weight, ref_weight, whole=False):
  heads = (
    Head(weight, scale=POLICY["scale"], soft_cap=POLICY["cap"]),
    Head(ref_weight, scale=REFERENCE["scale"]),
  )
  if not whole:
    return heads
  return tuple(
    Head(None, dense=functools.partial(logprobs.logits, head)) for head in heads
  )


def _run(arrays, **options):
  """KL and gradients in the four arrays of its weighted sum."""
  whole = options.pop("whole", False)

  def function(hidden, weight, ref_hidden, ref_weight):
    head, ref_head = _heads(weight, ref_weight, whole)
    out = logprobs.token_forward_kl(
      hidden, head, ref_hidden, ref_head, **options
    )
    return jnp.sum(out * arrays[4]), out

  run = jax.value_and_grad(function, range(4), has_aux=True)
  (_, out), grads = jax.jit(run)(*arrays[:4])
  return out, grads


@pytest.mark.parametrize("tile", [4, None])
def test_kl_equals_float64(arrays, tile):
  out, grads = _run(arrays, tile=tile)
  ref = oracle.logits(arrays[2], arrays[3], **REFERENCE)
  value = lambda h, w: oracle.kl(ref, oracle.logits(h, w, **POLICY))
  np.testing.assert_allclose(out, value(*arrays[:2]), atol=5e-6)
  exact = oracle.gradient(lambda *x: (value(*x) * arrays[4]).sum(), *arrays[:2])
  for x, y in zip(grads, exact):
    np.testing.assert_allclose(x, y, atol=2e-5)
  assert not any(np.any(x) for x in grads[2:])


def test_dense_heads_by_chunks_are_the_same(arrays, monkeypatch):
  want = _run(arrays, tile=4)
  monkeypatch.setattr(dense, "TILE_BYTES", 4 * V * B * 2)
  got = _run(arrays, whole=True)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), got, want
  )


@pytest.mark.parametrize("size", [1.0, 300.0])
def test_equal_heads_have_no_divergence(arrays, size):
  """Value and gradient are exactly 0, even if logits are large."""
  hidden, weight = size * arrays[0], arrays[1]
  run = lambda h, w: jnp.sum(
    logprobs.token_forward_kl(h, Head(w), hidden, Head(weight), tile=4)
  )
  value, grads = jax.value_and_grad(run, (0, 1))(hidden, weight)
  assert value == 0
  assert not any(np.any(x) for x in grads)


def test_the_logits_never_exist():
  """No array of the program is nearly as large as the logits."""
  tokens, width, classes = 64, 4, 64
  keys = jax.random.split(jax.random.key(0), 4)
  hidden, ref_hidden = (
    jax.random.normal(k, (1, tokens, width)) for k in keys[:2]
  )
  head, ref_head = (
    Head(jax.random.normal(k, (classes, width))) for k in keys[2:]
  )
  run = lambda h: jnp.sum(
    logprobs.token_forward_kl(h, head, ref_hidden, ref_head, tile=8)
  )
  text = jax.jit(jax.grad(run)).lower(hidden).compile().as_text()
  assert programs.largest(text) < tokens * classes // 4


def test_other_vocabularies_are_refused(arrays):
  head, ref_head = _heads(arrays[1], arrays[3][:-1])
  with pytest.raises(UserError, match="vocabulary has 11 tokens"):
    logprobs.token_forward_kl(arrays[0], head, arrays[2], ref_head)


def test_the_top_classes_bound_the_divergence_from_below(arrays, monkeypatch):
  """The bound rises with k; with all classes it is the divergence itself."""
  monkeypatch.setattr(dense, "TILE_BYTES", 4 * V * B * 2)
  head, ref_head = _heads(arrays[1], arrays[3])
  mask = jnp.ones((B, T), bool)
  top = jax.jit(lambda h, r: logprobs.top_logprobs(h, head, r, ref_head, V))(
    arrays[0], arrays[2]
  )
  z, ref = (
    oracle.log_softmax(oracle.logits(x, w, **settings))
    for x, w, settings in (
      (arrays[0], arrays[1], POLICY),
      (arrays[2], arrays[3], REFERENCE),
    )
  )
  order = np.argsort(-ref, -1)
  for got, logps in zip(top, (z, ref)):
    want = np.take_along_axis(logps, order, -1)
    np.testing.assert_allclose(got[..., :-1], want, atol=5e-6)
    assert np.all(got[..., -1] < -1e29)  # there is no other class
  bounds = [losses.top_k_distillation(*top, mask, k=k) for k in range(1, V + 1)]
  assert np.all(np.diff(bounds, axis=0) >= -1e-6)
  assert np.any(bounds[0] < bounds[-1] - 0.1)
  full = oracle.kl(ref, z).sum(-1)
  np.testing.assert_allclose(bounds[-1], full, atol=1e-5)
