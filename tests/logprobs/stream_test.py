"""Streamed log-probs, entropies and gradients equal dense ones."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import logprobs, sharding
from jalign.types import Head, Sequences
from tests.models.tiny import tiny

B, T, D, V = 4, 7, 16, 53


@pytest.fixture(scope="module")
def arrays():
  keys = jax.random.split(jax.random.key(0), 5)
  return (
    jax.random.normal(keys[0], (B, T, D)),
    jax.random.normal(keys[1], (V, D)),
    jax.random.randint(keys[2], (B, T), 0, V),
    jax.random.normal(keys[3], (B, T)),
    jax.random.normal(keys[4], (B, T)),
  )


def _numpy(hidden, weight, targets, scale=1.0, cap=None):
  """Log-probs and entropies in float64, from their definitions."""
  z = scale * np.asarray(hidden, np.float64) @ np.asarray(weight, np.float64).T
  if cap is not None:
    z = cap * np.tanh(z / cap)
  p = np.exp(z - z.max(-1, keepdims=True))
  p /= p.sum(-1, keepdims=True)
  picked = np.take_along_axis(np.log(p), np.asarray(targets)[..., None], -1)
  return picked[..., 0], -(p * np.log(p)).sum(-1)


@pytest.mark.parametrize("tile", [1, 8, 52, 53, 400, None])
@pytest.mark.parametrize("scale, cap", [(1.0, None), (0.5, 3.0)])
def test_values_equal_float64(arrays, tile, scale, cap):
  hidden, weight, targets, _, _ = arrays
  head = Head(weight, scale=scale, soft_cap=cap)
  got = logprobs.token_statistics(hidden, head, targets, tile=tile)
  logps, entropy = _numpy(hidden, weight, targets, scale, cap)
  np.testing.assert_allclose(got.logps, logps, atol=2e-5)
  np.testing.assert_allclose(got.entropy, entropy, atol=2e-5)
  np.testing.assert_array_equal(
    got.logps, logprobs.token_logprobs(hidden, head, targets, tile=tile)
  )


def _dense(hidden, weight, targets, a, b, scale, cap):
  logps = jax.nn.log_softmax(
    logprobs.logits(Head(weight, scale=scale, soft_cap=cap), hidden)
  )
  picked = jnp.take_along_axis(logps, targets[..., None], -1)[..., 0]
  entropy = -jnp.sum(jnp.exp(logps) * logps, -1)
  return jnp.sum(picked * a) + jnp.sum(entropy * b)


@pytest.mark.parametrize("tile", [8, 52, 53])
@pytest.mark.parametrize("scale, cap", [(1.0, None), (0.5, 3.0)])
def test_gradients_equal_dense_autodiff(arrays, tile, scale, cap):
  hidden, weight, targets, a, b = arrays

  def streamed(hidden, weight):
    head = Head(weight, scale=scale, soft_cap=cap)
    got = logprobs.token_statistics(hidden, head, targets, tile=tile)
    return jnp.sum(got.logps * a) + jnp.sum(got.entropy * b)

  got = jax.jit(jax.grad(streamed, (0, 1)))(hidden, weight)
  want = jax.grad(_dense, (0, 1))(hidden, weight, targets, a, b, scale, cap)
  for x, y in zip(got, want):
    np.testing.assert_allclose(x, y, atol=3e-5)


def test_a_dense_head_gives_the_same(arrays):
  hidden, weight, targets, a, b = arrays

  def adapted(hidden, weight):
    head = Head(None, dense=lambda h: h @ weight.T)
    got = logprobs.token_statistics(hidden, head, targets)
    return jnp.sum(got.logps * a) + jnp.sum(got.entropy * b)

  got = jax.value_and_grad(adapted, (0, 1))(hidden, weight)
  want = jax.value_and_grad(_dense, (0, 1))(
    hidden, weight, targets, a, b, 1.0, None
  )
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=3e-5), got, want
  )


def test_extreme_logits_stay_finite(arrays):
  hidden, weight, targets, a, _ = arrays
  loss = lambda h: jnp.sum(
    logprobs.token_logprobs(h, Head(weight), targets, tile=8) * a
  )
  value, grad = jax.value_and_grad(loss)(hidden * 1e4)
  assert np.isfinite(value) and np.isfinite(grad).all()


def test_bfloat16_states_give_float32_sums(arrays):
  hidden, weight, targets, _, _ = arrays
  low = hidden.astype(jnp.bfloat16)
  got = logprobs.token_logprobs(low, Head(weight), targets)
  want, _ = _numpy(
    low.astype(jnp.float32),
    weight.astype(jnp.bfloat16).astype(jnp.float32),
    targets,
  )
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, want, atol=2e-4)
  grad = jax.grad(
    lambda w: jnp.sum(logprobs.token_logprobs(low, Head(w), targets))
  )(weight)
  assert grad.dtype == jnp.float32


def test_the_program_holds_no_logits():
  """No [B * T, V] array in the compiled forward and backward pass."""
  rows, vocab = 4 * 64, 4096
  hidden = jnp.zeros((4, 64, 8))
  weight, targets = jnp.zeros((vocab, 8)), jnp.zeros((4, 64), int)
  loss = lambda h, w: jnp.sum(
    logprobs.token_logprobs(h, Head(w), targets, tile=512)
  )
  text = (
    jax.jit(jax.grad(loss, (0, 1))).lower(hidden, weight).compile().as_text()
  )
  sizes = [
    np.prod([int(n) for n in dims.split(",")])
    for dims in re.findall(r"f32\[([\d,]+)\]", text)
  ]
  assert max(sizes) < rows * vocab
  assert rows * 512 in sizes


def _sharded_gradients(mesh_shape):
  config, model, params = tiny(tie_word_embeddings=False)
  del config
  head = model.head(params)
  keys = jax.random.split(jax.random.key(3), 3)
  hidden = jax.random.normal(keys[0], (8, 5, 32))
  other = 0.5 * jax.random.normal(keys[1], (8, 5, 32))
  targets = jax.random.randint(keys[2], (8, 5), 0, 64)
  rising = jnp.linspace(0.1, 1, 8)

  def loss(hidden, weight, ref_hidden, ref_weight, temperature):
    policy = head.replace(weight=weight)
    reference = head.replace(weight=ref_weight)
    got = logprobs.token_statistics(
      hidden,
      policy,
      targets,
      want=("entropy", "lse", "mean_logit", "top"),
      temperature=temperature,
      tile=6,
    )
    both = hidden, policy, ref_hidden, reference
    kl = logprobs.token_kl(*both, tile=6)
    mixed = logprobs.mixture_logprobs(*both, targets, rising, tile=6)
    total = jnp.sum(got.logps * jnp.arange(5.0)) + jnp.sum(got.entropy**2)
    total += 0.01 * jnp.sum(got.lse**2) + jnp.sum(got.mean_logit**2)
    return total + jnp.sum(kl**2) + jnp.sum(mixed), (got, kl, mixed)

  function = jax.value_and_grad(loss, (0, 1), has_aux=True)
  # The rows occur twice, so each token ties: the first one is the top.
  weight = jnp.tile(head.weight[:32], (2, 1))
  arrays = hidden, weight, other, head.weight, rising
  want = jax.jit(function)(*arrays)
  mesh = sharding.make_mesh(*mesh_shape)
  with jax.set_mesh(mesh):
    spec = jax.sharding.PartitionSpec("tensor", "fsdp")
    place = lambda w: jax.device_put(w, jax.sharding.NamedSharding(mesh, spec))
    rows = lambda x: jax.device_put(x, sharding.batch_sharding(mesh))
    placed = (
      rows(hidden),
      place(weight),
      rows(other),
      place(head.weight),
      rows(rising),
    )
    compiled = jax.jit(function).lower(*placed).compile()
    return want, compiled(*placed), compiled.as_text()


@pytest.mark.parametrize("mesh_shape", [(2, 2, 2), (1, 1, 8), (8, 1, 1)])
def test_sharded_stream_equals_unsharded(mesh_shape):
  want, got, _ = _sharded_gradients(mesh_shape)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=2e-4),
    jax.device_get(got),
    jax.device_get(want),
  )


def test_a_split_vocabulary_is_never_gathered():
  _, _, text = _sharded_gradients((1, 1, 8))
  assert "all-reduce" in text
  assert "all-gather" not in text


def test_only_scored_tokens_count_even_when_pad_is_eos():
  _, model, params = tiny()
  eos = pad = 5
  tokens = jnp.array([[7, 8, 9, eos, pad, pad], [7, 1, eos, eos, pad, pad]])
  mask = jnp.array([[0, 0, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0]], bool)
  sequences = Sequences(tokens, mask, jnp.array([4, 4]))
  got = logprobs.sequence_logprobs(model, params, sequences)
  logps = jax.nn.log_softmax(
    logprobs.logits(model.head(params), model.forward(params, tokens))
  )
  want = [
    logps[0, 1, 9] + logps[0, 2, eos],
    logps[1, 0, 1] + logps[1, 1, eos] + logps[1, 2, eos],
  ]
  np.testing.assert_allclose(got, want, rtol=1e-5)


def test_padding_changes_nothing():
  _, model, params = tiny()
  tokens = jax.random.randint(jax.random.key(1), (3, 6), 0, 64)
  mask = jnp.arange(6)[None] >= jnp.array([[2], [3], [1]])
  short = Sequences(tokens, mask, jnp.full(3, 6))
  wide = Sequences(
    jnp.pad(tokens, [(0, 0), (0, 5)], constant_values=9),
    jnp.pad(mask, [(0, 0), (0, 5)]),
    jnp.full(3, 6),
  )
  np.testing.assert_allclose(
    logprobs.sequence_logprobs(model, params, short),
    logprobs.sequence_logprobs(model, params, wide),
    rtol=1e-5,
  )
