"""Eight virtual CPU devices, so that every sharding test runs anywhere.

Compiling is most of what the tests do, so that XLA optimises little here;
`make test-slow` compiles as users do, by JAX_DISABLE_MOST_OPTIMIZATIONS=0.
"""

import atexit
import importlib.metadata
import os
import shutil
import sys
import tempfile

flags = os.environ.get("XLA_FLAGS", "")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# The older emitters compile three times as fast. Another jaxlib may not know
# the flag, and XLA ends the process at one that it doesn't know.
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1" and (
  importlib.metadata.version("jaxlib").startswith("0.10.")
):
  flags += " --xla_cpu_use_fusion_emitters=false"
if "xla_force_host_platform_device_count" not in flags:
  flags += " --xla_force_host_platform_device_count=8"
os.environ["XLA_FLAGS"] = flags.strip()
# Workers and commands of one run compile a program once between them.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  _CACHE = tempfile.mkdtemp(prefix="jalign-compiled-")
  atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
  os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
  os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the network
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pathlib  # noqa: E402

import hypothesis  # noqa: E402
import pytest  # noqa: E402

# The same tree gets the same verdict; `make test-slow` draws new examples.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.register_profile("new", derandomize=False, deadline=None)
hypothesis.settings.load_profile("same")

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
  """Folder of material beside the repository; its tests skip without it."""
  if not SHARED.is_dir():
    pytest.skip(f"no shared material at {SHARED}")
  return SHARED


@pytest.fixture(scope="module", autouse=True)
def _few_enough_programs():
  """Programs go before they exceed the 65,530 maps that Linux allows."""
  yield
  jax, maps = sys.modules.get("jax"), pathlib.Path("/proc/self/maps")
  count = maps.read_bytes().count(b"\n") if maps.exists() else 0
  if jax is not None and count > 30_000:
    jax.clear_caches()


@pytest.fixture
def optimised():
  """Programs as XLA makes them for users, not with the little done above."""
  import jax

  name = "jax_disable_most_optimizations"
  before = jax.config.read(name)
  jax.config.update(name, False)
  yield
  jax.config.update(name, before)
