"""Checks of the address at which the processes of a run find each other."""

import os
import socket
import time

from jalign.errors import UserError


def check(coordinator: str, count: int | None, index: int | None) -> None:
  """Checks that the flags describe a cluster and a process of it."""
  host, _, port = coordinator.rpartition(":")
  if not host or not port.isdigit() or not 0 < int(port) < 65536:
    raise UserError(f"{coordinator!r} is not HOST:PORT.", where="--coordinator")
  for flag, value in (("num_processes", count), ("process_id", index)):
    if value is None:
      raise UserError(
        "is missing.",
        where=f"--{flag}",
        remedy="--coordinator needs --num_processes and --process_id, too.",
      )
  assert count is not None and index is not None
  if index >= count:
    raise UserError(
      f"{index} is too large: {count} processes are numbered 0 to {count - 1}.",
      where="--process_id",
    )


def check_free(coordinator: str) -> None:
  """Checks that the first process can listen at its port."""
  port = int(coordinator.rpartition(":")[2])
  try:
    with socket.create_server(("", port)):
      pass
  except OSError as e:
    raise UserError(
      f"the first process can't listen there ({os.strerror(e.errno or 0)}).",
      where=f"--coordinator={coordinator}",
      remedy="Choose a port that is free on its host; each process needs its"
      " own --process_id.",
    ) from e


def reach(coordinator: str, timeout: int) -> None:
  """Waits until the first process listens."""
  host, _, port = coordinator.rpartition(":")
  end = time.monotonic() + timeout
  while True:
    try:
      socket.create_connection((host.strip("[]"), int(port)), 5).close()
      return
    except OSError as e:
      if time.monotonic() > end:
        raise UserError(
          f"the first process can't be reached ({e.strerror or e}), after"
          f" {timeout} s.",
          where=f"--coordinator={coordinator}",
          remedy="Is process 0 running on that host, with the same"
          " --coordinator, and is the port open between the hosts?",
        ) from e
    time.sleep(0.2)
