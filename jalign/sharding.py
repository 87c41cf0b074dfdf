"""Meshes, rules that map logical axes to mesh axes, and checks of both.

A parameter names its axes logically (`("embed", "heads", None)`), a table of
rules maps these names to mesh axes, and Flax translates. The mesh has three
axes:

  data    splits the rows of the batch; every device has all parameters
  fsdp    splits the rows of the batch too, and the parameters along `embed`
  tensor  splits heads, mlp and vocabulary; every device has all rows
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.linen import logical_to_mesh_axes
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jalign.device_grid import device_grid
from jalign.errors import UserError

Rules = tuple[tuple[str, Any], ...]

MESH_AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")
RULES: Rules = (
  ("batch", BATCH_AXES),
  ("embed", "fsdp"),
  ("heads", "tensor"),
  ("kv_heads", "tensor"),
  ("mlp", "tensor"),
  ("vocab", "tensor"),
)


def make_mesh(
  data: int = -1,
  fsdp: int = 1,
  tensor: int = 1,
  *,
  devices: Sequence[jax.Device] | None = None,
) -> Mesh:
  """Makes a mesh with axes `data`, `fsdp` and `tensor`; the compiler shards.

  On a TPU, the devices are ordered by their place in the network: the tensor
  axis, which communicates most, gets whole axes of the network where it can,
  and else a block of neighbouring chips; then `fsdp`, and `data` at the end.
  Slices of a TPU, which only the network between hosts connects, lie along
  `data`. GPUs are in the order of their hosts.

  Args:
    data: devices along `data`; -1 for as many as the other two axes leave.
    fsdp: devices along `fsdp`.
    tensor: devices along `tensor`.
    devices: devices to use; by default all devices of the default backend.

  Raises:
    UserError: a size is below 1, the product of the sizes isn't the number of
      devices, the devices are no block of chips, or `data` isn't a multiple of
      the number of slices.
  """
  devices = jax.devices() if devices is None else list(devices)
  sizes = {"data": data, "fsdp": fsdp, "tensor": tensor}
  for axis, size in sizes.items():
    if size < 1 and not (axis == "data" and size == -1):
      raise UserError(
        f"a mesh axis needs at least 1 device, not {size}.",
        where=f"mesh.{axis}",
      )
  if data == -1:
    sizes["data"] = max(len(devices) // (fsdp * tensor), 1)
  if math.prod(sizes.values()) != len(devices):
    raise UserError(
      f"{'x'.join(map(str, sizes.values()))} (data x fsdp x tensor) does not"
      f" make {len(devices)} devices.",
      where="mesh",
      remedy="Choose sizes whose product is the number of devices, or data=-1"
      " with fsdp * tensor a divisor of it.",
    )
  # The default of a mesh is explicit axes, on which a sharding constraint only
  # asserts.
  grid = device_grid(tuple(sizes.values()), devices)
  return Mesh(grid, MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def platform() -> str:
  """The platform that programs are compiled for: "cpu", "gpu" or "tpu".

  It is the platform of the current mesh, which may be of devices that aren't
  there (a program can be compiled for a TPU on a CPU); outside a mesh, that of
  the default backend.
  """
  mesh = jax.sharding.get_abstract_mesh()
  device = None if mesh.empty else mesh.abstract_device
  name = None if device is None else device.platform
  if name is None:
    return jax.default_backend()
  return {"cuda": "gpu", "rocm": "gpu"}.get(name, name)


def mesh_axes(axes: Sequence[str | None], rules: Rules) -> PartitionSpec:
  """Translates logical axis names to a PartitionSpec over mesh axes."""
  partition = logical_to_mesh_axes(tuple(axes), rules)
  return PartitionSpec() if partition is None else partition


def axis_names(axes: Any) -> tuple[str, ...]:
  """A mesh axis, a tuple of axes, or None, as a tuple of names."""
  if axes is None:
    return ()
  return (axes,) if isinstance(axes, str) else tuple(axes)


def axis_size(mesh: Any, axes: Any) -> int:
  """Number of devices along a mesh axis or a tuple of axes; 1 for None."""
  return math.prod(mesh.shape[name] for name in axis_names(axes))


def dividing(axes: Any, size: int) -> Any:
  """The mesh axes if they can split a dimension of this size, or else None.

  None, too, outside a mesh and where the axes have a single device.
  """
  mesh = jax.sharding.get_abstract_mesh()
  count = 1 if mesh.empty else axis_size(mesh, axes)
  return None if count == 1 or size % count else axes


def fault(spec: Any, mesh: Any, rules: Rules = RULES) -> str:
  """Why a mesh can't hold a parameter; "" if it can.

  Args:
    spec: the parameter's `.shape` and logical `.axes`.
    mesh: a mesh, or whatever has the sizes of its axes in `.shape`.
    rules: maps logical names to mesh axes.
  """
  used: list[str] = []
  for size, logical in zip(spec.shape, spec.axes):
    # One axis at a time: of two that collide Flax would silently drop one.
    axes = mesh_axes((logical,), rules)[0]
    if size % axis_size(mesh, axes):
      return (
        f"axis {logical!r} has size {size}, which the"
        f" {axis_size(mesh, axes)} devices of mesh axis {axes!r} don't divide"
      )
    used += [] if axes is None else [axes] if isinstance(axes, str) else axes
  if len(used) != len(set(used)):
    return f"the rules put two of its axes {spec.axes} on one mesh axis"
  return ""


def by_path(specs: Any) -> dict[str, Any]:
  """The specs of a tree by their paths, such as "blocks/wq"."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(
    specs, is_leaf=lambda x: hasattr(x, "axes")
  )
  name = lambda path: "/".join(str(getattr(k, "key", k)) for k in path)
  return {name(path): spec for path, spec in leaves}


