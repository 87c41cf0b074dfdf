"""How a process joins the other processes of its run.

The processes find each other by JAX's own service, which the first process
runs. Without flags a run is a single process and nothing here is called.
"""

import jax

from jalign.errors import UserError

# JAX's own check of who lives ends a process with a stack trace of C++; that of
# jalign.heartbeat comes first.
_SERVICE_SECONDS = 600


def start(
  coordinator: str | None = None,
  count: int | None = None,
  index: int | None = None,
  *,
  timeout: int = 300,
) -> None:
  """Joins the cluster; returns when all processes have.

  Must be called before anything asks JAX for devices.

  Args:
    coordinator: HOST:PORT of the first process; None where the platform tells
      (TPU, SLURM, GKE), as it then tells count and index, too.
    count: number of processes.
    index: number of this process, from 0.
    timeout: seconds to wait for the others.

  Raises:
    UserError: the processes didn't find each other.
  """
  try:
    jax.distributed.initialize(
      coordinator,
      count,
      index,
      initialization_timeout=timeout,
      heartbeat_timeout_seconds=_SERVICE_SECONDS,
    )
  except Exception as e:
    raise UserError(str(e), where="--coordinator") from e
