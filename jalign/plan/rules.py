"""What the sharding rules make of each parameter on a mesh."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.sharding import AbstractMesh, PartitionSpec

from jalign.sharding import (
  MESH_AXES,
  RULES,
  Rules,
  axis_size,
  by_path,
  fault,
  mesh_axes,
)

# A tensor of fewer bytes costs no memory worth naming when it is whole.
LARGE = 16 * 2**20


def mesh_of(sizes: tuple[int, int, int]) -> AbstractMesh:
  """A mesh of those sizes without devices: data, fsdp, tensor."""
  return AbstractMesh(sizes, MESH_AXES)


class Shard(NamedTuple):
  """What a parameter becomes.

  Attributes:
    path: the parameter's path, such as "blocks/wq".
    shape: the parameter's shape.
    axes: a logical name, or None, for each axis.
    partition: the mesh axes that split each axis.
    shard: the shape that a device holds; rounded up where the mesh doesn't
      divide.
    bytes: bytes that a device holds.
    copies: devices that hold the same part, replicas of `data` left out.
    fault: why the mesh can't hold the parameter; "" if it can.
  """

  path: str
  shape: tuple[int, ...]
  axes: tuple[str | None, ...]
  partition: PartitionSpec
  shard: tuple[int, ...]
  bytes: int
  copies: int
  fault: str


def shards(
  specs: Any, mesh: Any, rules: Rules = RULES, dtype: Any = "float32"
) -> list[Shard]:
  """What each parameter of a tree becomes; faulty ones included.

  Args:
    specs: a tree of specs (`.shape`, `.axes`).
    mesh: the mesh, or whatever has the sizes of its axes in `.shape`.
    rules: logical axis -> mesh axes.
    dtype: dtype of the parameters.
  """
  rows = []
  for path, spec in by_path(specs).items():
    # One axis at a time: of two that collide Flax drops one.
    split = [mesh_axes((name,), rules)[0] for name in spec.axes]
    ways = [axis_size(mesh, axes) for axes in split]
    shard = tuple(-(-size // n) for size, n in zip(spec.shape, ways))
    devices = axis_size(mesh, ("fsdp", "tensor"))
    used = {
      name
      for axes in split
      for name in ((axes,) if isinstance(axes, str) else axes or ())
    }
    rows.append(
      Shard(
        path,
        tuple(spec.shape),
        tuple(spec.axes),
        PartitionSpec(*split),
        shard,
        math.prod(shard) * jnp.dtype(dtype).itemsize,
        devices // axis_size(mesh, tuple(used - {"data"})),
        fault(spec, mesh, rules),
      )
    )
  return rows


def bytes_a_device(
  specs: Any, mesh: Any, rules: Rules = RULES, dtype: Any = "float32"
) -> int:
  """Bytes of a tree of parameters on each device."""
  return sum(row.bytes for row in shards(specs, mesh, rules, dtype))


def remarks(rows: list[Shard], mesh: Any) -> list[str]:
  """Sentences on all that is wrong, or large and whole on several devices."""
  said = [
    f"params {row.path}: {row.fault}; {row.shape} can't be laid out."
    for row in rows
    if row.fault
  ]
  said += [
    f"params {row.path}: {row.copies} devices hold the same"
    f" {row.bytes / 2**20:,.0f} MiB; no rule splits {row.axes} any further."
    for row in rows
    if row.copies > 1 and row.bytes >= LARGE and not row.fault
  ]
  replicas = axis_size(mesh, "data")
  if replicas > 1:
    said.append(
      f"Each part is on {replicas} devices along data; along fsdp, a part"
      " would be on a single device."
    )
  return said


def text(rows: list[Shard], mesh: Any, rules: Rules, title: str) -> str:
  """The rules and a table with a line for each parameter, as text.

  Args:
    rows: from `shards`.
    mesh: the mesh of the rows.
    rules: logical axis -> mesh axes; () for a table alone.
    title: what the parameters are, with the mesh.
  """
  lines = [f"  {name} -> {_axes(axes)}" for name, axes in rules]
  if lines:
    lines = ["rule: logical axis -> mesh axes", *lines, ""]
  lines += [title]
  head = ("parameter", "shape", "logical axes", "split over", "a device", "MiB")
  cells = [head] + [
    (
      row.path,
      "x".join(map(str, row.shape)),
      ", ".join(name or "-" for name in row.axes),
      ", ".join(_axes(axes) for axes in row.partition),
      "x".join(map(str, row.shard)),
      f"{row.bytes / 2**20:,.1f}" + (" !" if row.fault else ""),
    )
    for row in rows
  ]
  widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
  lines += [
    "  ".join(cell.ljust(n) for cell, n in zip(row, widths)).rstrip()
    for row in cells
  ]
  total = sum(row.bytes for row in rows)
  lines += [f"{total / 2**20:,.1f} MiB a device in all", ""]
  return "\n".join([*lines, *remarks(rows, mesh)]).rstrip()


def _axes(axes: Any) -> str:
  if axes is None:
    return "-"
  return axes if isinstance(axes, str) else " x ".join(axes)
