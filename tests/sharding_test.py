"""Which axes of a mesh split a dimension."""

import jax
import jax.numpy as jnp
import pytest

from jalign import sharding
from jalign.errors import UserError


@pytest.fixture(scope="module")
def mesh():
  return sharding.make_mesh(2, 2, 2)


def test_axes_split_what_they_divide(mesh):
  assert sharding.dividing("tensor", 4) is None  # there is no mesh
  with jax.set_mesh(mesh):
    assert sharding.dividing("tensor", 4) == "tensor"
    assert sharding.dividing("tensor", 3) is None
    assert sharding.dividing(sharding.BATCH_AXES, 8) == sharding.BATCH_AXES
    assert sharding.dividing(sharding.BATCH_AXES, 6) is None
    assert sharding.dividing(None, 6) is None
  with jax.set_mesh(sharding.make_mesh(8, 1, 1)):
    assert sharding.dividing("tensor", 4) is None  # of a single device


def test_an_array_is_pinned_along_what_divides_it(mesh):
  pin = jax.jit(lambda x: sharding.constrain(x, ("batch", "mlp")))
  with jax.set_mesh(mesh):
    whole, part = pin(jnp.zeros((8, 4))), pin(jnp.zeros((8, 3)))
  assert whole.sharding.shard_shape(whole.shape) == (2, 2)
  assert part.sharding.shard_shape(part.shape) == (2, 3)
  assert sharding.constrain(jnp.zeros((8, 3)), ("batch", "mlp")).shape == (8, 3)


def test_a_mesh_that_does_not_divide_a_parameter_names_it(mesh):
  class Spec:
    def __init__(self, shape, axes):
      self.shape, self.axes = shape, axes

  good = {"w": Spec((4, 6), ("embed", "mlp"))}
  laid = sharding.shardings(good, mesh)["w"]
  assert laid.shard_shape((4, 6)) == (2, 3)
  with pytest.raises(UserError, match="params b/w.*'mlp' has size 5"):
    sharding.shardings({"b": {"w": Spec((4, 5), ("embed", "mlp"))}}, mesh)
