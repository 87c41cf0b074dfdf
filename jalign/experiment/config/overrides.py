"""Sets keys of a config by their dotted names, as flags and sweeps do.

A config is a ConfigDict or nested dictionaries. Any key of any stage can be
set, whether or not the config has it.
"""

import contextlib
import copy
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from jalign.errors import UserError, meant, said
from jalign.experiment.config import keys, loss_section
from jalign.experiment.config.from_text import from_text
from jalign.experiment.config.parse import OF_ONE, OF_STAGE, SEE

Read = Callable[[Any, Any, str], Any]  # (value, type, where) -> value

# Keys that other keys depend on are set first, whatever the order of flags.
_FIRST = ("stages", "algorithm", "loss", "loss.name", "loss.weights")


def override(config: Any, texts: Sequence[tuple[str, str]]) -> None:
  """Sets keys from texts, as a command line gives them.

  Naming another loss, or another algorithm, replaces the section `loss` by its
  defaults. Naming stages removes the sections of stages that are left out. A
  key of a stage's name sets that stage alone, whichever order the texts have.

  Args:
    config: the config, which is changed in place.
    texts: (dotted key, text of the value) of each key to set.

  Raises:
    UserError: there is no such key, a config can't hold the value, or setting
      a key changes nothing.
  """
  given = copy.deepcopy(config)
  for key, text in sorted(texts, key=lambda pair: rank(pair[0])):
    try:
      _set(config, key, text, from_text)
    except UserError:
      raise
    except (ValueError, TypeError) as e:  # a ConfigDict refuses dots in names
      raise UserError(f"{said(e)}.", where=f"config.{key}") from e
  for key, _ in texts:  # such a flag hides the loss of the top level, too
    stage, _, name = key.partition(".")
    if name == "loss.name" and len(config.get("stages", ())) > 1:
      child(given, stage, f"config.{key}")["loss"] = {}
  for key, text in texts:
    _check_effect(config, given, key, text)
  sums = {key.partition("loss.weights")[0] for key, _ in texts if _weighs(key)}
  for key, text in texts:
    if key.endswith("loss.name") and key.removesuffix("loss.name") in sums:
      raise UserError(
        "changes nothing, because other flags give the weights of a sum.",
        where=f"config.{key}",
        remedy=f"A term of the sum is --config.{key[:-4]}weights.{text}=WEIGHT",
      )


@contextlib.contextmanager
def naming_flags(config: Mapping[str, Any]) -> Iterator[None]:
  """Errors name keys of the last stage as flags do, without the stage's name.

  A config that has a section for its last stage needs the name, and keeps it.
  """
  try:
    yield
  except UserError as e:
    last = str((config.get("stages") or ("train",))[-1])
    if type(e) is not UserError or config.get(last):
      raise
    key = re.compile(rf"\bconfig\.{re.escape(last)}(?![\w-])")
    texts = [key.sub("config", t) for t in (e.problem, e.where, e.remedy)]
    raise UserError(texts[0], where=texts[1], remedy=texts[2]) from e


def assign(config: Any, key: str, value: Any) -> None:
  """Sets a key as `override` does, to a value that isn't read or checked."""
  _set(config, key, value, lambda value, hint, where: value)


def rank(key: str) -> tuple[bool, int]:
  """Returns when a key is set: other keys depend on those of low rank.

  What a stage inherits is set before the stage's own keys.
  """
  of_stage = key.partition(".")[0] not in (*keys.top(), *keys.sections())
  if _weighs(key):
    key = "loss.weights"
  ranks = [r for r, n in enumerate(_FIRST) if f".{key}".endswith(f".{n}")]
  return of_stage, max(ranks, default=len(_FIRST))


def _weighs(key: str) -> bool:
  """Whether a key sets weights of a sum of losses."""
  return ".loss.weights." in f".{key}."


