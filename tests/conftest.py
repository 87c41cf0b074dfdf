"""Eight virtual CPU devices, so that every sharding test runs anywhere.

Compiling takes most of the tests' time, so XLA optimises little here. `make
test-slow` compiles as users do, by JAX_DISABLE_MOST_OPTIMIZATIONS=0.
"""

import atexit
import collections
import gc
import importlib.metadata
import os
import shutil
import sys
import tempfile

flags = os.environ.get("XLA_FLAGS", "")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# The older emitters compile three times as fast. A program in one piece needs
# three quarters of the processor time. Another jaxlib may not know these flags,
# and XLA ends the process at a flag that it doesn't know.
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1" and (
  importlib.metadata.version("jaxlib").startswith("0.10.")
):
  flags += " --xla_cpu_use_fusion_emitters=false"
  flags += " --xla_cpu_parallel_codegen_split_count=1"
if "xla_force_host_platform_device_count" not in flags:
  flags += " --xla_force_host_platform_device_count=8"
os.environ["XLA_FLAGS"] = flags.strip()
# All workers and commands of one run share each compiled program.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  _CACHE = tempfile.mkdtemp(prefix="jalign-compiled-")
  atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
  os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the network
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pathlib  # noqa: E402

import hypothesis  # noqa: E402
import pytest  # noqa: E402

# The same source gets the same verdict; `make test-slow` draws new examples.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.register_profile("new", derandomize=False, deadline=None)
hypothesis.settings.load_profile("same")

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
  """The folder shared/ of material; tests that need it skip without it."""
  if not SHARED.is_dir():
    pytest.skip(f"no shared material at {SHARED}")
  return SHARED


# Folders of the longest files run first, so that the workers end together.
_LONG = ("experiment", "robustness", "online", "tests")


def pytest_collection_modifyitems(items):
  items.sort(key=lambda item: item.path.parent.name not in _LONG)


def pytest_collection_finish():
  """Makes Python collect garbage seldom, and never in what imports left.

  A collection walks over all programs of the process. With Python's own
  settings, collections took a twentieth of the time.
  """
  gc.collect()
  gc.freeze()
  gc.set_threshold(10_000, 20, 20)


def pytest_terminal_summary(terminalreporter):
  """Prints the seconds of each folder's tests, summed over the workers."""
  seconds: collections.Counter[str] = collections.Counter()
  for reports in terminalreporter.stats.values():
    for report in reports:
      if isinstance(report, pytest.TestReport):
        file = report.nodeid.partition("::")[0]
        seconds[file.rpartition("/")[0]] += report.duration
  if len(seconds) > 1:
    terminalreporter.section("seconds by folder")
    for folder, total in seconds.most_common():
      terminalreporter.write_line(f"{total:7.1f} {folder}")


@pytest.fixture(scope="module", autouse=True)
def _few_enough_programs():
  """Drops programs before they exceed the 65,530 maps that Linux allows."""
  yield
  jax, maps = sys.modules.get("jax"), pathlib.Path("/proc/self/maps")
  count = maps.read_bytes().count(b"\n") if maps.exists() else 0
  if jax is not None and count > 30_000:
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def optimised():
  """Compiles programs as for users, with all of XLA's optimisations."""
  import jax

  name = "jax_disable_most_optimizations"
  before = jax.config.read(name)
  jax.config.update(name, False)
  yield
  jax.config.update(name, before)
