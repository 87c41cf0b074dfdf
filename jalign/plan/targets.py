"""Descriptions of GPUs for their compiler, written from published figures.

The compiler takes a text of XLA's GpuTargetConfigProto. Sources: NVIDIA's
architecture papers of A100 and H100, the data sheet of H200, and the table of
compute capabilities in the CUDA programming guide.
"""

from jalign.errors import UserError
from jalign.plan.chips import Chip

KIB = 2**10


# Multiprocessors, float32 units of each, bytes of the second-level cache, boost
# clock in GHz, compute capability, shared memory of a multiprocessor and the
# most of a block.
_FIGURES = {
  "a100": (108, 64, 40 * KIB**2, 1.41, "8 minor: 0", 164 * KIB, 163 * KIB),
  "h100": (132, 128, 50 * KIB**2, 1.98, "9 minor: 0", 228 * KIB, 227 * KIB),
  "h200": (132, 128, 50 * KIB**2, 1.98, "9 minor: 0", 228 * KIB, 227 * KIB),
}


def target(chip: Chip) -> str:
  """The description of a GPU.

  Args:
    chip: one of `CHIPS`.

  Raises:
    UserError: the GPU's figures aren't listed here.
  """
  if chip.name not in _FIGURES:
    raise UserError(
      f"there is no description of {chip.name} for the GPU compiler.",
      where="--topology",
      remedy=f"There are descriptions of {', '.join(_FIGURES)}.",
    )
  cores, units, cache, clock, capability, shared, most = _FIGURES[chip.name]
  return f"""
gpu_device_info {{
  name: "{chip.kind}"
  device_vendor: "NVIDIA Corporation"
  cuda_compute_capability {{ major: {capability} }}
  core_count: {cores}
  fpus_per_core: {units}
  clock_rate_ghz: {clock}
  memory_bandwidth: {int(chip.bandwidth)}
  device_memory_size: {int(chip.memory)}
  l2_cache_size: {cache}
  shared_memory_per_core: {shared}
  shared_memory_per_block: {48 * KIB}
  shared_memory_per_block_optin: {most}
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  registers_per_core_limit: {64 * KIB}
  registers_per_block_limit: {64 * KIB}
  block_dim_limit_x: {2**31 - 1}
  block_dim_limit_y: {2**16 - 1}
  block_dim_limit_z: {2**16 - 1}
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  device_address_bits: 64
  ecc_enabled: true
  driver_version: "12.9.0"
  runtime_version: "12.9.0"
  compile_time_toolkit_version: "12.9.0"
  dnn_version: "9.10.0"
}}
platform_name: "CUDA"
runtime_version {{ major: 12 minor: 9 patch: 0 }}
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{chip.kind}"
"""
