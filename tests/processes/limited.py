"""The command line, with a process that can't write large files any more.

    python -m tests.processes.limited PROCESS STAGE STEP BYTES train FLAGS

From its save of the stage's step on, the process may write no file beyond the
given size, and prints "[limited]". Python gets the system's error, as from a
full disk.
"""

import resource
import sys

from jalign import cli, cluster
from jalign.training.checkpoint import Checkpoints


def main() -> None:
  victim, stage, step, most = sys.argv[1:5]
  save = Checkpoints.save

  def limited(self, state, **kwargs):
    here = self.folder.parent.name, int(state.step), cluster.index()
    if here == (stage, int(step), int(victim)):
      self.wait()  # the checkpoint before is whole
      _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
      resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), hard))
      print("[limited]")
    save(self, state, **kwargs)

  Checkpoints.save = limited
  cli.main(sys.argv[5:])


if __name__ == "__main__":
  main()
