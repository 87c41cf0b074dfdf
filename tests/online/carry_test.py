"""A carry's layout on a mesh, which its updates keep."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from jalign.models import param_specs
from jalign.online import (
  Carry,
  beside_carry,
  carry_shardings,
  init_carry,
  make_finish,
)
from jalign.sharding import make_mesh, shardings
from jalign.training.checkpoint import Checkpoints
from jalign.training.state import init_state, state_shardings
from tests.models.tiny import tiny


def _begin(params):
  return {
    "copy": params,
    "pool": jax.tree.map(lambda x: jnp.stack([x, 0 * x]), params),
    "number": 1.0,
    "history": jnp.zeros(3),
  }


def _go_on(carry, taken):
  return carry | {
    "copy": taken.params,
    "pool": jax.tree.map(
      lambda pool, new: jnp.stack([new, pool[0]]), carry["pool"], taken.params
    ),
    "number": carry["number"] + taken.statistics["train/loss"],
  }


CARRY = Carry(_begin, _go_on)


@jax.jit
def _halve(params, sums):
  return jax.tree.map(lambda x: x / 2, params), sums


def _update(state, batch, ref_params, frozen):
  del batch, ref_params, frozen
  sums = {"loss": (jnp.float32(6), jnp.float32(2))}
  params, sums = _halve(state.params, sums)
  return state.replace(params=params), sums


@pytest.fixture(name="placed", scope="module")
def _placed():
  config, _, params = tiny()
  mesh = make_mesh(data=1, fsdp=2, tensor=1, devices=jax.devices()[:2])
  where = shardings(param_specs(config), mesh, config.rules)
  laid = carry_shardings(CARRY, params, where, mesh)
  optimizer = optax.sgd(1.0)
  placement = state_shardings(optimizer, params, where, mesh)
  return params, where, laid, init_state(params, optimizer, placement)


def test_copies_lie_where_the_parameters_lie(placed):
  params, where, laid, _ = placed
  assert laid["copy"] == where
  assert any(tuple(s.spec) != () for s in jax.tree.leaves(where))
  for spec, own in zip(jax.tree.leaves(laid["pool"]), jax.tree.leaves(where)):
    assert spec.spec == PartitionSpec(None, *own.spec)
  for name in ("number", "history"):
    assert laid[name].spec == PartitionSpec()


def test_a_nan_that_is_kept_is_told_and_infinity_is_not(placed):
  _, _, _, state = placed

  def sound(number):
    carry = Carry(
      lambda params: {"number": jnp.float32(0), "count": jnp.int32(0)},
      lambda old, taken: old | {"number": jnp.float32(number)},
    )
    begun = state.replace(carry=init_carry(carry, state.params))
    one_update = {"loss": (jnp.float32(1), jnp.float32(1))}
    return bool(make_finish(carry)(begun, {}, [one_update])[1])

  assert sound(1.0) and sound(float("-inf")) and not sound(float("nan"))


def test_a_step_leaves_the_layout_and_no_shared_memory(placed, tmp_path):
  params, where, laid, state = placed
  carry = init_carry(CARRY, state.params, laid)
  assert not carry["number"].weak_type
  state = state.replace(carry=carry)
  step = beside_carry(_update, lambda carry, start: carry["copy"])
  finish = make_finish(CARRY, laid)
  for _ in range(2):
    state, sums = step(state, None, None)
    state, sound = finish(state, {}, [sums, sums])
    assert sound
    found = jax.tree.map(lambda x: x.sharding, state.carry)
    assert jax.tree.all(
      jax.tree.map(
        lambda a, b, x: a.is_equivalent_to(b, x.ndim), found, laid, state.carry
      )
    )
  assert int(state.step) == 2 and float(state.carry["number"]) == 1 + 3 + 3
  for copy, pool, own, start in zip(
    *(
      jax.tree.leaves(tree)
      for tree in (
        state.carry["copy"],
        state.carry["pool"],
        state.params,
        params,
      )
    )
  ):
    np.testing.assert_array_equal(copy, own)
    np.testing.assert_array_equal(pool[0], start / 4)
    np.testing.assert_array_equal(pool[1], start / 2)
    # So an update may donate its parameters.
    mine = {s.data.unsafe_buffer_pointer() for s in copy.addressable_shards}
    theirs = {s.data.unsafe_buffer_pointer() for s in own.addressable_shards}
    assert not mine & theirs
  # A checkpoint restores the carry with its layout.
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(state, data=None, meta={})
  checkpoints.wait()
  back = checkpoints.restore(state).state
  jax.tree.map(np.testing.assert_array_equal, back, state)
  shapes = checkpoints.meta()["shapes"]["optimizer"]
  assert "['carry']['number']" in shapes
  checkpoints.close()


def test_an_update_takes_its_reference_from_the_carry(placed):
  *_, state = placed
  given = []

  def update(state, *arguments):
    given.append((state.carry, *arguments))
    return state, {}

  of_both = lambda carry, start: (carry["copy"], start)
  state = state.replace(carry={"copy": "carried"})
  after, _ = beside_carry(update, of_both)(state, "batch", "start", "frozen")
  assert given == [((), "batch", ("carried", "start"), "frozen")]
  assert after.carry == {"copy": "carried"}