def shardings(specs: Any, mesh: Mesh, rules: Rules = RULES) -> Any:
  """Maps a tree of specs (`.shape`, `.axes`) to a tree of NamedSharding.

  Raises:
    UserError: the devices of a mesh axis don't divide a dimension, or two
      dimensions of one parameter land on the same mesh axis; the error names
      all such parameters.
  """
  faults = {k: fault(spec, mesh, rules) for k, spec in by_path(specs).items()}
  faults = {k: why for k, why in faults.items() if why}
  if faults:
    (first, why), *others = faults.items()
    more = f". Nor can it hold {', '.join(k for k, _ in others)}"
    raise UserError(
      why + (more if others else "") + ".",
      where=f"params {first}",
      remedy="Choose a mesh that divides the model, or other rules.",
    )
  return jax.tree.map(
    lambda spec: NamedSharding(mesh, mesh_axes(spec.axes, rules)),
    specs,
    is_leaf=lambda x: hasattr(x, "axes"),
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """The sharding of a value that every device holds."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """The sharding of an array whose first axis is rows of the batch."""
  return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def laid(tree: Any, where: Any) -> Any:
  """Shapes with shardings, for programs that are compiled without arrays.

  Args:
    tree: arrays or shapes.
    where: a tree of shardings with the same structure.
  """
  return jax.tree.map(
    lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at),
    tree,
    where,
  )


def rows_at(x: Any, mesh: Mesh) -> NamedSharding:
  """The sharding that `place` gives to an array, of rows along its first axis.

  The rows are split over the batch axes; a scalar, and an array whose rows
  these don't divide, are put on every device.
  """
  split = x.ndim > 0 and x.shape[0] % axis_size(mesh, BATCH_AXES) == 0
  return batch_sharding(mesh) if split else replicated(mesh)


def place(tree: Any, mesh: Mesh) -> Any:
  """Puts a batch on the mesh, its rows split over the batch axes.

  Every process gives the whole batch, and only the rows that lie on its own
  devices are copied to them. So it makes no difference which rows the mesh puts
  on which process.

  Args:
    tree: arrays whose first axis is rows, also PRNG keys; the same on every
      process. They are on the host, or on the mesh already, where rows move
      between devices. They are laid as `rows_at` says.
    mesh: the mesh.
  """
  devices = set(mesh.devices.flat)

  def placed(x):
    on_devices = isinstance(x, jax.Array)
    if on_devices and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
      numbers = placed(jax.random.key_data(x))
      return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(x))
    there = on_devices and x.sharding.device_set == devices
    x = x if there else np.asarray(x)
    at = rows_at(x, mesh)
    if there:
      return jax.device_put(x, at)
    return jax.make_array_from_callback(x.shape, at, lambda index: x[index])

  return jax.tree.map(placed, tree)


def batch_ways() -> int:
  """Into how many parts the current mesh splits rows; 1 outside a mesh."""
  mesh = jax.sharding.get_abstract_mesh()
  return 1 if mesh.empty else axis_size(mesh, BATCH_AXES)


def spread(tree: Any) -> Any:
  """Places rows on the current mesh, as `place` does.

  Outside a mesh the arrays are put on the default device. Within a function
  that JAX traces they stay as they are: `constrain` is for these.

  Args:
    tree: arrays as `place` takes them.
  """
  if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(tree)):
    return tree
  if jax.sharding.get_abstract_mesh().empty:
    return jax.tree.map(jnp.asarray, tree)
  return place(tree, jax.sharding.get_mesh())


def fetch(tree: Any) -> Any:
  """Copies arrays to the host, whole, on every process.

  All processes must call this together if some array has parts on the devices
  of other processes: such arrays are gathered.

  Args:
    tree: arrays, on one or more processes; other leaves stay as they are.
  """
  leaves, form = jax.tree.flatten(tree)
  far = [
    i
    for i, x in enumerate(leaves)
    if isinstance(x, jax.Array)
    and not (x.is_fully_addressable or x.is_fully_replicated)
  ]
  if far:
    # One program for all arrays, not one for each.
    gathered = _gather(
      [leaves[i] for i in far], replicated(leaves[far[0]].sharding.mesh)
    )
    for i, x in zip(far, gathered):
      leaves[i] = x
  return jax.device_get(jax.tree.unflatten(form, leaves))


@functools.partial(jax.jit, static_argnums=1)
def _gather(arrays, where):
  return jax.lax.with_sharding_constraint(arrays, [where] * len(arrays))


def constrain(
  x: jax.Array,
  axes: Sequence[str | None],
  rules: Rules = RULES,
  mesh: Any = None,
) -> jax.Array:
  """Pins the layout of an intermediate array; the identity outside a mesh.

  A dimension whose size the mesh axes don't divide stays replicated, so that a
  single prompt can be decoded on any mesh.

  Args:
    x: the array.
    axes: a logical name, or None, for each axis of x.
    rules: maps logical names to mesh axes.
    mesh: a mesh of the same devices; the current mesh by default.
  """
  if mesh is None:
    mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return x
  partition = [
    None if size % axis_size(mesh, spec) else spec
    for size, spec in zip(x.shape, mesh_axes(axes, rules))
  ]
  at = NamedSharding(mesh, PartitionSpec(*partition))
  return jax.lax.with_sharding_constraint(x, at)
