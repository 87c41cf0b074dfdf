"""Bytes of collectives, in the forms in which compilers write them."""

import pytest

from jalign.plan.collectives import collectives
from jalign.plan.hlo import Module

_PROGRAM = """HloModule m

ENTRY %main (p: f32[8,4]) -> f32[8,4] {{
  %p = f32[8,4]{{1,0}} parameter(0)
  ROOT %c = {line}, channel_id=1, replica_groups=[1,8]<=[8], dimensions={{0}}
}}
"""


@pytest.mark.parametrize(
  "line, whole, sent",
  [
    ("f32[1,4]{1,0} reduce-scatter(%p)", 128, 112),
    (
      "((f32[8,4]{1,0}), f32[1,4]{1,0}) reduce-scatter-start(%p)",
      128,
      112,
    ),
    (
      "((f32[8,4]{1,0}, f32[8]{0}), (f32[1,4]{1,0}, f32[1]{0}))"
      " reduce-scatter-start(%p, %p)",
      160,
      140,
    ),
    ("(f32[8,4]{1,0}, f32[64,4]{1,0}) all-gather-start(%p)", 1024, 896),
    ("f32[8,4]{1,0} all-reduce-start(%p)", 128, 224),
    (
      "(f32[8,4]{1,0}, f32[8]{0}) all-reduce-start(%p, %p)",
      160,
      280,
    ),
    (
      "(f32[8,4]{1,0}, f32[8,4]{1,0}, u32[]{:S(2)}, u32[]{:S(2)})"
      " collective-permute-start(%p)",
      128,
      128,
    ),
    ("f32[] all-reduce(%p)", 4, 7),
  ],
)
def test_bytes_of_a_collective(line, whole, sent):
  (found,) = collectives(Module(_PROGRAM.format(line=line)), 8)
  assert (found.devices, found.bytes, found.sent) == (8, whole, sent)
