"""Whether the training loop keeps a device busy, by steps in flight.

    python -m experiments.bench.in_flight

The device is simulated: a thread that takes 50 ms for each step that is
dispatched to it. The host needs 80 ms for every second batch and nothing for
the others, 40 ms on average, so that the device needn't ever wait. The table
has the time of a step, and how long of it the host waited for results, for
numbers of steps in flight (`jalign.training.loop.IN_FLIGHT`).
"""

import concurrent.futures
import time
from unittest import mock

import numpy as np

from jalign.training import loop
from jalign.training.state import TrainState

STEPS, DEVICE, HOST = 60, 0.05, (0.0, 0.08)
_SUMS = {"loss": (1.0, 1.0), "grad_norm": (1.0, 1.0)}


class _Batches:
  at = 0

  def __next__(self):
    time.sleep(HOST[self.at % 2])
    self.at += 1
    return None

  def get_state(self):
    return None


def measure(in_flight: int) -> tuple[float, float]:
  """Milliseconds of a step, and of the host's waiting for results."""
  waited = 0.0

  def update(state, data, ref_params):
    del data, ref_params
    return state, device.submit(time.sleep, DEVICE)

  def fetch(tree):
    nonlocal waited
    start = time.perf_counter()
    (futures, sound) = tree
    for future in futures:
      future.result()
    waited += time.perf_counter() - start
    return [_SUMS] * len(futures), sound

  with (
    concurrent.futures.ThreadPoolExecutor(1) as device,
    mock.patch.object(loop, "fetch", fetch),
    mock.patch.object(loop, "IN_FLIGHT", in_flight),
  ):
    start = time.perf_counter()
    loop.run(
      TrainState(np.int32(0), {}, ()),
      steps=STEPS,
      batches=_Batches(),
      prepare=lambda state, batch: loop.Placed((batch,), ("batch",), {}),
      update=update,
    )
    total = time.perf_counter() - start
  return 1e3 * total / STEPS, 1e3 * waited / STEPS


if __name__ == "__main__":
  print("| in flight | ms a step | waiting for results |\n|---|---|---|")
  for count in (0, 1, 2, 3):
    print("| {} | {:.1f} | {:.1f} |".format(count, *measure(count)))
