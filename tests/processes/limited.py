"""The command line, with a process that can't write large files any more.

    python -m tests.processes.limited PROCESS SAVE BYTES train --config=...

From its save number SAVE on (from 1), the process may write no file beyond the
given size, and prints "[limited]". Python gets the system's error, as from a
full disk.
"""

import itertools
import resource
import sys

from jalign import cli, cluster
from jalign.training.checkpoint import Checkpoints


def main() -> None:
  victim, number, most = map(int, sys.argv[1:4])
  count, save = itertools.count(1), Checkpoints.save

  def limited(self, *args, **kwargs):
    if next(count) == number and cluster.index() == victim:
      _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
      resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
      print("[limited]")
    return save(self, *args, **kwargs)

  Checkpoints.save = limited
  cli.main(sys.argv[4:])


if __name__ == "__main__":
  main()
