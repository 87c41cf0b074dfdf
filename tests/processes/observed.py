"""The command line, writing hashes of what each process holds of each stage.

    python -m tests.processes.observed FOLDER train --config=... --workdir=...

FOLDER/STAGE.PROCESS.json maps the parts of each array that lie on the process's
devices to hashes of their bits.
"""

import hashlib
import json
import pathlib
import sys

import jax
import matplotlib.figure
import numpy as np

from jalign import cli
from jalign.experiment import run
from tests.experiment.conftest import blank


def main() -> None:
  folder = pathlib.Path(sys.argv[1])
  train = run.run_stage

  def watched(run, stage, params):
    result = train(run, stage, params)
    held = {
      f"{jax.tree_util.keystr(path)} {shard.index}": _hash(shard.data)
      for path, x in jax.tree_util.tree_leaves_with_path(result.params)
      for shard in x.addressable_shards
    }
    held |= {name: repr(value) for name, value in result.evaluation.items()}
    run_name = run.folder.relative_to(folder.parent)
    name = f"{run_name} {stage.name}".replace("/", " ")
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.{jax.process_index()}.json").write_text(json.dumps(held))
    return result

  run.run_stage = watched
  matplotlib.figure.Figure.savefig = blank
  cli.main(sys.argv[2:])


def _hash(x) -> str:
  return hashlib.sha256(np.asarray(x).tobytes()).hexdigest()


if __name__ == "__main__":
  main()
