"""Reads from a model's generation_config.json how to sample from the model."""

import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from jalign.data.tokenizer import GENERATION, read_object
from jalign.decode import Sampler, sampler
from jalign.errors import UserError

# Keys that don't change what is drawn, or that are read elsewhere.
_SILENT = (
  "bos_token_id",
  "cache_implementation",
  "decoder_start_token_id",
  "disable_compile",
  "do_sample",
  "eos_token_id",
  "max_length",  # of prompt and response; here it is max_new_tokens
  "output_attentions",
  "output_hidden_states",
  "output_logits",
  "output_scores",
  "pad_token_id",
  "return_dict_in_generate",
  "trust_remote_code",
  "use_cache",
)
_TRUNCATION = ("top_k", "top_p", "min_p")
_DRAWS = ("temperature", *_TRUNCATION)


class Generation(NamedTuple):
  """How responses are drawn.

  Attributes:
    temperature: 0 takes the likeliest token.
    top_k: number of likeliest tokens to keep; 0 keeps all.
    top_p: probability mass of tokens to keep; 1 keeps all.
    min_p: least probability, relative to the likeliest token; 0 keeps all.
    repetition_penalty: 1 for no penalty.
    max_new_tokens: most tokens of a response.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  min_p: float = 0.0
  repetition_penalty: float = 1.0
  max_new_tokens: int = 64

  def draw(self) -> Sampler:
    """The sampler of these settings.

    Raises:
      UserError: a value is out of its range.
    """
    return sampler(
      **{k: v for k, v in self._asdict().items() if k != "max_new_tokens"}
    )


def settings_of(
  folder: pathlib.Path, given: Mapping[str, Any]
) -> tuple[Generation, list[str]]:
  """Merges the settings in a folder's generation_config.json with those given.

  Args:
    folder: folder of a checkpoint, or of the tokenizer that a run keeps. If the
      file says do_sample=false, the likeliest token is taken, unless `given`
      says something about draws.
    given: fields of `Generation` given on the command line, which win.

  Returns:
    (settings, lines that say where they come from).

  Raises:
    UserError: a value isn't a number, or is out of its range; the error names
      its place.
  """
  path = folder / GENERATION
  written = read_object(path)
  there = {
    name: _number(written[name], name, type(default), path)
    for name, default in Generation()._asdict().items()
    if written.get(name) is not None and name not in given
  }
  if written.get("do_sample") is False and not set(_DRAWS) & given.keys():
    there = {k: v for k, v in there.items() if k not in _DRAWS}
    there["temperature"] = 0.0
  if there.get("top_k", 0) < 0:  # vLLM writes -1 for no limit
    there["top_k"] = 0
  if given.get("temperature") == 0:
    there = {k: v for k, v in there.items() if k not in _TRUNCATION}
  settings = Generation(**{**there, **given})
  if settings.max_new_tokens < 1:
    raise UserError(
      f"{settings.max_new_tokens} is below 1.",
      where="--max_new_tokens" if "max_new_tokens" in given else str(path),
    )
  try:
    settings.draw()
  except UserError as error:
    name = error.where.rpartition(".")[2]
    where = f"--{name}" if name in given else f"{path}: {name}"
    raise UserError(error.problem, where=where, remedy=error.remedy) from None
  lines = [f"settings: {_said(settings, there.keys() - given.keys(), path)}"]
  unread = {
    key
    for key, value in written.items()
    if key not in (*_SILENT, *Generation._fields)
    and not key.startswith("_")
    and not key.endswith("_version")
    and value not in (None, False, 0, 1, [], {}, "")
  }
  if unread:
    lines.append(
      f"{path} also has {', '.join(sorted(unread))}, which is not applied"
    )
  return settings, lines


def _said(settings: Generation, from_file: set[str], path) -> str:
  defaults = Generation()._asdict()
  parts = []
  for name, value in settings._asdict().items():
    if name in from_file:
      parts.append(f"{name} {value:g} (of {path})")
    elif value != defaults[name] or name in ("temperature", "max_new_tokens"):
      parts.append(f"{name} {value:g}")
  return ", ".join(parts)


def _number(value: Any, name: str, kind: type, path: pathlib.Path) -> Any:
  plain = isinstance(value, int | float) and not isinstance(value, bool)
  if not plain or not math.isfinite(value) or kind(value) != value:
    raise UserError(
      f"{name} is {value!r}.",
      where=str(path),
      remedy=f"Write {'a whole' if kind is int else 'a'} number, or give"
      f" --{name}."
      if name != "repetition_penalty"
      else "Write a number.",
    )
  return kind(value)
