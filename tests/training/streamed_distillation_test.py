"""Streamed distillation equals the loss, without holding its logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import logprobs, losses, training
from jalign.errors import UserError
from jalign.types import Head
from tests import programs

B, T, V = 2, 12, 64
WIDTHS = (8, 8, 16)  # of the student and its two teachers


@pytest.fixture(scope="module")
def models():
  """Hidden states and weights of the three models."""
  keys = jax.random.split(jax.random.key(0), 6)
  hidden = [jax.random.normal(k, (B, T, d)) for k, d in zip(keys[:3], WIDTHS)]
  weights = [jax.random.normal(k, (V, d)) for k, d in zip(keys[3:], WIDTHS)]
  return hidden, weights


MASK = jnp.arange(T) < jnp.array([[9], [0]])


def _streamed(hidden, weights, **kwargs):
  heads = [Head(w, scale=s) for w, s in zip(weights, (1.0, 0.5, 0.5))]
  pairs = tuple(zip(hidden, heads))
  return training.align_distil_streamed(*pairs, MASK, **kwargs)


def _dense(hidden, weights, **kwargs):
  scales = (1.0, 0.5, 0.5)
  logits = [
    logprobs.logits(Head(w, scale=s), h)
    for h, w, s in zip(hidden, weights, scales)
  ]
  return losses.align_distil(*logits, MASK, **kwargs)


def _slopes(function, models, **kwargs):
  """Gradients of the summed loss in all hidden states and weights."""
  total = lambda *x: function(*x, **kwargs).sum()
  return jax.jit(jax.grad(total, (0, 1)))(*models)


@pytest.mark.parametrize("chunk", [None, 1, 5])
def test_values_and_gradients_are_those_of_the_loss(models, chunk):
  settings = {"beta": 0.3, "extrapolation": 2.0}
  got = jax.jit(functools.partial(_streamed, chunk=chunk, **settings))(*models)
  want = jax.jit(functools.partial(_dense, **settings))(*models)
  assert want[0] > 0 == want[1]  # the second row has no scored tokens
  np.testing.assert_allclose(got, want, rtol=1e-5)
  slopes = [
    _slopes(_streamed, models, chunk=chunk, **settings),
    _slopes(_dense, models, **settings),
  ]
  for a, b in zip(*map(jax.tree.leaves, slopes)):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
  for teacher in (*slopes[0][0][1:], *slopes[0][1][1:]):
    np.testing.assert_array_equal(teacher, 0)


def test_the_logits_of_all_tokens_never_exist(models):
  total = lambda *x: _streamed(*x, chunk=1).sum()
  text = jax.jit(jax.grad(total)).lower(*models).compile().as_text()
  assert programs.largest(text) < B * T * V


def test_a_hyperparameter_out_of_range(models):
  with pytest.raises(UserError, match="^beta"):
    _streamed(*models, beta=0.0)
