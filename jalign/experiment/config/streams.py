"""Independent random streams from one seed."""

import hashlib


def stream(seed: int, *purpose: str) -> int:
  """Returns a seed for one purpose, in [0, 2^31).

  Stages, policies and uses of a run (initial parameters, order of the data,
  online samples, samples for evaluation) never share randomness: coupled
  draws of two policies would bias their win rate.

  Args:
    seed: seed of the run.
    *purpose: words that name the purpose, for example ("online", stage name).
  """
  digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
  return int.from_bytes(digest[:4], "little") >> 1
