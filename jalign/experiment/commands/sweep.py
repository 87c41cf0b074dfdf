"""Lists the runs of a config: seeds times the product of what is swept."""

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jalign.errors import UserError
from jalign.experiment.config.algorithms import algorithm_of
from jalign.experiment.config.overrides import assign, rank
from jalign.experiment.config.parse import parse, plain
from jalign.experiment.config.settings import Settings

_LONGEST = 200  # bytes of a folder's name; file systems take 255
_APART = ("seeds", "sweep", "resume")  # keys that no single run has


class SweptRun(NamedTuple):
  """One run of a config.

  Attributes:
    name: name of its folder in the work folder; "" for a config of a single
      run.
    setting: its name without the seed, which runs that differ only in the seed
      share.
    config: its config, without `seeds` and `sweep`.
    settings: the parsed config.
  """

  name: str
  setting: str
  config: dict[str, Any]
  settings: Settings


def runs(config: Mapping[str, Any]) -> list[SweptRun]:
  """The runs of a config, which must all differ.

  Raises:
    UserError: as in `expand`, `parse` and `algorithm_of`; or two runs have the
      same settings.
  """
  swept: list[SweptRun] = []
  for name, setting, values in _product(config):
    run = SweptRun(name, setting, values, parse(values))
    for stage in run.settings.stages:
      if stage.samples:
        algorithm_of(stage)  # before any data is read
    same = next((r for r in swept if r.settings == run.settings), None)
    if same is not None:
      raise UserError(
        f"{same.name!r} and {name!r} are the same run.",
        where="config.sweep",
        remedy="List each value once.",
      )
    swept.append(run)
  return swept


def expand(config: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
  """Expands a config into runs: `seeds` times the product of `sweep`.

  Args:
    config: a config, with optional `seeds`, a tuple, and `sweep`, a tuple of
      (dotted key, tuple of values).

  Returns:
    A list of (name of the run, config without seeds and sweep); the name is
    "" for a config of a single run. Names are folder names: characters that
    can't be in one are replaced, and a hash then keeps names different.

  Raises:
    UserError: a swept key isn't in the config, is given twice or has no
      values; or two values give the same name.
  """
  return [(name, values) for name, _, values in _product(config)]


def _product(config):
  """(name, name without the seed, config) of each run."""
  config = dict(config)
  sweep = _swept(config.pop("seeds", ()) or (), config.pop("sweep", ()) or ())
  product, names = [], set()
  for values in itertools.product(*sweep.values()):
    config_values = plain(config)
    for key, value in sorted(zip(sweep, values), key=lambda x: rank(x[0])):
      _set(config_values, key, value)
    parts = [f"{key}={value}" for key, value in zip(sweep, values)]
    name = _folder_name(parts)
    if name in names:
      raise UserError(
        f"{name!r} is there twice.",
        where="config.seeds" if list(sweep) == ["seed"] else "config.sweep",
        remedy="List each value once.",
      )
    names.add(name)
    others = [part for part in parts if not part.startswith("seed=")]
    product.append((name, ", ".join(others), config_values))
  return product


def _swept(seeds: Any, sweep: Any) -> dict[str, Sequence[Any]]:
  """Key -> its values, with the seeds first."""
  try:
    pairs = [("seed", tuple(seeds))] if seeds else []
    pairs += [(key, values) for key, values in sweep]
    if not all(
      isinstance(key, str) and isinstance(values, tuple | list)
      for key, values in pairs
    ):
      raise TypeError
  except (TypeError, ValueError) as e:
    raise UserError(
      "seeds must be numbers; sweep, pairs of a key and its values.",
      where="config.sweep",
    ) from e
  for i, (key, values) in enumerate(pairs):
    where = f"config.sweep[{key!r}]"
    if key in dict(pairs[:i]):
      raise UserError(
        "the key is given twice, or both here and as config.seeds.",
        where=where,
        remedy="Give all values of the key in one place.",
      )
    if not values:
      raise UserError(
        "the key has no values, so that there is no run.",
        where=where,
        remedy="Give one or more, or leave the key out.",
      )
    if key in _APART:
      raise UserError("this key can't be swept.", where=where)
  return dict(pairs)


def _set(config: dict[str, Any], key: str, value: Any) -> None:
  try:
    assign(config, key, value)
  except UserError as e:
    at = f"config.sweep[{key!r}]"
    raise UserError(e.problem, where=at, remedy=e.remedy) from None


def _folder_name(parts: Sequence[str]) -> str:
  """A folder's name for values that may be paths, or texts of any length."""
  whole = ",".join(parts)
  name = re.sub(r"[/\\\x00-\x1f\x7f\ud800-\udfff]", "_", whole)
  if len(name.encode()) > _LONGEST:
    name = name.encode()[: _LONGEST - 9].decode(errors="ignore")
  if name == whole:
    return name
  digest = hashlib.sha256(whole.encode(errors="surrogatepass"))
  return f"{name}~{digest.hexdigest()[:8]}"
