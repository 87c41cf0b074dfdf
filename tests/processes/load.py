"""Loads a checkpoint onto meshes of all processes, counting what is read.

    python -m tests.processes.load FOLDER OUT MESH...

OUT.PROCESS gets, for each mesh, the bytes that the process read of tensors, the
parameters' fingerprint, and the bytes of the parameters' parts on its devices.
"""

import json
import pathlib
import sys

import jax

from jalign import sharding
from jalign.models import hf
from jalign.models.hf.shards import Shards
from jalign.training import reference
from tests.processes.launch import join


class _Counted:
  """A lazy view of a tensor that adds up the bytes that are read of it."""

  def __init__(self, view, counts):
    self._view, self._counts = view, counts

  def __getattr__(self, name):
    return getattr(self._view, name)

  def __getitem__(self, index):
    part = self._view[index]
    self._counts.append(part.nbytes)
    return part


def main() -> None:
  folder, out, *meshes = join(sys.argv[1:])
  counts: list[int] = []
  plain = Shards.slice
  Shards.slice = lambda self, name: _Counted(plain(self, name), counts)
  rules = tuple((k, v) for k, v in sharding.RULES if k != "vocab")
  seen = []
  for shape in meshes:
    counts.clear()
    mesh = sharding.make_mesh(*map(int, shape.split("x")))
    with jax.set_mesh(mesh):
      _, params = hf.load(folder, mesh=mesh, rules=rules)
      read = sum(counts)
      mark = reference.fingerprint(params, ())
    # Replicas on one process are read once.
    held = {
      (jax.tree_util.keystr(path), str(shard.index)): shard.data.nbytes
      for path, x in jax.tree_util.tree_leaves_with_path(params)
      for shard in x.addressable_shards
    }
    seen.append({"read": read, "mark": mark, "held": sum(held.values())})
  path = pathlib.Path(f"{out}.{jax.process_index()}")
  path.write_text(json.dumps(seen))


if __name__ == "__main__":
  main()
