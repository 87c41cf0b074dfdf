"""Bytes that a program moves, from a text as the TPU compiler writes it."""

from jalign.plan.hlo import Module
from jalign.plan.traffic import moved

# A step of decoding: a piece of a weight [64, 8] is fetched ahead to the core's
# own memory, S(1), and so is a whole weight [4, 8]; a cache [2, 16, 8] gets a
# row for each of 2 rows, in place.
_STEP = """HloModule step

%scattered (old: bf16[2,16,8], at: s32[2,1], new: bf16[2,8]) -> bf16[2,16,8] {
  %old = bf16[2,16,8]{2,1,0} parameter(0)
  %at = s32[2,1]{1,0} parameter(1)
  %new = bf16[2,8]{1,0} parameter(2)
  ROOT %scatter.1 = bf16[2,16,8]{2,1,0} scatter(%old, %at, %new), to_apply=%last
}

%body (carry: (bf16[2,16,8], bf16[64,8], bf16[4,8])) -> (bf16[2,16,8], bf16[64,8], bf16[4,8]) {
  %carry = (bf16[2,16,8]{2,1,0}, bf16[64,8]{1,0}, bf16[4,8]{1,0}) parameter(0)
  %cache = bf16[2,16,8]{2,1,0} get-tuple-element(%carry), index=0
  %weight = bf16[64,8]{1,0} get-tuple-element(%carry), index=1
  %small = bf16[4,8]{1,0} get-tuple-element(%carry), index=2
  %slice-start.1 = ((bf16[64,8]{1,0}), bf16[16,8]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%weight), slice={[0:16], [0:8]}
  %slice-done.1 = bf16[16,8]{1,0:S(1)} slice-done(%slice-start.1)
  %copy-start.1 = (bf16[4,8]{1,0:S(1)}, bf16[4,8]{1,0}, u32[]{:S(2)}) copy-start(%small)
  %copy-done.1 = bf16[4,8]{1,0:S(1)} copy-done(%copy-start.1)
  %at.1 = s32[2,1]{1,0:S(1)} fusion(%slice-done.1), kind=kLoop, calls=%places
  %new.1 = bf16[2,8]{1,0:S(1)} fusion(%copy-done.1), kind=kLoop, calls=%rows
  %put = bf16[2,16,8]{2,1,0} fusion(%cache, %at.1, %new.1), kind=kCustom, calls=%scattered
  ROOT %next = (bf16[2,16,8]{2,1,0}, bf16[64,8]{1,0}, bf16[4,8]{1,0}) tuple(%put, %weight, %small)
}

%going (carry: (bf16[2,16,8], bf16[64,8], bf16[4,8])) -> pred[] {
  %carry.1 = (bf16[2,16,8]{2,1,0}, bf16[64,8]{1,0}, bf16[4,8]{1,0}) parameter(0)
  ROOT %yes = pred[]{:S(6)} fusion(%carry.1), kind=kLoop, calls=%any
}

ENTRY %main (first: (bf16[2,16,8], bf16[64,8], bf16[4,8])) -> (bf16[2,16,8], bf16[64,8], bf16[4,8]) {
  %first = (bf16[2,16,8]{2,1,0}, bf16[64,8]{1,0}, bf16[4,8]{1,0}) parameter(0)
  ROOT %loop = (bf16[2,16,8]{2,1,0}, bf16[64,8]{1,0}, bf16[4,8]{1,0}) while(%first), condition=%going, body=%body
}
"""  # noqa: E501


def test_a_step_reads_what_it_fetches_and_writes_what_it_updates():
  bytes_moved = moved(Module(_STEP))
  assert bytes_moved["loop"] == 2 * (16 * 8 + 4 * 8 + 2 * 8)


def test_a_cache_that_leaves_main_memory_and_returns_counts_twice():
  away = _STEP.replace(
    "%put = bf16[2,16,8]{2,1,0} fusion(%cache, %at.1, %new.1)",
    "%gone = (bf16[2,16,8]{2,1,0:S(1)}, bf16[2,16,8]{2,1,0}, u32[]{:S(2)})"
    " copy-start(%cache)\n"
    "  %there = bf16[2,16,8]{2,1,0:S(1)} copy-done(%gone)\n"
    "  %back = (bf16[2,16,8]{2,1,0}, bf16[2,16,8]{2,1,0:S(1)}, u32[]{:S(2)})"
    " copy-start(%there)\n"
    "  %put = bf16[2,16,8]{2,1,0} fusion(%there, %at.1, %new.1)",
  )
  more = moved(Module(away))["loop"] - moved(Module(_STEP))["loop"]
  assert more == 2 * (2 * 2 * 16 * 8)
