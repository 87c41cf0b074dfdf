"""Where the compilers of TPUs and GPUs are, and what they need to be told.

jax reads the environment when it is imported, so that nothing here imports jax.
"""

import importlib.util
import os
import pathlib

from jalign.errors import UserError

INSTALL = {
  "tpu": "pip install libtpu",
  "gpu": "pip install --no-deps jax-cuda12-pjrt jax-cuda12-plugin"
  " nvidia-cuda-nvcc-cu12",
}


def set_environment(platform: str) -> None:
  """Prepares this process to compile for a platform without its devices.

  It must be called before jax is imported. The process itself computes on the
  CPU.

  Args:
    platform: "tpu" or "gpu"; for "local", nothing is changed.

  Raises:
    UserError: the platform's compiler isn't installed.
  """
  if platform == "local":
    return
  environment = _tpu() if platform == "tpu" else _gpu()
  os.environ |= {"JAX_PLATFORMS": "cpu"} | environment


def _tpu() -> dict[str, str]:
  if importlib.util.find_spec("libtpu") is None:
    raise _missing("the TPU compiler, libtpu, isn't installed.", "tpu")
  return {
    # No cloud machine is asked for its TPUs, and several processes may compile
    # at a time: by default a lock file lets only one load the library.
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    # Any type keeps the library from warning that it finds none.
    "TPU_ACCELERATOR_TYPE": os.environ.get("TPU_ACCELERATOR_TYPE", "v5p-8"),
    "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
  }


def _gpu() -> dict[str, str]:
  if importlib.util.find_spec("jax_cuda12_plugin") is None:
    raise _missing("the GPU compiler, jax-cuda12-plugin, isn't installed.")
  flags = [
    os.environ.get("XLA_FLAGS", ""),
    f"--xla_gpu_cuda_data_dir={_cuda_folder()}",
    # Kernels are chosen without timing them: there is no device to time.
    "--xla_gpu_autotune_level=0",
  ]
  return {
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    "XLA_FLAGS": " ".join(filter(None, flags)),
    "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
  }


def _cuda_folder() -> pathlib.Path:
  """The folder with ptxas and libdevice, of NVIDIA's package."""
  spec = importlib.util.find_spec("nvidia")
  for place in (spec.submodule_search_locations or ()) if spec else ():
    folder = pathlib.Path(place) / "cuda_nvcc"
    if (folder / "bin" / "ptxas").is_file():
      return folder
  raise _missing("ptxas, of nvidia-cuda-nvcc-cu12, isn't installed.")


def _missing(problem: str, platform: str = "gpu") -> UserError:
  return UserError(
    problem,
    where="--topology",
    remedy=f"Run `{INSTALL[platform]}`, or plan for the devices of this machine"
    " by --topology=local.",
  )
