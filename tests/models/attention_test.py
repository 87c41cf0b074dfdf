"""Attention kernels equal the reference; the choice between them; lowering.

No kernel of a GPU or a TPU runs here. Pallas kernels are interpreted, and jax's
own implementation of the same call replaces cuDNN. Programs for the other
platforms are lowered, which checks shapes, types and layouts.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import sharding
from jalign.errors import UserError
from jalign.models import attention, cached, kernels, param_specs, query_blocks
from tests.models.tiny import tiny

B, H, G, E, S = 2, 6, 2, 16, 256
LENGTHS = jnp.array([5, 200], jnp.int32)
INTERPRETED = {
  name: functools.partial(getattr(kernels, name), interpret=True)
  for name in ("split_k", "splash", "splash_step")
} | {"cudnn": functools.partial(kernels.cudnn, implementation="xla")}
STEPS = {
  "cudnn": lambda q, k, v, n: INTERPRETED["cudnn"](q, k, v, lengths=n),
  "split_k": INTERPRETED["split_k"],
  "splash_step": INTERPRETED["splash_step"],
}


def arrays(length, slots=S, heads=H, dtype="float32"):
  keys = jax.random.split(jax.random.key(0), 3)
  shapes = (B, length, heads, E), (B, G, slots, E), (B, G, slots, E)
  return [2 * jax.random.normal(k, s, dtype) for k, s in zip(keys, shapes)]


def oracle(q, k, v, mask):
  """Attention in float64, row by row and head by head."""
  q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
  out = np.zeros(q.shape)
  ratio = q.shape[2] // k.shape[1]
  for b, h in np.ndindex(q.shape[0], q.shape[2]):
    scores = q[b, :, h] @ k[b, h // ratio].T / q.shape[-1] ** 0.5
    scores = np.where(mask[b], scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    out[b, :, h] = weights @ v[b, h // ratio]
    out[b, :, h] /= weights.sum(-1, keepdims=True)
  return out


def causal(length, ids=None):
  order = np.arange(length)
  mask = np.broadcast_to(order[:, None] >= order, (B, length, length))
  return mask if ids is None else mask & (ids[:, :, None] == ids[:, None])


def test_the_reference_equals_a_loop():
  q, k, v = arrays(7, 9)
  mask = np.arange(9) <= np.arange(7)[:, None] + np.array([0, 2])[:, None, None]
  got = attention.reference(q, k, v, mask)
  np.testing.assert_allclose(got, oracle(q, k, v, mask), atol=2e-6)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("heads", [2, 6, 32])
def test_steps_equal_the_reference(name, heads):
  q, k, v = arrays(1, heads=heads)
  mask = (np.arange(S) < LENGTHS[:, None])[:, None]
  got = jax.jit(STEPS[name])(q, k, v, LENGTHS)
  np.testing.assert_allclose(got, oracle(q, k, v, mask), atol=3e-6)


@pytest.mark.parametrize("slots", [16, 48, 128, 384, 1152])
def test_a_cache_of_any_blocks_is_split(slots):
  q, k, v = arrays(1, slots)
  lengths = jnp.array([1, slots], jnp.int32)
  mask = (np.arange(slots) < lengths[:, None])[:, None]
  got = jax.jit(INTERPRETED["split_k"])(q, k, v, lengths)
  np.testing.assert_allclose(got, oracle(q, k, v, mask), atol=1e-5)


@pytest.mark.parametrize("name", ["cudnn", "splash"])
@pytest.mark.parametrize("length, packed", [(10, False), (130, True)])
def test_sequences_and_gradients_equal_the_reference(name, length, packed):
  q, k, v = arrays(length, length)
  ids = jnp.arange(length) // 4 * jnp.array([[0], [1]]) if packed else None
  mask = causal(length, ids)
  if name == "splash":
    kernel = lambda *x: INTERPRETED[name](*x, segment_ids=ids)
  elif packed:
    kernel = lambda *x: INTERPRETED[name](*x, mask)
  else:
    kernel = lambda *x: INTERPRETED[name](*x, causal=True)
  weights = jax.random.normal(jax.random.key(5), q.shape)

  @functools.partial(jax.jit, static_argnums=0)
  def pulled(f, *x):
    out, pull = jax.vjp(f, *x)
    return out, pull(weights)

  out, got = pulled(kernel, q, k, v)
  np.testing.assert_allclose(out, oracle(q, k, v, mask), atol=5e-6)
  plain = lambda *x: attention.reference(*x, mask)
  for a, b in zip(got, pulled(plain, q, k, v)[1]):
    np.testing.assert_allclose(a, b, atol=3e-5)


def test_a_chunk_onto_a_cache_with_lengths_and_a_mask():
  q, k, v = arrays(4)
  positions = LENGTHS[:, None] + jnp.arange(4)
  mask = np.arange(S) <= positions[:, :, None]
  got = jax.jit(INTERPRETED["cudnn"])(q, k, v, mask, positions[:, -1] + 1)
  np.testing.assert_allclose(got, oracle(q, k, v, mask), atol=3e-6)


# -------------------------------------------------------- in place in a model


@pytest.fixture
def elsewhere(monkeypatch):
  """Chooses kernels as on another platform, and makes them run here."""

  def become(platform):
    for module in (attention, cached):
      monkeypatch.setattr(module, "platform", lambda: platform)
    ran = []

    def recorded(name):
      def kernel(*args, **kwargs):
        ran.append(name)
        return INTERPRETED[name](*args, **kwargs)

      return kernel

    for name in INTERPRETED:
      monkeypatch.setattr(kernels, name, recorded(name))
    return ran

  return become


CASES = [
  # platform, attention, dtype: in training, in chunks and steps
  ("gpu", "auto", "bfloat16", {"cudnn"}, {"cudnn"}),
  ("gpu", "cudnn", "bfloat16", {"cudnn"}, {"cudnn"}),
  ("gpu", "pallas", "float32", set(), {"split_k"}),
  ("gpu", "pallas", "bfloat16", {"cudnn"}, {"cudnn", "split_k"}),
  ("gpu", "auto", "float32", set(), set()),
  ("tpu", "auto", "float32", {"splash"}, {"splash"}),
  ("tpu", "pallas", "float32", {"splash"}, {"splash", "splash_step"}),
  ("cpu", "auto", "float32", set(), set()),
]


def run(model, params, prompts, lengths, tokens):
  """Hidden states, and logits of a prefill, a ragged chunk and a step."""
  hidden = model.forward(params, prompts)
  cache = model.init_cache(params, len(prompts), 20)
  a, cache = model.extend(params, prompts, lengths, cache)
  b, cache = model.extend(params, tokens, lengths % 3 + 1, cache)
  c, _ = model.extend(params, tokens[:, :1], jnp.ones_like(lengths), cache)
  return hidden, a, b, c


def compiled(model, *args):
  return jax.jit(functools.partial(run, model))(*args)


@functools.lru_cache
def on_the_reference(dtype):
  _, plain, params = tiny(attention="xla", dtype=dtype, num_hidden_layers=1)
  return params, compiled(plain, params, *example())


def example():
  prompts = jax.random.randint(jax.random.key(1), (2, 8), 0, 64)
  tokens = jax.random.randint(jax.random.key(2), (2, 3), 0, 64)
  return prompts, jnp.array([3, 8]), tokens


@pytest.mark.parametrize("platform, name, dtype, whole, cached", CASES)
def test_models_equal_on_every_platform(
  elsewhere, platform, name, dtype, whole, cached
):
  params, want = on_the_reference(dtype)
  ran = elsewhere(platform)
  _, model, _ = tiny(attention=name, dtype=dtype, num_hidden_layers=1)
  jax.eval_shape(functools.partial(model.forward), params, example()[0])
  assert set(ran) == whole
  got = compiled(model, params, *example())
  assert set(ran) == whole | cached
  # Kernels round to bfloat16 at different places.
  atol = 2e-5 if dtype == "float32" else 0.15
  for a, b in zip(got, want):
    a, b = np.float32(a), np.float32(b)
    assert np.abs(a - b).max() < atol
    assert np.abs(a - b).mean() < 0.1 * atol


@pytest.mark.parametrize(
  "platform, name", [("gpu", "pallas"), ("tpu", "pallas"), ("gpu", "cudnn")]
)
def test_kernels_run_on_the_rows_and_heads_of_a_device(
  elsewhere, platform, name
):
  dtype = "bfloat16" if name == "cudnn" else "float32"
  # Four rows, two on each of the devices of a column.
  prompts, lengths, tokens = jax.tree.map(
    lambda x: jnp.concatenate([x, x]), example()
  )
  params, want = on_the_reference(dtype)
  want = [jnp.concatenate([x, x]) for x in want]
  elsewhere(platform)
  config, model, _ = tiny(attention=name, dtype=dtype, num_hidden_layers=1)
  mesh = sharding.make_mesh(2, 2, 2)
  specs = sharding.shardings(param_specs(config), mesh)
  with jax.set_mesh(mesh):
    placed = jax.device_put(params, specs)
    got = compiled(model, placed, prompts, lengths, tokens)
  atol = 2e-5 if dtype == "float32" else 0.15
  for a, b in zip(got, want):
    np.testing.assert_allclose(np.float32(a), np.float32(b), atol=atol)


# ----------------------------------------------------------------- the choice


@pytest.mark.parametrize("soft_cap", [0.0, 2.0])
def test_blocks_of_queries_equal_whole_sequences(monkeypatch, soft_cap):
  monkeypatch.setattr(query_blocks, "QUERIES", 8)
  keys = jax.random.split(jax.random.key(0), 4)
  q = jax.random.normal(keys[0], (2, 32, 4, 8))
  k, v = (jax.random.normal(key, (2, 2, 32, 8)) for key in keys[1:3])
  mask = jnp.tril(jnp.ones((32, 32), bool)) & jnp.array([True, False])[
    :, None, None
  ] | jnp.eye(32, dtype=bool)
  attend = functools.partial(attention.reference, soft_cap=soft_cap)
  blocks = functools.partial(query_blocks.attend, attend)
  weights = jax.random.normal(keys[3], q.shape)

  def total(attend):
    return lambda *arrays: jnp.sum(weights * attend(*arrays, mask))

  np.testing.assert_allclose(
    blocks(q, k, v, mask), attend(q, k, v, mask), atol=1e-6
  )
  for found, wanted in zip(
    *(jax.grad(total(f), (0, 1, 2))(q, k, v) for f in (blocks, attend))
  ):
    np.testing.assert_allclose(found, wanted, atol=2e-6)
  # No array has the scores of all queries.
  text = jax.jit(jax.grad(total(blocks))).lower(q, k, v).as_text()
  assert "2x2x64x32xf32" not in text and "2x2x16x32xf32" in text


def test_names_are_listed():
  with pytest.raises(UserError, match="model.attention.*auto.*xla.*pallas"):
    tiny(attention="flash")


@pytest.mark.parametrize("name", ["cudnn", "pallas"])
def test_what_a_platform_lacks_is_an_error_only_if_asked_for(name):
  _, model, params = tiny(attention=name)
  with pytest.raises(UserError, match=f"{name}.*cpu"):
    jax.eval_shape(model.forward, params, jnp.zeros((1, 4), jnp.int32))


@pytest.mark.parametrize(
  "changes, reason",
  [
    (dict(), "float32"),
    (dict(dtype="bfloat16", cache_dtype="int8"), "int8"),
    (dict(dtype="bfloat16", head_dim=12), "multiple of 8"),
  ],
)
def test_what_a_kernel_lacks_is_an_error_only_if_asked_for(
  elsewhere, changes, reason
):
  ran = elsewhere("gpu")
  _, model, params = tiny(attention="cudnn", **changes)
  with pytest.raises(UserError, match=f"cannot do this.*{reason}"):
    jax.eval_shape(functools.partial(run, model), params, *example())
  ran.clear()
  _, model, params = tiny(attention="auto", **changes)
  jax.eval_shape(functools.partial(run, model), params, *example())
  assert set(ran) <= ({"cudnn"} if "cache_dtype" in changes else set())


def test_a_mask_beyond_segments_is_not_left_to_kernels_that_cannot(elsewhere):
  config, _, _ = tiny()
  q, k, v = arrays(8, 8)
  mask = jnp.asarray(causal(8)).at[:, :, 3].set(False).at[:, 3, 3].set(True)
  ran = elsewhere("tpu")
  attend = jax.jit(lambda *x: attention.over_sequence(*x, config))
  got = attend(q, k, v, mask)
  assert not ran
  np.testing.assert_allclose(got, oracle(q, k, v, mask), atol=3e-6)
  ran = elsewhere("gpu")
  half = [x.astype(jnp.bfloat16) for x in (q, k, v)]
  got = attend(*half, mask)
  assert ran == ["cudnn"]
  np.testing.assert_allclose(np.float32(got), oracle(*half, mask), atol=0.05)


# ------------------------------------------------------------------- lowering


def lowered(function, platform, *args):
  traced = jax.jit(function).trace(*args)
  return traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pallas_kernels_lower(dtype):
  step = arrays(1, 384, dtype=dtype)
  assert "triton" in lowered(kernels.split_k, "cuda", *step, LENGTHS)
  custom = "tpu_custom_call"
  assert custom in lowered(kernels.splash_step, "tpu", *step, LENGTHS)
  whole = arrays(130, 130, dtype=dtype)
  ids = jnp.zeros((B, 130), jnp.int32)
  loss = lambda *x: jnp.sum(kernels.splash(*x).astype(jnp.float32))
  gradient = jax.grad(loss, (0, 1, 2))
  # One kernel of the forward pass and two of the backward pass.
  assert lowered(gradient, "tpu", *whole, ids).count(custom) >= 3


def test_cudnn_lowers(monkeypatch):
  inside = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
  if not hasattr(inside, "check_cudnn_version"):
    pytest.skip("jax asks for cuDNN in another way")
  monkeypatch.setattr(inside, "check_cudnn_version", lambda: 91100)
  q, k, v = arrays(8, dtype="bfloat16")
  mask = jnp.ones((B, 8, S), bool)
  for args, kwargs in (
    ((q, k, v, mask, LENGTHS), {}),
    ((q[:, :1], k, v, None, LENGTHS), {}),
    ((q, k[:, :, :8], v[:, :, :8]), dict(causal=True)),
  ):
    f = functools.partial(kernels.cudnn, **kwargs)
    assert "fmha" in lowered(f, "cuda", *args)
  loss = lambda *x: jnp.sum(kernels.cudnn(*x).astype(jnp.float32))
  gradient = jax.grad(loss, (0, 1, 2))
  text = lowered(gradient, "cuda", q, k[:, :, :8], v[:, :, :8])
  assert "Backward" in text


@pytest.mark.skipif(
  jax.default_backend() not in ("gpu", "tpu"),
  reason="runs kernels of a GPU or a TPU, and there is none",
)
@pytest.mark.parametrize("name", ["auto", "cudnn", "pallas"])
def test_the_platform_s_own_kernels_equal_the_reference(name):
  if name == "cudnn" and jax.default_backend() != "gpu":
    pytest.skip("cuDNN is on GPUs")
  changes = dict(dtype="bfloat16", head_dim=64)
  _, plain, params = tiny(attention="xla", **changes)
  _, model, _ = tiny(attention=name, **changes)
  want, got = (run(m, params, *example()) for m in (plain, model))
  for a, b in zip(got, want):
    assert np.abs(np.float32(a) - np.float32(b)).max() < 0.15
