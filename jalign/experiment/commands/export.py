"""Writes runs and adapters as Hugging Face checkpoints."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping

import jax

from jalign import data
from jalign.experiment.commands.inspect import load_run
from jalign.experiment.config.parse import parse
from jalign.experiment.disk import folder as folders
from jalign.experiment.disk.kept import source_of
from jalign.experiment.disk.start import is_kept
from jalign.experiment.params import delta_of, layout
from jalign.files import appearing, check_output, telling
from jalign.models import hf, lora
from jalign.sharding import make_mesh


def export_run(run: pathlib.Path, target: pathlib.Path) -> str:
  """Writes a run as a checkpoint that transformers opens.

  Tokenizer, chat template and the ends of a response are those that the run
  keeps. If the run comes from a checkpoint, even over other runs, the export
  has the checkpoint's generation settings and length, too. A low-rank change is
  merged.

  Args:
    run: folder of the run.
    target: a folder that doesn't exist yet.

  Returns:
    A line that says what was written.

  Raises:
    UserError: the folder is not a run, or no family says what its model
      computes; or the target exists, or can't be written.
  """
  config = folders.model_of(run)
  texts = run / "tokenizer"
  if not is_kept(run):  # written by an earlier version
    settings = parse(folders.read_json(run / "config.json"))
    texts = source_of(settings) or texts
  whole = (texts / "config.json").is_file()
  mesh = make_mesh()
  inputs = {"--model": run, "init_from": texts}
  with jax.set_mesh(mesh), _writing(target, inputs) as partial:
    loaded = load_run(run, mesh)
    hf.save(
      loaded.params,
      config,
      partial,
      tokenizer=None if whole else _Texts(loaded.tokenizer, texts),
      like=texts if whole else None,
    )
  return f"{run} ({loaded.stage}) -> {target}"


class _Texts:
  """A tokenizer whose folder is copied as it is."""

  def __init__(self, tokenizer: data.Tokenizer, folder: pathlib.Path):
    self.bos_id, self.eos_id = tokenizer.bos_id, tokenizer.eos_id
    self.pad_id, self._folder = tokenizer.pad_id, folder

  def save(self, path: pathlib.Path) -> None:
    for file in sorted(self._folder.iterdir()):
      if file.is_file():
        shutil.copy(file, path / file.name)


def export_adapter(run: pathlib.Path, target: pathlib.Path) -> str:
  """Writes a run's low-rank change as an adapter that PEFT opens.

  Args:
    run: folder of a run whose last stage trained a low-rank change.
    target: a folder that doesn't exist yet.

  Returns:
    A line that says what was written.

  Raises:
    UserError: the run trained something else; or as in `export_run`.
  """
  config = folders.model_of(run)
  base = folders.read_json(run / "config.json").get("init_from") or ""
  mesh = make_mesh()
  with jax.set_mesh(mesh), _writing(target, {"--model": run}) as partial:
    settings, delta = delta_of(config, mesh, run)
    hf.save_adapter(delta, config, settings, partial, base=_anywhere(base))
  return f"{run} -> {target}, a low-rank change of {base or 'its start'}"


def _anywhere(name: str) -> str:
  """A folder's absolute path; any other name, such as the hub's, as it is."""
  folder = pathlib.Path(name).expanduser()
  return str(folder.resolve()) if name and folder.is_dir() else name


def merge_adapter(model: str, adapter: str, target: pathlib.Path) -> str:
  """Adds an adapter to its checkpoint, and writes the result.

  Args:
    model: the checkpoint: a folder, or a name on the hub.
    adapter: the adapter: a folder, or a name on the hub.
    target: a folder that doesn't exist yet.

  Returns:
    A line that says what was written.

  Raises:
    UserError: one of them can't be read, or they don't belong together; or as
      in `export_run`.
  """
  folder, change = hf.resolve(model), hf.resolve(adapter)
  mesh = make_mesh()
  inputs = {"--model": folder, "--adapter": change}
  with jax.set_mesh(mesh), _writing(target, inputs) as partial:
    config, params = hf.load(folder, mesh=mesh)
    settings, delta = hf.load_adapter(change, config)
    policy = lora.join(settings, delta, params)
    merged = jax.jit(lora.merge, out_shardings=layout(config, mesh))(policy)
    hf.save(merged, config, partial, like=folder)
  return f"{model} + {adapter} -> {target}"


@contextlib.contextmanager
def _writing(
  target: pathlib.Path, inputs: Mapping[str, str | os.PathLike[str]]
) -> Iterator[pathlib.Path]:
  """Gives a folder that becomes the target once everything is written."""
  check_output(target, "--to", inputs, folder=True)
  said = "Nothing was written."
  with telling(target.parent, lambda: said, again=""), appearing(target) as at:
    yield at
