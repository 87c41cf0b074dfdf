"""A run's policy as a Hugging Face checkpoint."""

import pathlib

import jax

from jalign.experiment import folder as folders
from jalign.experiment.inspect import load_run
from jalign.experiment.start import is_checkpoint
from jalign.models import hf
from jalign.sharding import make_mesh


def export_run(run: pathlib.Path, target: pathlib.Path) -> str:
  """Writes what transformers opens; returns a line that says so.

  What a run took from a checkpoint that is still there, its tokenizer with the
  chat template above all, is copied from it.

  Args:
    run: folder of a run.
    target: a folder that isn't there yet.

  Raises:
    UserError: the folder is not a run, or no family says what its model
      computes; or the target is there.
  """
  config = folders.model_of(run)
  start = folders.read_json(run / "config.json").get("init_from") or ""
  like = pathlib.Path(start) if start else None
  if like is not None and not is_checkpoint(like):
    like = None
  mesh = make_mesh()
  with jax.set_mesh(mesh):
    loaded = load_run(run, mesh)
    own = loaded.tokenizer if like is None else None
    hf.save(loaded.params, config, target, tokenizer=own, like=like)
  return f"{run} ({loaded.stage}) -> {target}"
