"""Names of topologies, such as v5e:8x8 and h200:8, and their devices."""

import math
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from jalign.errors import UserError, nearest
from jalign.plan.chips import CHIPS, Chip, chip_of

LOCAL = "local"
_EXAMPLES = (
  *("v5e:2x2", "v5e:2x4", "v5e:4x4", "v5e:4x8", "v5e:8x8", "v5e:16x16"),
  *("v6e:2x2", "v6e:2x4", "v6e:4x4", "v6e:8x8", "v6e:16x16"),
  *("v4:2x2x1", "v4:4x4x4", "tpu7x:2x2x1", "tpu7x:4x4x4"),
  *("v5p:2x2x1", "v5p:2x2x2", "v5p:2x2x4", "v5p:4x4x4", "v5p:4x4x8"),
  *("a100:8", "h100:8", "h200:1", "h200:8", "h200:2x8", LOCAL),
)


class Topology(NamedTuple):
  """Devices to plan for.

  Attributes:
    name: the name that was asked for.
    devices: the devices, which need not be there.
    chip: published figures of each.
    hosts: number of hosts.
  """

  name: str
  devices: Sequence[Any]
  chip: Chip
  hosts: int


def platform_of(name: str) -> str:
  """ "tpu", "gpu" or "local" for a topology's name, without importing jax.

  Raises:
    UserError: the name isn't one of a topology; the error names close ones.
  """
  if name == LOCAL:
    return LOCAL
  chip, _, shape = name.partition(":")
  if chip not in CHIPS or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape):
    raise _unknown(name)
  return CHIPS[chip].platform


def topology(name: str) -> Topology:
  """The devices of a topology.

  Args:
    name: CHIP:SHAPE, where the shape of TPUs is that of their slice and that of
      GPUs their number, or HOSTSxGPUS; or "local", the devices of this machine.

  Raises:
    UserError: there is no such topology, or its compiler isn't there.
  """
  platform = platform_of(name)
  if platform == LOCAL:
    return _local()
  from jax.experimental import topologies

  chip_name, _, shape = name.partition(":")
  chip, sizes = CHIPS[chip_name], [int(n) for n in shape.split("x")]
  if platform == "gpu":
    from jalign.plan.targets import target

    if len(sizes) > 2:
      raise _unknown(name)
    hosts, each = (1, *sizes)[-2:]
    described = topologies.get_topology_desc(
      platform="cuda",
      target_config=target(chip),
      topology=f"1x{hosts}x{each}",
    )
    return Topology(name, described.devices, chip, hosts)
  options: dict[str, Any] = {}
  if math.prod(sizes) < 4:  # a part of a host's 2 x 2 chips
    options["chips_per_host_bounds"] = (*sizes, 1, 1)[:3]
  if chip_name == "v4":  # one device a chip, as on the machines
    options["chip_config_name"] = "megacore"
  try:
    described = topologies.get_topology_desc(
      platform="tpu", topology_name=name, **options
    )
  except Exception as e:  # whatever the compiler raises
    raise _unknown(name) from e
  devices: Sequence[Any] = described.devices
  hosts = len({device.process_index for device in devices})
  return Topology(name, devices, chip, hosts)


def _local() -> Topology:
  import jax

  devices = jax.devices()
  device, kind = devices[0], devices[0].device_kind
  chip = chip_of(kind)
  usable = _memory(device) / (len(devices) if _on_cpu(device) else 1)
  if chip is not None and usable:
    chip = chip._replace(usable=usable)
  if chip is None:
    platform = {"cuda": "gpu", "rocm": "gpu"}.get(
      device.platform, device.platform
    )
    chip = Chip(kind, platform, kind, 0, usable, usable, 0, 0)
  return Topology(LOCAL, devices, chip, jax.process_count())


def _on_cpu(device: Any) -> bool:
  return device.platform == "cpu"


def _memory(device: Any) -> float:
  """Bytes that a device lets a process take."""
  if _on_cpu(device):
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  return (device.memory_stats() or {}).get("bytes_limit", 0)


def _unknown(name: str) -> UserError:
  return UserError(
    f"there is no topology {name!r}.",
    where="--topology",
    remedy=f"{nearest(name, _EXAMPLES)} A slice of TPUs is written as its shape"
    " in chips, and GPUs as their number or as HOSTSxGPUS.",
  )
