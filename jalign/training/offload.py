"""Arrays that wait in the memory of the host, off the accelerator's own.

A program gets such arrays as arguments of the memory kind "pinned_host" and
moves them to its devices itself; each process holds the parts of its own
devices.
"""

from typing import Any

import jax

from jalign.errors import UserError

HOST = "pinned_host"
PARTS = OPTIMIZER, START = "optimizer", "start"  # what a stage may keep there


def check(mesh: jax.sharding.Mesh, where: str) -> None:
  """Raises UserError if devices of the mesh can't reach a host's memory.

  Args:
    mesh: the mesh.
    where: the setting that asks for it.
  """
  device = mesh.devices.flat[0]
  try:
    kinds = [memory.kind for memory in device.addressable_memories()]
  except Exception:  # so do devices that are only planned for
    return
  if not kinds:
    # The compiler would leave everything in the device's memory, silently.
    raise UserError(
      f"{device.device_kind} devices that aren't there list no memory of their"
      " host, so that their compiler can't plan for it.",
      where=where,
      remedy="Leave it empty for the plan. A run on the devices may set it, and"
      " a plan for TPUs shows what it saves.",
    )
  if HOST not in kinds:
    raise UserError(
      f"{device.device_kind} has no memory {HOST!r} that programs could read:"
      f" it has {', '.join(kinds)}.",
      where=where,
      remedy="Leave it empty; optimizer.moments=bfloat16 saves memory on every"
      " backend.",
    )


def to_host(shardings: Any) -> Any:
  """The same shardings in the host's memory.

  What lies whole on each of several devices stays there: it is small, and XLA
  has no place for it in the host's memory.
  """

  def moved(at):
    whole = at.is_fully_replicated and len(at.device_set) > 1
    return at if whole else at.with_memory_kind(HOST)

  return jax.tree.map(moved, shardings)


def parked(tree: Any) -> Any:
  """Moves arrays, or shapes with shardings, to the host's memory."""

  def moved(x):
    at = to_host(x.sharding)
    if isinstance(x, jax.ShapeDtypeStruct):
      return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at)
    return jax.device_put(x, at)

  return jax.tree.map(moved, tree)


def on_device(tree: Any) -> Any:
  """Moves arrays out of the host's memory; keeps others as they are."""
  move = lambda x: (
    jax.device_put(x, jax.memory.Space.Device) if _on_host(x) else x
  )
  return jax.tree.map(move, tree)


def _on_host(x: Any) -> bool:
  return jax.typeof(x).memory_space == jax.memory.Space.Host
