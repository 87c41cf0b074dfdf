"""The places of devices in a mesh: neighbours in the network lie together."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.experimental import mesh_utils

from jalign.errors import UserError


def device_grid(sizes: tuple[int, ...], devices: Sequence[Any]) -> np.ndarray:
  """Devices in the order of a mesh.

  `jax.make_mesh` splits an axis of the network only on v5e, and refuses GPUs of
  several hosts and slices of TPUs.

  Args:
    sizes: devices along `data`, `fsdp` and `tensor`.
    devices: as many devices.

  Raises:
    UserError: the devices are no block of chips, or `data` isn't a multiple of
      the number of slices.
  """
  slices = {getattr(device, "slice_index", 0) for device in devices}
  count = len(slices) if devices[0].platform == "tpu" else 1
  if sizes[0] % count:
    raise UserError(
      f"the {count} slices of the TPU lie along the data axis, and"
      f" data={sizes[0]} is no multiple of {count}.",
      where="mesh.data",
      remedy=f"Choose data={count} or a multiple of it. Only the slow network"
      " between hosts connects slices, so fsdp and tensor stay within one.",
    )
  try:
    if count > 1:
      return mesh_utils.create_hybrid_device_mesh(
        (sizes[0] // count, *sizes[1:]),
        (count, 1, 1),
        devices,
        allow_split_physical_axes=True,
      )
    return mesh_utils.create_device_mesh(
      sizes, devices, allow_split_physical_axes=True
    )
  except (AssertionError, NotImplementedError, ValueError) as error:
    raise UserError(
      f"{'x'.join(map(str, sizes))} (data x fsdp x tensor) can't be laid out on"
      f" these {len(devices)} devices of kind {devices[0].device_kind}: they"
      " are no block of neighbouring chips without holes, one device a chip.",
      where="mesh",
      remedy="Take all devices of a slice, or of a box within it. A TPU v4 has"
      " one device a chip with the chip configuration 'megacore'.",
    ) from error
