"""Another mesh of the same devices, for decoding.

A step of decoding reads all weights, so a device should hold a part of them and
share it with many rows: more devices along `tensor` than training needs. On the
training mesh 1x256x1 each device would need a whole copy of the weights to
decode. The same devices as 1x64x4 need a quarter each.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh

from jalign.errors import UserError
from jalign.sharding import MESH_AXES

_TYPES = (AxisType.Auto,) * 3


def regrouped(mesh: Any, tensor: int) -> Any:
  """The same devices in the same order, with other sizes of the axes.

  Neighbours along `fsdp`, and then along `data`, become neighbours along
  `tensor`, or the other way round. So a program may take arrays that lie on the
  one mesh and compute on the other.

  Args:
    mesh: a mesh with the axes `jalign.sharding.MESH_AXES`, or its abstract
      mesh.
    tensor: devices along `tensor`; `data` stays as it is where the sizes allow
      that.

  Raises:
    UserError: `tensor` doesn't divide the number of devices.
  """
  if tensor < 1 or mesh.size % tensor:
    raise UserError(
      f"{tensor} doesn't divide the {mesh.size} devices of the mesh.",
      where="mesh.decode_tensor",
      remedy="Choose a divisor, or 0 to decode on the mesh of training.",
    )
  rest, data = mesh.size // tensor, mesh.shape["data"]
  data = rest if rest % data else data
  sizes = data, rest // data, tensor
  if isinstance(mesh, AbstractMesh):
    device = mesh.abstract_device
    return AbstractMesh(sizes, MESH_AXES, _TYPES, abstract_device=device)
  return Mesh(mesh.devices.reshape(sizes), MESH_AXES, axis_types=_TYPES)


@contextlib.contextmanager
def regroup(tensor: int) -> Iterator[Any]:
  """Within it, the current mesh has `tensor` devices along `tensor`.

  Outside of a mesh it changes nothing. It can't be entered within jit.

  Args:
    tensor: devices along `tensor`; 0 leaves the mesh as it is.

  Yields:
    The mesh that was current before; None if it still is.

  Raises:
    UserError: see `regrouped`.
  """
  home: Any = jax.sharding.get_mesh() if tensor else None
  if home is not None and home.empty:
    home = jax.sharding.get_abstract_mesh()
  if home is None or home.empty or home.shape["tensor"] == tensor:
    yield None
    return
  mesh = regrouped(home, tensor)
  abstract = isinstance(mesh, AbstractMesh)
  enter: Any = jax.sharding.use_abstract_mesh if abstract else jax.set_mesh
  with enter(mesh):
    yield home
