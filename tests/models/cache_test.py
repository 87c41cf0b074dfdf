"""The int8 cache: its error, and that chunks, rows and meshes don't matter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import sharding
from jalign.decode import generate, sampler
from jalign.errors import UserError
from jalign.models import attention, param_specs
from jalign.models.cached import quantise
from tests.models.tiny import tiny

LENGTHS = jnp.array([20, 3, 11, 1, 7, 16, 2, 20])


def prompts():
  return jax.random.randint(jax.random.key(1), (8, 20), 0, 64)


def prefilled(model, params, cuts=()):
  """Logits and cache of the prompts, read in chunks cut at some columns."""
  cache = model.init_cache(params, 8, 24)
  logits = jnp.zeros((8, 64))
  for start, stop in zip((0, *cuts), (*cuts, 20)):
    counts = jnp.clip(LENGTHS - start, 0, stop - start)
    out, cache = model.extend(params, prompts()[:, start:stop], counts, cache)
    logits = jnp.where(counts[:, None] > 0, out, logits)
  return logits, cache


def compiled(model, params, cuts=()):
  f = functools.partial(prefilled, model, cuts=cuts)
  return jax.jit(f)(params)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_element_is_off_by_half_a_step_at_most(dtype):
  x = jax.random.normal(jax.random.key(0), (3, 5, 64), dtype)
  x = x * jnp.array([1e-20, 1.0, 1e20], dtype)[:, None, None]
  steps, scale = quantise(x.at[1, 2].set(0))
  assert steps.dtype == jnp.int8
  x = np.float64(x.at[1, 2].set(0))
  error = np.abs(np.float64(steps) * np.float64(scale)[..., None] - x)
  bound = np.abs(x).max(-1, keepdims=True) / 254
  assert (error <= bound * (1 + 1e-5)).all()
  assert error.max(-1)[0, 0] > 0.5 * bound[0, 0, 0]  # the bound is tight
  assert (np.abs(steps).max(-1) == 127).sum() == 14  # all but the zeros


def test_scales_multiply_scores_and_weights():
  keys = jax.random.split(jax.random.key(0), 3)
  q = jax.random.normal(keys[0], (2, 3, 6, 16))
  k, v = (jax.random.normal(key, (2, 2, 10, 16)) for key in keys[1:])
  k *= jnp.arange(1.0, 11)[:, None]
  mask = jnp.arange(10) <= jnp.arange(4, 7)[:, None] + jnp.zeros((2, 1, 1))
  (k8, ks), (v8, vs) = quantise(k), quantise(v)
  attend = jax.jit(attention.reference)
  got = attend(q, k8, v8, mask, (ks, vs))
  whole = [a * b[..., None] for a, b in ((k8, ks), (v8, vs))]
  want = attend(q, *whole, mask)
  np.testing.assert_allclose(got, want, atol=2e-6)


@pytest.mark.parametrize("spread, bound", [(0.02, 2e-3), (0.25, 1e-2)])
def test_the_stated_error_of_logits(spread, bound):
  _, plain, params = tiny(initializer_range=spread)
  _, model, _ = tiny(initializer_range=spread, cache_dtype="int8")
  want, got = (compiled(m, params)[0] for m in (plain, model))
  error = jnp.sqrt(jnp.mean((got - want) ** 2)) / jnp.std(want)
  assert 0.2 * bound < error < bound


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_chunks_do_not_matter(dtype):
  _, model, params = tiny(cache_dtype=dtype)
  (want, cache), (got, other) = (
    compiled(model, params, cuts) for cuts in ((), (7, 8, 13))
  )
  # A product in another order may round a key to the neighbouring step.
  np.testing.assert_allclose(got, want, atol=2e-2)
  assert jnp.abs(got - want).mean() < 1e-3
  np.testing.assert_array_equal(cache.lengths, other.lengths)


def test_the_cache_s_types_and_leading_axes():
  for dtype, count in (("int8", 4), ("bfloat16", 2), ("", 2)):
    _, model, params = tiny(cache_dtype=dtype)
    cache = model.init_cache(params, 8, 24)
    leaves = jax.tree.leaves(cache)
    assert len(leaves) == count * 2 + 1
    assert all(leaf.shape[0] == 8 for leaf in leaves)
    assert cache.k[0].dtype == cache.v[1].dtype == (dtype or "float32")
  with pytest.raises(UserError, match="model.cache_dtype.*int8"):
    tiny(cache_dtype="int4")


def test_int8_decodes_the_same_on_a_mesh():
  config, model, params = tiny(cache_dtype="int8")
  keys = jax.random.split(jax.random.key(2), 8)
  run = functools.partial(
    generate,
    model,
    prompt_lengths=LENGTHS,
    keys=keys,
    max_new_tokens=6,
    stop_ids=(3,),
    draw=sampler(temperature=0),
  )
  want = run(params, prompts())
  mesh = sharding.make_mesh(2, 2, 2)
  with jax.set_mesh(mesh):
    specs = sharding.shardings(param_specs(config), mesh)
    got = run(jax.device_put(params, specs), prompts())
  np.testing.assert_array_equal(got.sequences.tokens, want.sequences.tokens)
  np.testing.assert_allclose(got.logps, want.logps, atol=2e-2)
