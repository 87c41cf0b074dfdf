"""What is told of a program's needs."""

from jalign.plan.chips import CHIPS
from jalign.plan.compiled import Memory
from jalign.plan.measured import Measured, as_json
from jalign.plan.roofline import bound
from jalign.plan.table import block


def _measured(memory):
  limits = bound(CHIPS["v5e"], 1e12, 1e9, 0)
  return Measured(
    *("align: update", 1, memory, memory.total, 16e9, limits, ()), (1.0, 2.0)
  )


def test_parts_of_memory_make_what_a_program_needs():
  """Also where the start is passed twice: as the reference, and frozen."""
  sizes = {"parameters": 1_000_000, "frozen": 40_000_000}
  passed = sum(sizes.values()) + sizes["frozen"]
  memory = Memory(
    peak=passed + 25_000_000,
    arguments=sizes,
    beside={"kept": 7_000_000},
    temporaries=25_000_000,
    shared=sizes["frozen"],
    host=0,
    code=3_000_000,
  )
  told = as_json(_measured(memory))
  parts = [*told["memory"].values(), *told["beside"].values()]
  assert sum(parts) == told["needs_bytes"] == 76_000_000
  said = block(_measured(memory))
  assert "activations and temporaries 25 MB" in " ".join(said.split())
