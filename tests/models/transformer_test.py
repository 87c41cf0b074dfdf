"""The transformer equals a float64 twin, and has its own symmetries."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import logprobs, sharding
from jalign.errors import UserError
from jalign.models import ModelConfig, param_specs, param_table
from jalign.products import product
from tests.models.tiny import TINY, tiny
from tests.oracles import transformer as oracle


@functools.partial(jax.jit, static_argnums=0)
def _log_probs(model, params, tokens):
  hidden = model.forward(params, tokens)
  return jax.nn.log_softmax(logprobs.logits(model.head(params), hidden))


@pytest.mark.parametrize("tied", [True, False])
def test_equals_the_numpy_transformer(tied):
  config, model, params = tiny(tie_word_embeddings=tied)
  tokens = np.asarray(jax.random.randint(jax.random.key(1), (2, 9), 0, 64))
  got = _log_probs(model, params, tokens)
  for row in range(2):
    want = oracle.log_probs(params, tokens[row], config)
    np.testing.assert_allclose(got[row], want, atol=2e-5)


def test_a_token_sees_only_what_is_before_it():
  _, model, params = tiny()
  tokens = jax.random.randint(jax.random.key(1), (1, 8), 0, 64)
  changed = tokens.at[0, 5].add(1)
  a, b = (_log_probs(model, params, t)[0] for t in (tokens, changed))
  np.testing.assert_array_equal(a[:5], b[:5])
  assert np.abs(a[5:] - b[5:]).max(-1).min() > 1e-3


def test_segments_do_not_see_each_other():
  _, model, params = tiny()
  tokens = jax.random.randint(jax.random.key(1), (1, 9), 0, 64)
  segments = jnp.asarray([[0, 0, 0, 0, 1, 1, 1, 1, 1]])
  positions = jnp.asarray([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
  forward = jax.jit(model.forward)
  packed = forward(params, tokens, positions, segments)
  for part in (slice(4), slice(4, None)):
    alone = forward(params, tokens[:, part])
    np.testing.assert_allclose(packed[:, part], alone, atol=1e-5)


def test_a_prefix_is_seen_by_its_segments_alone():
  """A row holds two continuations of a prefix, and an unrelated segment."""
  _, model, params = tiny()
  tokens = jax.random.randint(jax.random.key(1), (1, 12), 0, 64)
  segments = jnp.asarray([[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]])
  prefixes = jnp.asarray([[0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 3, 3]])
  positions = jnp.asarray([[0, 1, 2, 3, 4, 5, 3, 4, 5, 0, 1, 2]])
  forward = jax.jit(model.forward)
  packed = forward(params, tokens, positions, segments, prefixes)
  for at in ([0, 1, 2, 3, 4, 5], [0, 1, 2, 6, 7, 8], [9, 10, 11]):
    alone = forward(params, tokens[:, jnp.asarray(at)])
    np.testing.assert_allclose(packed[:, jnp.asarray(at)], alone, atol=1e-5)


@pytest.mark.parametrize("changes", [dict(scan_unroll=2), dict(scan_unroll=3)])
def test_how_layers_are_run_changes_no_gradient(changes):
  tokens = jax.random.randint(jax.random.key(1), (2, 8), 0, 64)
  grads = []
  for how in ({}, changes):
    _, model, params = tiny(**how)
    loss = lambda p, m=model: jnp.sum(m.forward(p, tokens) ** 2)
    grads.append(jax.jit(jax.grad(loss))(params))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *grads
  )


def test_bfloat16_is_near_float32():
  _, model, params = tiny()
  _, low, _ = tiny(dtype="bfloat16")
  tokens = jax.random.randint(jax.random.key(1), (2, 8), 0, 64)
  a, b = _log_probs(model, params, tokens), _log_probs(low, params, tokens)
  assert b.dtype == jnp.float32
  assert 1e-4 < np.abs(a - b).mean() < 0.15


def test_equal_configs_share_one_model():
  assert tiny()[1] is tiny()[1]


@pytest.mark.parametrize(
  "change, key",
  [
    (dict(num_key_value_heads=3), "model.num_key_value_heads"),
    (dict(head_dim=7), "model.head_dim"),
    (dict(hidden_size=30, head_dim=0), "model.num_attention_heads"),
    (dict(vocab_size=0), "model.vocab_size"),
    (dict(dtype="float8"), "model.dtype"),
    (dict(remat="some"), "model.remat.*'none', 'block', 'dots'"),
  ],
)
def test_bad_shapes_name_their_key(change, key):
  with pytest.raises(UserError, match=key):
    dataclasses.replace(TINY, **change)


def test_the_table_counts_every_parameter():
  config, _, params = tiny()
  total = sum(x.size for x in jax.tree.leaves(params))
  assert param_table(param_specs(config)).split()[-1] == f"{total:,}"


def test_default_head_width():
  config = ModelConfig(10, 32, 8, 1, 4, 4)
  assert config.head_dim == 8


# ------------------------------------------------------------------- sharded


def test_sharded_equals_unsharded_with_gradients():
  config, model, params = tiny()
  mesh = sharding.make_mesh(2, 2, 2)
  placed = jax.device_put(params, sharding.shardings(param_specs(config), mesh))
  tokens = jax.random.randint(jax.random.key(1), (8, 10), 0, 64)

  def loss(p, t):
    hidden = model.forward(p, t)
    logps = logprobs.token_logprobs(hidden[:, :-1], model.head(p), t[:, 1:])
    return jnp.sum(logps * jnp.arange(9.0))

  want = jax.jit(jax.value_and_grad(loss))(params, tokens)
  with jax.set_mesh(mesh):
    rows = jax.device_put(tokens, sharding.batch_sharding(mesh))
    got = jax.jit(jax.value_and_grad(loss))(placed, rows)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-3),
    jax.device_get(got),
    jax.device_get(want),
  )


def test_gradients_of_weights_are_not_rounded_to_the_dtype_of_products():
  """Else devices would round their parts before these are added up."""
  a = jax.random.normal(jax.random.key(0), (64, 8)).astype(jnp.bfloat16)
  weight, given = jax.random.normal(jax.random.key(1), (2, 8, 8))
  given = jnp.tile(given, (8, 1)).astype(jnp.bfloat16).astype(jnp.float32)
  loss = lambda a, w: jnp.sum(product(a, w) * given)
  d_a, d_weight = jax.grad(loss, (0, 1))(a, weight)
  exact = np.asarray(a, np.float64).T @ np.asarray(given, np.float64)
  assert d_a.dtype == jnp.bfloat16 and d_weight.dtype == jnp.float32
  np.testing.assert_allclose(d_weight, exact, rtol=1e-5, atol=1e-5)


def test_a_mesh_that_does_not_fit_names_the_parameter():
  config, _, _ = tiny()
  mesh = sharding.make_mesh(1, 1, 8)
  with pytest.raises(UserError, match="params .*heads.*8 devices"):
    sharding.shardings(param_specs(config), mesh)


def test_a_mesh_that_does_not_fit_the_devices():
  with pytest.raises(UserError, match="3x1x2 .* 8 devices"):
    sharding.make_mesh(3, 1, 2)
  with pytest.raises(UserError, match="mesh.fsdp"):
    sharding.make_mesh(1, 0, 2)
  assert sharding.make_mesh(-1, 2, 2).shape["data"] == 2


def test_rules_that_collide_are_an_error():
  config, _, _ = tiny()
  rules = sharding.RULES[:1] + (("embed", "tensor"),) + sharding.RULES[2:]
  with pytest.raises(UserError, match="one mesh axis"):
    sharding.shardings(param_specs(config), sharding.make_mesh(4, 1, 2), rules)
