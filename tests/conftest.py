"""Eight virtual CPU devices, so that every sharding test runs anywhere."""

import atexit
import os
import shutil
import tempfile

flags = os.environ.get("XLA_FLAGS", "")
if "xla_force_host_platform_device_count" not in flags:
  os.environ["XLA_FLAGS"] = (
    f"{flags} --xla_force_host_platform_device_count=8".strip()
  )
# Workers and commands of one run compile a program once between them.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  _CACHE = tempfile.mkdtemp(prefix="jalign-compiled-")
  atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
  os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
  os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pathlib  # noqa: E402

import hypothesis  # noqa: E402
import pytest  # noqa: E402

# The same tree gets the same verdict; `make test-slow` draws new examples.
hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.register_profile("new", derandomize=False)
hypothesis.settings.load_profile("same")

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
  """Folder of material beside the repository; its tests skip without it."""
  if not SHARED.is_dir():
    pytest.skip(f"no shared material at {SHARED}")
  return SHARED
