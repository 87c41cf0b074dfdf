"""Writes runs and adapters as Hugging Face checkpoints."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping

import jax

from jalign import data
from jalign.errors import UserError
from jalign.experiment.commands.inspect import load_run
from jalign.experiment.config.parse import parse
from jalign.experiment.disk import folder as folders
from jalign.experiment.disk.kept import source_of
from jalign.experiment.disk.start import is_kept
from jalign.experiment.heads import named_head
from jalign.experiment.params import delta_of, layout
from jalign.experiment.scorer import Scorer, is_scorer, load_scorer
from jalign.files import appearing, check_output, telling
from jalign.models import hf, lora
from jalign.sharding import make_mesh
from jalign.training.trainable import HEAD, MODEL


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
  scores = is_scorer(run)
  texts = run / "tokenizer"
  if not is_kept(run):  # written by an earlier version
    settings = parse(folders.read_json(run / "config.json"))
    texts = source_of(settings) or texts
  whole = (texts / "config.json").is_file()
  mesh = make_mesh()
  inputs = {"--model": run, "init_from": texts}
  like = texts if whole else None
  notes: list[str] = []
  with jax.set_mesh(mesh), _writing(target, inputs) as partial:
    if scores:
      scorer = load_scorer(str(run), mesh)
      own = _Texts(scorer.tokenizer, texts)
      notes = hf.save_reward_model(
        _reward_model(run, scorer), partial, tokenizer=own, like=like
      )
      if scorer.sign < 0:
        notes = [*notes, _COSTS]
    else:
      loaded = load_run(run, mesh)
      hf.save(
        loaded.params,
        config,
        partial,
        tokenizer=None if whole else _Texts(loaded.tokenizer, texts),
        like=like,
      )
  stage = folders.last_stage(run).name
  return "\n".join([f"{run} ({stage}) -> {target}", *notes])


_COSTS = (
  "the scores are costs, of which less is better, and a checkpoint can't say"
  " so: as a judge it would reward harm. Name the run as the judge instead."
)


def _reward_model(run: pathlib.Path, scorer: Scorer) -> hf.RewardModel:
  """A run's reward model as a checkpoint has it.

  The constant that judges subtract from the score becomes a part of the bias.
  """
  settings = parse(folders.read_json(run / "config.json"))
  stage = settings.stage(folders.last_stage(run).name)
  named = named_head(scorer.config, stage)
  assert named is not None  # is_scorer saw to it
  name, options = named
  head = dict(scorer.params[HEAD])
  if name == "objectives":  # the data may have decided their number
    options = options | {"count": len(scorer.names)}
  if scorer.constant:
    head["bias"] = head["bias"] - scorer.constant
  template, after = scorer.template, ""
  if template is not None and template.end:
    after = template.tail.strip(" ").partition(template.end)[2]
  stored = hf.StoredHead(
    name,
    options,
    head,
    scorer.names,
    form=scorer.form,
    tail=not after,
  )
  config = dataclasses.replace(scorer.config, tie_word_embeddings=True)
  params = {k: v for k, v in scorer.params[MODEL].items() if k != "unembed"}
  return hf.RewardModel(config, params, stored)


class _Texts:
  """A tokenizer whose folder is copied as it is."""

  def __init__(self, tokenizer: data.Tokenizer, folder: pathlib.Path):
    self.bos_id, self.eos_id = tokenizer.bos_id, tokenizer.eos_id
    self.end_ids = tokenizer.end_ids
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
  if is_scorer(run):
    raise UserError(
      "it is a reward model, of which no adapter is written.",
      where=f"--model={run}",
      remedy="Leave --adapter out: the whole model is written.",
    )
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
  notes: list[str] = []
  with jax.set_mesh(mesh), _writing(target, inputs) as partial:
    if hf.read_adapter_config(change).scores:
      rewards, settings, delta = hf.load_reward_adapter(
        change, folder, mesh=mesh
      )
      merged = _merged(settings, delta, rewards.params, rewards.config, mesh)
      rewards = rewards._replace(params=merged)
      notes = hf.save_reward_model(rewards, partial, like=folder)
    else:
      config, params = hf.load(folder, mesh=mesh)
      settings, delta = hf.load_adapter(change, config)
      merged = _merged(settings, delta, params, config, mesh)
      hf.save(merged, config, partial, like=folder)
  return "\n".join([f"{model} + {adapter} -> {target}", *notes])


def _merged(settings, delta, params, config, mesh):
  policy = lora.join(settings, delta, params)
  return jax.jit(lora.merge, out_shardings=layout(config, mesh))(policy)


@contextlib.contextmanager
def _writing(
  target: pathlib.Path, inputs: Mapping[str, str | os.PathLike[str]]
) -> Iterator[pathlib.Path]:
  """Gives a folder that becomes the target once everything is written."""
  check_output(target, "--to", inputs, folder=True)
  said = "Nothing was written."
  with telling(target.parent, lambda: said, again=""), appearing(target) as at:
    yield at
