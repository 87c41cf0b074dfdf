"""The time that a program takes at least, by a chip's published figures."""

from typing import NamedTuple

from jalign.plan.chips import Chip


class Bound(NamedTuple):
  """What a program asks of a chip, and the time that each part takes at least.

  Williams et al. 2009, "Roofline: An Insightful Visual Performance Model for
  Multicore Architectures", with the links between chips as a third roof.

  Attributes:
    flops: FLOPs of a chip.
    bytes: bytes between its memory and its compute units.
    sent: bytes that it sends to other chips.
    compute: seconds at the peak of bfloat16 products; None where the peak isn't
      known, as in the next two.
    memory: seconds at the memory's bandwidth.
    links: seconds at the links' bandwidth.
  """

  flops: float
  bytes: float
  sent: float
  compute: float | None
  memory: float | None
  links: float | None

  @property
  def seconds(self) -> float | None:
    """The longest of the three: they overlap at best."""
    known = self._known()
    return max(known.values()) if known else None

  @property
  def by(self) -> str:
    """What bounds the program: "compute", "memory" or "links"."""
    known = self._known()
    return max(known, key=lambda name: known[name]) if known else ""

  @property
  def intensity(self) -> float:
    """FLOPs per byte of memory traffic."""
    return self.flops / self.bytes if self.bytes else 0.0

  def _known(self) -> dict[str, float]:
    times = {"compute": self.compute, "memory": self.memory}
    times["links"] = self.links
    return {name: t for name, t in times.items() if t is not None}


def bound(chip: Chip, flops: float, moved: float, sent: float) -> Bound:
  """The bound of a program on a chip.

  Args:
    chip: published figures.
    flops: FLOPs of a chip.
    moved: bytes between its memory and its compute units.
    sent: bytes that it sends to other chips.
  """
  over = lambda amount, rate: amount / rate if rate else None
  return Bound(
    flops,
    moved,
    sent,
    over(flops, chip.flops),
    over(moved, chip.bandwidth),
    over(sent, chip.links),
  )
