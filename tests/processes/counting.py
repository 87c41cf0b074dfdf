"""A toy run, which can be stopped, killed and gone on with in no time.

    python -m tests.processes.counting FOLDER STEPS SECONDS_A_STEP

Its state is whole numbers, so that it has the same bits on any mesh; every step
has a reduction over all processes. Each process prints "step N" as it places
the data of step N, and the state's numbers at the end.
"""

import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from jalign import heartbeat, sharding
from jalign.preemption import Stop
from jalign.training import loop
from jalign.training.checkpoint import Checkpoints
from jalign.training.state import TrainState
from tests.processes import launch

SIZE = 16


def after(steps: int) -> list[int]:
  """The numbers of the state after some steps."""
  w = np.arange(SIZE, dtype=np.uint32)
  for step in range(steps):
    w = w * np.uint32(1664525) + np.uint32(step)
  return w.tolist()


@jax.jit
def _update(state, data):
  w = state.params["w"] * jnp.uint32(1664525) + data
  one = jnp.float32(1)
  loss = jnp.sum((w % 1000).astype(jnp.float32))
  sums = {"loss": (loss, one), "grad_norm": (one, one)}
  return TrainState(state.step + 1, {"w": w}, ()), sums


class _Count:
  """Batches 0, 1, 2, ..., with a position."""

  def __init__(self):
    self.at = 0

  def __next__(self):
    self.at += 1
    return self.at - 1

  def get_state(self):
    return self.at


def run(folder: pathlib.Path, steps: int, seconds: float, stop) -> list[int]:
  """Counts up to a step, from the newest checkpoint; returns the numbers."""
  mesh = sharding.make_mesh(data=1, fsdp=jax.device_count())
  rows = jax.NamedSharding(mesh, jax.P("fsdp"))
  state = TrainState(
    jax.device_put(jnp.int32(0), sharding.replicated(mesh)),
    {"w": jax.device_put(np.arange(SIZE, dtype=np.uint32), rows)},
    (),
  )
  checkpoints, batches = Checkpoints(folder), _Count()
  if checkpoints.latest() is not None:
    state, batches.at, _ = checkpoints.restore(state)
    print(f"resumes at step {int(state.step)}")
  checkpoints.discard_after(int(state.step))

  def prepare(state, batch):
    print(f"step {batch + 1}.")
    time.sleep(seconds)
    data = sharding.place(np.uint32(batch), mesh)
    return loop.Placed((data,), ("toy",), {})

  def asked():
    checkpoints.check()
    return stop()

  try:
    state = loop.run(
      state,
      steps=steps,
      batches=batches,
      prepare=prepare,
      update=lambda state, data, ref_params: _update(state, data),
      save=lambda state, at: checkpoints.save(state, data=at, meta={}),
      should_stop=asked,
      description="toy",
    )
  finally:
    checkpoints.close()
  return sharding.fetch(state.params["w"]).tolist()


if __name__ == "__main__":
  where, many, slow = launch.join(sys.argv[1:])
  with heartbeat.beating():
    try:
      numbers = run(pathlib.Path(where), int(many), float(slow), Stop())
      print(f"ended with {numbers}")
    except loop.Interrupted as e:
      print(e)
