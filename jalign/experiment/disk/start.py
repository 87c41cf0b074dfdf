"""What a run starts from: fresh parameters, another run, or a checkpoint."""

import dataclasses
import pathlib
from typing import Any

from jalign.data import Tokenizer
from jalign.data.tokenizer import GENERATION
from jalign.errors import UserError
from jalign.experiment.config.settings import Settings
from jalign.experiment.disk import folder as folders
from jalign.models import ModelConfig, hf

_NEEDED = (
  "hidden_size",
  "intermediate_size",
  "num_hidden_layers",
  "num_attention_heads",
  "num_key_value_heads",
)


def is_checkpoint(path: pathlib.Path) -> bool:
  """Whether a folder is a Hugging Face checkpoint rather than a run."""
  return (path / "config.json").is_file() and not (path / "run.json").exists()


def is_reward_model(path: pathlib.Path) -> bool:
  """Whether a checkpoint's config says that it classifies texts."""
  if not is_checkpoint(path):
    return False
  config = folders.read_json(path / "config.json")
  names = config.get("architectures") if isinstance(config, dict) else None
  return isinstance(names, list) and any(
    str(name).endswith("ForSequenceClassification") for name in names
  )


def base_of(settings: Settings) -> pathlib.Path | None:
  """The folder that a run starts from; None for fresh parameters.

  Raises:
    UserError: the folder is a run that isn't finished, or neither a run nor a
      checkpoint.
  """
  if not settings.init_from:
    return None
  base = hf.resolve(settings.init_from)
  if is_checkpoint(base):
    return base
  last = folders.stages_of(base)[-1]
  if not (base / last / "results.json").exists():
    raise UserError(
      f"the run's stage {last} isn't finished.",
      where=str(base),
      remedy="Finish that run first: the same command resumes it.",
    )
  return base


def is_kept(run: pathlib.Path) -> bool:
  """Whether a run's tokenizer/ is whole; earlier versions kept less."""
  return (run / "tokenizer" / GENERATION).is_file()


def tokenizer_folder(base: pathlib.Path) -> pathlib.Path:
  """The folder with tokenizer and chat template of what a run starts from."""
  if is_checkpoint(base):
    return base
  own = base / "tokenizer"
  start = folders.read_json(base / "config.json").get("init_from")
  if is_kept(base) or not start:
    return own
  try:
    return tokenizer_folder(hf.resolve(start))
  except UserError:  # the start is gone, and its chat template with it
    return own


def model_config(
  settings: Settings, tokenizer: Tokenizer, base: pathlib.Path | None
) -> ModelConfig:
  """The model config of a run.

  Args:
    settings: the run's settings.
    tokenizer: the run's tokenizer.
    base: folder of the run or checkpoint to start from; None for a fresh model.

  Raises:
    UserError: the config lacks a size, or contradicts what the run starts
      from; or the tokenizer has ids that the model lacks.
  """
  given = settings.model
  if base is None:
    missing = [name for name in _NEEDED if not given.get(name)]
    if missing:
      raise UserError(
        f"{', '.join(missing)} must be set.",
        where="config.model",
        remedy="Or name a checkpoint, or a run, as config.init_from.",
      )
    return ModelConfig(vocab_size=tokenizer.vocab_size, **given)
  how: tuple[str, ...] = ()
  if is_checkpoint(base):
    how = hf.HOW
    there = hf.read_config(base)
    fields = {f.name: f.default for f in dataclasses.fields(ModelConfig)}
    if is_reward_model(base):  # it has no output embedding
      there = dataclasses.replace(there, tie_word_embeddings=True)
    there = dataclasses.replace(
      there, **{name: given.get(name, fields[name]) for name in how}
    )
  else:
    there = folders.model_of(base)
  _agree(there, given, how, base)
  check_vocabulary(tokenizer, there, str(base))
  return there


def check_vocabulary(
  tokenizer: Tokenizer, config: ModelConfig, where: str
) -> None:
  """Raises UserError if a tokenizer has ids that a model lacks."""
  if tokenizer.vocab_size > config.vocab_size:
    raise UserError(
      f"the tokenizer has {tokenizer.vocab_size} tokens and the model"
      f" embeddings of {config.vocab_size}.",
      where=where,
      remedy="Take the tokenizer that the model was trained with, or give the"
      " model an embedding for every token.",
    )


def _agree(there, given: Any, free, base) -> None:
  defaults = {f.name: f.default for f in dataclasses.fields(ModelConfig)}
  for name, value in given.items():
    if name in free or value in (defaults[name], 0):  # base.py has 0 for none
      continue
    if getattr(there, name) != value:
      raise UserError(
        f"{value!r} differs from {getattr(there, name)!r} in {base}.",
        where=f"config.model.{name}",
        remedy="init_from gives the model. Take --config=checkpoint, which has"
        " no model of its own, or take the model's sizes out of your config"
        " file. --config.algorithm=NAME trains online there.",
      )
