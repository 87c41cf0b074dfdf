"""Reads parts of a checkpoint's tensors onto the devices that hold them."""

import collections
import functools

import jax
import numpy as np
from jax.sharding import AxisType

from jalign.models.hf.shards import Shards, not_finite
from jalign.models.hf.tensors import Place


def read(
  shards: Shards,
  place: Place,
  shape: tuple[int, ...],
  sharding: jax.sharding.Sharding,
  dtype: str,
  bad: collections.Counter,
) -> jax.Array:
  """Reads a parameter; for each device only its own part is read.

  One layer at a time goes to the devices, so that the host never holds the
  stack of all layers.

  Args:
    shards: the files.
    place: where the parameter is in the files.
    shape: shape of the parameter.
    sharding: sharding that the parameter gets.
    dtype: dtype that the parameter gets.
    bad: counts values that aren't finite, by the name of their tensor; it is
      updated.
  """
  stacked = len(place.stack)
  devices: dict[tuple, list[jax.Device]] = {}  # replicas are read once
  for device, index in sharding.addressable_devices_indices_map(shape).items():
    ranges = tuple(
      (s.start or 0, n if s.stop is None else s.stop)
      for s, n in zip(index or (), shape)
    )
    devices.setdefault(ranges, []).append(device)
  arrays: dict[jax.Device, jax.Array] = {}
  alone = {
    d: jax.make_mesh((1,), ("one",), (AxisType.Auto,), devices=[d])
    for alike in devices.values()
    for d in alike
  }
  for ranges, alike in devices.items():
    sizes = tuple(stop - start for start, stop in ranges)

    def cut(at, ranges=ranges):
      index = (start + i for i, (start, _) in zip(at, ranges))
      name = place.name.format(*index)
      part = _cut(shards, name, place, shape[stacked:], ranges[stacked:])
      bad[name] += not_finite(part, dtype)
      return part

    if not stacked:
      with np.errstate(over="ignore", invalid="ignore"):  # `cut` counts these
        part = cut(()).reshape(sizes).astype(dtype, copy=False)
      arrays |= {d: jax.device_put(part, d) for d in alike}
      continue
    for device in alike:
      arrays[device] = jax.numpy.empty(sizes, dtype, device=device)
    for at in np.ndindex(*sizes[:stacked]):
      part = cut(at)
      for d in alike:
        # A mesh of other devices around this call would raise an error.
        with jax.set_mesh(alone[d]):
          arrays[d] = _put(
            arrays[d], jax.device_put(part, d), at, place.transposed
          )
      # Without waiting, parts would pile up in memory.
      jax.block_until_ready([arrays[d] for d in alike])
  order = sharding.addressable_devices_indices_map(shape)
  return jax.make_array_from_single_device_arrays(
    shape, sharding, [arrays[device] for device in order]
  )


@functools.partial(jax.jit, donate_argnums=0, static_argnums=3)
def _put(whole, part, at, transposed):
  """Writes a part of a tensor, laid out as in the file, to its place."""
  part = part.T if transposed else part
  part = part.reshape(whole.shape[len(at) :]).astype(whole.dtype)
  return whole.at[at].set(part)


def _cut(shards, name, place, shape, ranges):
  """Reads a part of a tensor, laid out as in the file."""
  view, inner = shards.slice(name), place.inner
  outer = _flat(ranges[inner:], shape[inner:], place.start)
  if not inner:
    return view[outer]
  columns = _flat(ranges[:inner], shape[:inner])
  return view[outer, columns] if place.transposed else view[columns, outer]


def _flat(ranges, shape, before=0):
  """The range of a flattened axis that ranges of several axes make."""
  assert all(r == (0, n) for r, n in zip(ranges[1:], shape[1:])), ranges
  inner = int(np.prod(shape[1:]))
  return slice(before + ranges[0][0] * inner, before + ranges[0][1] * inner)
