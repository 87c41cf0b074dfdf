"""Published figures of the chips that programs can be planned for.

Sources: Google's pages on the Cloud TPU versions, and NVIDIA's data sheets of
A100, H100 and H200 (dense figures, SXM boards).
"""

import os
from typing import NamedTuple

GIB = 2**30


class Chip(NamedTuple):
  """A chip's published figures.

  Attributes:
    name: as in the name of a topology.
    platform: "tpu", "gpu" or "cpu".
    kind: the chip's name in `jax.Device.device_kind`.
    flops: peak of bfloat16 products, FLOP/s; 0 where it isn't known.
    memory: bytes of its memory.
    usable: bytes that a program may take.
    bandwidth: bytes/s between memory and compute units; 0 for unknown.
    links: bytes/s that a chip can send to others of its slice or host, one way;
      0 for unknown.
  """

  name: str
  platform: str
  kind: str
  flops: float
  memory: float
  usable: float
  bandwidth: float
  links: float


def _tpu(name, kind, flops, memory, usable, bandwidth, links) -> Chip:
  return Chip(
    name, "tpu", kind, flops, memory * GIB, usable * GIB, bandwidth, links
  )


def _gpu(name, kind, flops, memory, bandwidth, links) -> Chip:
  # The share of a GPU's memory that jax reserves.
  share = float(os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.75"))
  memory *= GIB
  usable = memory * share
  return Chip(name, "gpu", kind, flops, memory, usable, bandwidth, links)


# What is usable on a TPU is what its compiler says in the error for a program
# that is too large. Google's pages give the links' bytes/s in both directions
# together; of v4, the paper of 2023 gives six links of 50 GB/s each way.
_CHIPS = (
  _tpu("v4", "TPU v4", 275e12, 32, 30.75, 1228e9, 6 * 50e9),
  _tpu("v5e", "TPU v5 lite", 197e12, 16, 15.75, 819e9, 400e9 / 2),
  _tpu("v5p", "TPU v5", 459e12, 95, 95.74, 2765e9, 1200e9 / 2),
  _tpu("v6e", "TPU v6 lite", 918e12, 32, 31.25, 1638e9, 800e9 / 2),
  # Two devices a chip, which share the chip's figures.
  _tpu("tpu7x", "TPU7x", 2307e12 / 2, 96, 94.75, 7380e9 / 2, 1200e9 / 2 / 2),
  _gpu("a100", "NVIDIA A100-SXM4-80GB", 312e12, 80, 2039e9, 300e9),
  _gpu("h100", "NVIDIA H100 80GB HBM3", 989e12, 80, 3350e9, 450e9),
  _gpu("h200", "NVIDIA H200", 989e12, 140.4, 4800e9, 450e9),
)
CHIPS = {chip.name: chip for chip in _CHIPS}


def chip_of(device_kind: str) -> Chip | None:
  """The chip with this name in `jax.Device.device_kind`; None if unknown."""
  near = lambda chip: device_kind.startswith(chip.kind)
  return max(filter(near, _CHIPS), key=lambda c: len(c.kind), default=None)
