"""Moments in bfloat16: unbiased, never frozen, and equal on every mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jalign import sharding
from jalign.errors import UserError
from jalign.training import moments
from jalign.training.checkpoint import Checkpoints
from jalign.training.offload import on_device
from jalign.training.optimizer import OptimizerConfig, make_optimizer
from jalign.training.state import init_state, state_shardings


def _optimizer(dtype, **kw):
  settings = dict(learning_rate=1e-2, schedule="constant") | kw
  return make_optimizer(OptimizerConfig(moments=dtype, **settings), 1000)


def _dtypes(state):
  return {x.dtype.name for x in jax.tree.leaves(state) if x.ndim}


def test_rounding_has_the_number_as_its_expectation():
  x = jnp.array([1.001, -3.14159, 1e-30, 0.0, -7e20, 2.0], jnp.float32)
  bits = jax.random.bits(jax.random.key(0), (20_000, x.size))
  drawn = np.asarray(moments.rounded(jnp.broadcast_to(x, bits.shape), bits))
  drawn = drawn.astype(np.float64)
  spread = drawn.std(0) / np.sqrt(len(drawn))
  assert np.all(np.abs(drawn.mean(0) - x) <= 5 * spread + 1e-12 * np.abs(x))
  for got, number in zip(drawn.T, np.asarray(x, np.float64)):
    # Two neighbours at most, on both sides of the number.
    assert len(np.unique(got)) <= 2
    assert got.min() <= number <= got.max()


def test_rounding_keeps_what_is_no_number():
  # The NaN of NVIDIA's arithmetic has every bit set.
  nan = np.array([0x7FFFFFFF, 0x7FC00000], np.uint32).view(np.float32)
  x = jnp.asarray(np.concatenate([nan, [np.inf, -np.inf]]))
  got = moments.rounded(x, jnp.full(x.shape, 0xFFFF, jnp.uint32))
  np.testing.assert_array_equal(got.astype(jnp.float32), x)


def test_a_second_moment_shrinks_at_the_rate_of_float32():
  """Rounded to the nearest, it would stay where it is for ever."""
  left = {}
  for dtype in moments.DTYPES:
    optimizer = _optimizer(dtype, b2=0.999, max_grad_norm=0.0)
    params = {"w": jnp.ones(256)}
    state = optimizer.init(params)
    step = jax.jit(optimizer.update)
    for i in range(500):
      grads = {"w": jnp.full(256, 1.0 if i == 0 else 0.0)}
      _, state = step(grads, state, params)
    assert _dtypes(state) == {dtype}
    left[dtype] = float(jnp.mean(state[1][0].nu["w"].astype(jnp.float32)))
  assert left["float32"] == pytest.approx(1e-3 * 0.999**499, rel=1e-3)
  assert left["bfloat16"] == pytest.approx(left["float32"], rel=0.01)


def test_training_ends_as_near_to_the_minimum():
  """A regression with noise, 300 steps; all that differs is the rounding."""
  key = jax.random.key(1)
  target = jax.random.normal(key, (64,))

  def end(dtype):
    optimizer = _optimizer(dtype, schedule="linear", final_fraction=0.0)
    params = {"w": jnp.zeros(64)}
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, i):
      rows = jax.random.normal(jax.random.fold_in(key, i), (16, 64))
      noise = jax.random.normal(jax.random.fold_in(key, -i), (16,))
      loss = lambda p: jnp.mean((rows @ (p["w"] - target) + noise) ** 2)
      updates, state = optimizer.update(jax.grad(loss)(params), state, params)
      return optax.apply_updates(params, updates), state

    for i in range(1000):
      params, state = step(params, state, i + 1)
    return params["w"]

  exact, low = end("float32"), end("bfloat16")
  distance = lambda w: float(jnp.linalg.norm(w - target))
  assert distance(exact) < 0.2 * distance(jnp.zeros(64))
  assert distance(low) == pytest.approx(distance(exact), rel=0.1)
  assert 0 < float(jnp.linalg.norm(low - exact)) < 0.2 * distance(exact)


def test_moments_of_bfloat16_parameters_are_float32_unless_asked():
  params = {"w": jnp.ones(8, jnp.bfloat16)}
  for dtype in moments.DTYPES:
    optimizer = _optimizer(dtype)
    state = optimizer.init(params)
    assert _dtypes(state) == {dtype}
    updates, state = optimizer.update(params, state, params)
    assert _dtypes(state) == {dtype}
    assert optax.apply_updates(params, updates)["w"].dtype == jnp.bfloat16


def test_every_mesh_rounds_alike_and_a_restored_run_goes_on(tmp_path):
  # Without clipping, whose norm is added up in another order on a mesh.
  optimizer = _optimizer("bfloat16", max_grad_norm=0.0)
  params = {"w": jax.random.normal(jax.random.key(2), (16, 8))}
  grads = lambda i: {"w": jax.random.normal(jax.random.key(i), (16, 8))}
  mesh = sharding.make_mesh(1, 4, 2)
  where = {"w": NamedSharding(mesh, PartitionSpec("fsdp", "tensor"))}
  laid = state_shardings(optimizer, params, where, mesh)

  @jax.jit
  def step(state, grads):
    updates, held = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state.replace(
      step=state.step + 1, params=params, opt_state=held
    ), updates

  single = init_state(params, optimizer)
  with jax.set_mesh(mesh):
    spread = init_state(params, optimizer, laid)
    moment = spread.opt_state[1][0].nu["w"]
    assert moment.sharding == where["w"] and moment.dtype == jnp.bfloat16
    spread, _ = step(spread, jax.device_put(grads(0), where))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(spread, data=None, meta={})
    checkpoints.close()
    spread, _ = step(spread, jax.device_put(grads(1), where))
  single, _ = step(single, grads(0))
  checkpoints = Checkpoints(tmp_path)
  restored = checkpoints.restore(single).state
  checkpoints.close()
  restored, _ = step(restored, grads(1))
  for a, b in zip(jax.tree.leaves(spread), jax.tree.leaves(restored)):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_offloaded_moments_stay_in_the_host_s_memory():
  optimizer = _optimizer("bfloat16")
  params = {"w": jnp.ones((16, 8)), "norm": jnp.ones(8)}
  mesh = sharding.make_mesh(1, 4, 2)
  where = {
    "w": NamedSharding(mesh, PartitionSpec("fsdp", "tensor")),
    "norm": NamedSharding(mesh, PartitionSpec()),
  }
  laid = state_shardings(optimizer, params, where, mesh, offload=True)
  state = init_state(params, optimizer, laid)

  @functools.partial(jax.jit, out_shardings=laid, donate_argnums=0)
  def step(state, grads):
    held = on_device(state.opt_state)
    _, held = optimizer.update(grads, held, state.params)
    return state.replace(opt_state=held)

  for _ in range(2):
    state = step(state, params)
    held = state.opt_state[1][0]
    for moment in (held.mu["w"], held.nu["w"]):
      assert moment.sharding.memory_kind == "pinned_host"
    for x in (held.count, held.mu["norm"], state.params["w"]):
      assert x.sharding.memory_kind == "device"


def test_an_unknown_dtype_names_its_key():
  with pytest.raises(UserError, match=r"optimizer\.moments: 'int8'"):
    OptimizerConfig(moments="int8")