def _set(config: Any, key: str, value: Any, read: Read) -> None:
  where, (head, *rest) = f"config.{key}", key.split(".")
  stages = tuple(config.get("stages", ("train",)))
  section, names, sections = config, keys.top(), keys.sections()
  if rest and head in stages:
    if len(stages) > 1 or head in config:
      section = child(config, head, where)
    names = keys.of_stage()
    sections = {n: sections[n] for n in keys.SECTIONS_OF_STAGE}
    head, *rest = rest
  if head == "stages" and not rest and section is config:
    _set_stages(config, read(value, tuple[str, ...], where))
  elif head == "algorithm" and not rest:
    loss_section.set_algorithm(config, section, read(value, str, where))
  elif head == "loss":
    loss_section.set_loss(config, section, rest, value, read, where)
  elif head == "algorithm_settings" and rest:
    hint = loss_section.hint_of_algorithm(config, section, rest, where)
    child(section, head, where)[rest[0]] = read(value, hint, where)
  elif head == "head" and not rest and isinstance(value, str):
    section["head"] = {"name": value}
  elif head == "head" and len(rest) == 1:
    child(section, head, where)[rest[0]] = read(value, Any, where)
  elif head in sections:
    _set_within(section, head, rest, value, read, where)
  elif head in names and not rest:
    section[head] = read(value, names[head], where)
  elif head in names:
    raise unknown(rest[0], (), where)
  elif head in stages and section is config and not rest:
    raise UserError(
      "is a stage, whose keys are flags.",
      where=where,
      remedy=f"Write --{where}.KEY={value}. {SEE}",
    )
  elif head in (*keys.top(), *keys.sections()):
    raise UserError(
      "is a key of the run, not of a stage.",
      where=where,
      remedy=f"Write --config.{'.'.join((head, *rest))}={value}",
    )
  else:
    known = (*names, *sections, *(stages if section is config else ()))
    inner = [*_inner(sections), *(f"loss.{n}" for n in config.get("loss", ()))]
    there = [name for name in inner if name.rpartition(".")[2] == head]
    if there and not rest:
      remedy = f"Did you mean {' or '.join(map(repr, there))}? {SEE}"
      raise UserError(
        f"there is no key {head!r} here.", where=where, remedy=remedy
      )
    raise unknown(head, known, where)


def _check_effect(config: Any, given: Any, key: str, text: str) -> None:
  """Raises UserError if sections of the stages hide a key of the top level.

  Args:
    config: the config with all keys set.
    given: the config as its file made it, with the losses that flags name for
      single stages.
    key: a dotted key that was set.
    text: the text of its value.
  """
  head, *rest = key.split(".")
  stages = tuple(config.get("stages", ("train",)))
  if head not in keys.of_stage() and head not in OF_STAGE:
    return
  affected = stages[-1:] if head in OF_ONE else stages
  sections = [given.get(name, {}) for name in affected]
  if rest and head in OF_STAGE:
    sections, name = [own.get(head, {}) for own in sections], rest[0]
  else:
    name = head
  if all(name in own for own in sections):
    raise UserError(
      "changes nothing: the section of"
      f" {' and that of '.join(affected)} says otherwise.",
      where=f"config.{key}",
      remedy=f"Write --config.{stages[-1]}.{key}={text}",
    )


def _inner(sections: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
  """Yields the full names of the keys of sections."""
  for section, hints in sections.items():
    yield from (f"{section}.{name}" for name in hints)


def _set_within(
  section: Any, head: str, rest: list[str], value: Any, read: Read, where: str
) -> None:
  """Sets a key of a section, or the whole section."""
  hints = keys.sections()[head]
  if not rest and isinstance(value, str):
    raise UserError(
      "is a section of keys, each of which is a flag.",
      where=where,
      remedy=f"Write --{where}.KEY={value}. {SEE}",
    )
  if not rest:
    section[head] = value
    return
  name, *deeper = rest
  if name not in hints:
    raise unknown(name, hints, where)
  inner = child(section, head, where)
  if not deeper:
    inner[name] = read(value, hints[name], where)
  elif typing.get_origin(hints[name]) is Mapping:
    for key in (name, *deeper[:-1]):
      inner = child(inner, key, where)
    inner[deeper[-1]] = read(value, Any, where)
  elif len(deeper) == 1 and keys.holds_names(hints[name]):
    child(inner, name, where)[deeper[0]] = read(value, str, where)
  else:
    raise unknown(deeper[0], (), where)


def _set_stages(config: Any, stages: Sequence[str]) -> None:
  for gone in set(config.get("stages", ())) - set(stages):
    if gone in config:
      del config[gone]
  config["stages"] = stages


def child(section: Any, name: str, where: str) -> Any:
  """Returns a section inside another section; adds it if it is missing."""
  if name not in section or section[name] == ():
    section[name] = {}
  if not hasattr(section[name], "keys"):
    raise UserError(f"{name} is not a section of keys.", where=where)
  return section[name]


def unknown(name: str, known: Iterable[str], where: str) -> UserError:
  """Returns the error for a key that doesn't exist."""
  return UserError(
    f"there is no key {name!r} here.",
    where=where,
    remedy=f"{meant(name, known)}{SEE}",
  )
