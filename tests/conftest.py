"""Eight virtual CPU devices, so that every sharding test runs anywhere."""

import os

flags = os.environ.get("XLA_FLAGS", "")
if "xla_force_host_platform_device_count" not in flags:
  os.environ["XLA_FLAGS"] = (
    f"{flags} --xla_force_host_platform_device_count=8".strip()
  )
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pathlib  # noqa: E402

import pytest  # noqa: E402

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
  """Folder of material beside the repository; its tests skip without it."""
  if not SHARED.is_dir():
    pytest.skip(f"no shared material at {SHARED}")
  return SHARED
