"""Meshes of all kinds of devices; which axes of a mesh split a dimension."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
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


@dataclasses.dataclass(frozen=True)
class _Device:
  """A stand-in for a device that isn't there."""

  id: int
  coords: tuple = (0, 0, 0)
  device_kind: str = "TPU v6 lite"
  platform: str = "tpu"
  slice_index: int = 0
  core_on_chip: int = 0


def _chips(kind, shape, **kwargs):
  places = itertools.product(*(range(size) for size in shape[::-1]))
  return [_Device(i, p[::-1], kind, **kwargs) for i, p in enumerate(places)]


@pytest.mark.parametrize(
  ("kind", "shape"),
  [
    ("TPU v5 lite", (4, 4, 1)),
    ("TPU v6 lite", (4, 4, 1)),
    ("TPU v6 lite", (8, 8, 1)),
    ("TPU v5p", (4, 4, 4)),
    ("TPU v5p", (4, 4, 12)),
  ],
)
def test_every_mesh_keeps_the_tensor_axis_on_neighbouring_chips(kind, shape):
  devices = _chips(kind, shape)
  count = math.prod(shape)
  sizes = [i for i in range(1, count + 1) if count % i == 0]
  for tensor, fsdp in itertools.product(sizes, sizes):
    if count % (tensor * fsdp):
      continue
    mesh = sharding.make_mesh(-1, fsdp, tensor, devices=devices)
    assert mesh.devices.shape == (count // fsdp // tensor, fsdp, tensor)
    assert len(set(mesh.devices.flat)) == count
    groups = np.array([d.coords for d in mesh.devices.flat])
    groups = groups.reshape(-1, tensor, 3)
    sides = groups.max(axis=1) - groups.min(axis=1) + 1
    assert (sides.prod(axis=1) == tensor).all(), (fsdp, tensor)  # no hole


def test_slices_lie_along_the_data_axis():
  devices = [d for i in (1, 0) for d in _chips("TPU v5p", (4, 4, 1))]
  devices = [
    dataclasses.replace(d, id=i, slice_index=i // 16)
    for i, d in enumerate(devices)
  ]
  mesh = sharding.make_mesh(4, 4, 2, devices=devices)
  assert [{d.slice_index for d in part.flat} for part in mesh.devices] == [
    {0},
    {0},
    {1},
    {1},
  ]
  with pytest.raises(UserError, match="2 slices .* data=1 is no multiple of 2"):
    sharding.make_mesh(1, 16, 2, devices=devices)


def test_chips_that_are_no_block_are_refused():
  chips = _chips("TPU v6 lite", (4, 4, 1))
  with pytest.raises(UserError, match="1x6x1 .* can't be laid out on these 6"):
    sharding.make_mesh(1, 6, 1, devices=chips[:6])
  cores = [dataclasses.replace(d, core_on_chip=d.id % 2) for d in chips]
  with pytest.raises(UserError, match="one device a chip"):
    sharding.make_mesh(1, 8, 2, devices=cores)


def test_gpus_of_several_hosts_are_in_the_order_of_their_hosts():
  """JAX calls the hosts slices, and its own make_mesh refuses them."""
  gpus = [
    _Device(i, platform="gpu", device_kind="NVIDIA H100", slice_index=i // 8)
    for i in range(16)
  ]
  mesh = sharding.make_mesh(1, 2, 8, devices=gpus[::-1])
  assert [d.id for d in mesh.devices.flat] == list(range(16))


def test_a_scalar_lies_on_every_device_of_any_mesh():
  for count in (1, 4):
    mesh = sharding.make_mesh(devices=jax.devices()[:count])
    assert not any(sharding.rows_at(jnp.float32(1), mesh).spec)
    assert any(sharding.rows_at(jnp.zeros(4 * count), mesh).spec)
