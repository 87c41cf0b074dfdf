"""The table of all config keys, with their types, defaults and meanings.

The meanings are the Attributes of the settings' docstrings. `jalign keys` and
the site's page of keys show this table, and flags are read by its types.
"""

import dataclasses
import functools
import inspect
import itertools
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jalign.experiment.config.parse import MODEL, OF_STAGE, SECTIONS, defaults
from jalign.experiment.config.settings import (
  Settings,
  StageSettings,
  SweepSettings,
)
from jalign.models import ModelConfig

SECTION = Mapping[str, Any]  # the type of a section
SECTIONS_OF_STAGE = ("data", *OF_STAGE)
_FIRST = ("seed", "seeds", "sweep", "stages")


class Key(NamedTuple):
  """A key of a config.

  Attributes:
    name: with dots, as in a flag: "optimizer.learning_rate".
    hint: the type of its value.
    default: the value in a config that doesn't set the key.
    about: sentences that say what the key means.
    of_run: whether the key is the whole run's, and not each stage's.
  """

  name: str
  hint: Any
  default: Any
  about: str
  of_run: bool

  @property
  def section(self) -> str:
    """The name before the last dot; "" at the top level."""
    return self.name.rpartition(".")[0]


@functools.cache
def table() -> tuple[Key, ...]:
  """Returns all keys: first the keys of a run, then the keys of a stage."""
  run = [*_of(SweepSettings), *_of(Settings)]
  run.sort(key=lambda key: [*_FIRST, key.name].index(key.name))
  for name, cls in {**SECTIONS, "model": ModelConfig}.items():
    run += _of(cls, name)
  stage = list(_of(StageSettings))
  for name, cls in OF_STAGE.items():
    stage += _of(cls, name)
  return (*run, *(key._replace(of_run=False) for key in stage))


def top() -> dict[str, Any]:
  """Maps keys at the top level of a config, a stage's included, to types."""
  return {key.name: key.hint for key in table() if not key.section}


def of_stage() -> dict[str, Any]:
  """Maps keys of a stage outside of its sections to their types."""
  return {
    key.name: key.hint for key in table() if not key.section and not key.of_run
  }


def sections() -> dict[str, dict[str, Any]]:
  """Maps sections to mappings from the section's keys to their types."""
  types_of: dict[str, dict[str, Any]] = {}
  for key in table():
    if key.section:
      name = key.name.rpartition(".")[2]
      types_of.setdefault(key.section, {})[name] = key.hint
  return types_of


def holds_names(hint: Any) -> bool:
  """Whether a value is a mapping of free names, {"prompt": "question"}."""
  inner = typing.get_args(hint)[:1]
  return bool(inner) and typing.get_origin(inner[0]) is tuple


def _of(cls: Any, section: str = "") -> Iterator[Key]:
  """Yields the keys of a dataclass that a config may have, without sections."""
  values = defaults()[section] if section else defaults()
  hints, meanings = typing.get_type_hints(cls), attributes(cls)
  hints["stages"] = tuple[str, ...]  # in a config, the stages' names
  apart = () if section else (*SECTIONS, *OF_STAGE, "model")
  for field in dataclasses.fields(cls):
    name = field.name
    read = cls is not ModelConfig or name in MODEL
    if name in values and name not in apart and read:
      full = f"{section}.{name}" if section else name
      about = meanings.get(name, "")
      yield Key(full, hints[name], values[name], about, True)


def attributes(cls: Any) -> dict[str, str]:
  """Maps names to sentences, read from the Attributes of a docstring."""
  text = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2]
  parts = re.split(r"^  (\w+): ", text.partition("\n\n")[0], flags=re.M)
  pairs = zip(parts[1::2], (" ".join(part.split()) for part in parts[2::2]))
  # "r, the rank": a symbol stays as it is.
  return {
    name: about if about[1:2] == "," else about[:1].upper() + about[1:]
    for name, about in pairs
  }


def type_name(hint: Any) -> str:
  """Returns the name of a type as people write it."""
  if (typing.get_origin(hint) or hint) is Mapping:
    return "section"
  if holds_names(hint):
    return "dict"
  if typing.get_origin(hint) is tuple:
    inner = typing.get_args(hint)[0]
    return "tuple" if inner is Any else f"tuple of {type_name(inner)}"
  return "any" if hint is Any else hint.__name__


def matching(word: str) -> list[Key]:
  """Returns the keys whose names, or else whose meanings, contain a word."""
  wanted = word.lower().removeprefix("--").removeprefix("config.")
  meant = [key for key in table() if wanted in key.about.lower()]
  return _named(wanted) or meant


def _named(word: str) -> list[Key]:
  """Returns the keys of a name; of "sft.loss.beta", a stage's, the key loss."""
  first, _, others = word.partition(".")
  named = [key for key in table() if word in key.name.lower()]
  return named or (_named(others) or _named(first) if others else [])


def markdown() -> str:
  """Returns the table for the site, with a heading for each section."""
  parts, before = [], None
  for (of_run, section), keys in itertools.groupby(
    table(), lambda key: (key.of_run, key.section)
  ):
    if of_run is not before:
      parts.append(_OF_RUN if of_run else _OF_STAGE)
      before = of_run
    if section:
      parts.append(f"### `{section}`")
    rows = [("key", "type", "default", "meaning"), ("---",) * 4]
    rows += [
      (
        f"`{key.name}`",
        type_name(key.hint),
        f"`{key.default!r}`",
        _markdown_text(key.about),
      )
      for key in keys
    ]
    parts.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
  return "\n\n".join(parts) + "\n"


def _markdown_text(text: str) -> str:
  """Escapes text for a table's cell; code in backticks stays unchanged."""
  parts = re.split(r"(`[^`]+`)", text)
  parts[::2] = [re.sub(r"([*<_\[])", r"\\\1", part) for part in parts[::2]]
  return "".join(parts).replace("|", r"\|")


_OF_RUN = """\
## Keys of a run

A flag sets any of these keys: `--config.seed=1`."""
_OF_STAGE = """\
## Keys of a stage

At the top level of a config these keys describe the last stage of the run. An
earlier stage has a section of its own name, for the keys that differ there:
`c.sft.batch_size`, or the flag `--config.sft.batch_size=16`. The keys of `data`
may differ between stages, too."""
