"""A user's own loss: config.loss.name = "FILE.py:NAME".

The function has the form of a loss of jalign.losses: its positional parameters
are named after arrays that a batch gives (chosen_logps, rejected_logps, ...;
the site lists the arrays by kind of batch), its keyword-only parameters are
hyperparameters, and it returns a value for each example.

  def my_loss(chosen_logps, rejected_logps, *, beta=0.1):
    return jax.nn.softplus(-beta * (chosen_logps - rejected_logps))

The kind of batch is the first kind in `jalign.training.kinds.KINDS` that gives
all of the arrays; config.loss.batch names another kind.
"""

import functools
import importlib.util
import inspect
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from jalign import losses
from jalign.errors import UserError, code_of, meant
from jalign.experiment.config import code
from jalign.experiment.config.functions import load_function
from jalign.losses.signature import check_settings
from jalign.online.told import tell
from jalign.training.kinds import KINDS, kind_of

# Keys of the loss section beside hyperparameters, with their defaults. For
# jalign's own losses, the catalogue has these facts.
KEYS: Mapping[str, Any] = {
  "batch": "",
  "denominator": "examples",
  "coupled": False,
}
_EMPTY = inspect.Parameter.empty
_FORM = "def loss(chosen_logps, rejected_logps, *, beta=0.1)"


def is_own(name: Any) -> bool:
  """Whether a name names a function in a file or a module."""
  return isinstance(name, str) and ":" in name


def load(name: str, where: str) -> Callable[..., Any]:
  """Loads the function as its author wrote it.

  Args:
    name: "file.py:name" or "package.module:name".
    where: config key of the loss section, for errors.

  Raises:
    UserError: the function can't be loaded; a parameter has a default and isn't
      keyword-only, so that it could be an array or a hyperparameter; or a
      hyperparameter has the name of another key of the section.
  """
  function = load_function(name, f"{where}.name", {})
  settings = losses.hyperparameters(function)
  for taken in settings.keys() & {"name", "weights", *KEYS}:
    raise UserError(
      f"a hyperparameter is called {taken!r}, which is a key of every loss.",
      where=_place(function, where),
      remedy="Give the hyperparameter another name.",
    )
  for parameter in inspect.signature(function).parameters.values():
    ordinary = parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    if ordinary and parameter.default is not _EMPTY:
      raise UserError(
        f"the parameter {parameter.name!r} has a default and isn't"
        " keyword-only.",
        where=_place(function, where),
        remedy=f"Hyperparameters come after a *, as in {_FORM}.",
      )
  return function


def bound(
  name: str, section: Mapping[str, Any], where: str
) -> tuple[Callable[..., Any], losses.Entry]:
  """Returns the loss with its hyperparameters, and a row for it.

  Args:
    name: as in `load`.
    section: hyperparameters, and any of `KEYS`.
    where: config key of the loss section, for errors.

  Raises:
    UserError: as in `load`; or a hyperparameter is unknown or lacks its value,
      or no batch gives the arrays. An error that the function raises when it is
      called becomes a UserError with its file and line.
  """
  function = load(name, where)
  options = {k: section.get(k, default) for k, default in KEYS.items()}
  settings = {k: v for k, v in section.items() if k not in KEYS}
  check_settings(name, function, settings)
  for key, default in losses.hyperparameters(function).items():
    if default is _EMPTY and key not in settings:
      raise UserError(
        f"{name} needs a value of {key!r}.",
        where=f"{where}.{key}",
        remedy=f"Give --{where}.{key}=VALUE, or a default in the function.",
      )
  names = losses.array_parameters(function)
  kind = options["batch"] or _kind(names, _place(function, where))
  try:
    kind_of(kind)
  except UserError as e:
    at = f"{where}.batch"
    raise UserError(e.problem, where=at, remedy=e.remedy) from None
  absent = [array for array in names if array not in KINDS[kind].gives]
  if absent:
    raise UserError(
      f"a batch of {kind} gives no {' and no '.join(absent)}.",
      where=f"{where}.batch",
      remedy=f"Leave {where}.batch out, or take arrays that {kind} give:"
      f" {', '.join(KINDS[kind].gives)}.",
    )
  divisors = ("examples", *KINDS[kind].counts)
  if options["denominator"] not in divisors:
    raise UserError(
      f"{options['denominator']!r} is not one of {', '.join(divisors)}.",
      where=f"{where}.denominator",
    )
  entry = losses.Entry(
    functools.partial(_guarded(function, where), **settings),
    kind,
    paper="",
    denominator=options["denominator"],
    coupled=bool(options["coupled"]),
  )
  return entry.function, entry


def fingerprint(section: Mapping[str, Any]) -> str:
  """Returns a hash of the code of a section's own loss.

  Args:
    section: `loss` of a stage.

  Returns:
    "" for a loss of the catalogue, and where the file or module is gone: who
    only reads what a run has left doesn't need that code.
  """
  name = section.get("name", "")
  there = is_own(name) and _exists(name.rpartition(":")[0])
  return code.fingerprint(name) if there else ""


def _exists(module: str) -> bool:
  """Whether there is such a file, or a module that can be imported."""
  if module.endswith(".py"):
    return pathlib.Path(module).is_file()
  try:
    return module in sys.modules or importlib.util.find_spec(module) is not None
  except (ImportError, ValueError):  # a package around the module is gone
    return False


def _kind(names: tuple[str, ...], where: str) -> str:
  """Returns the first kind of batch that gives all the named arrays."""
  kinds = [k for k in KINDS.values() if k.arrays is not None and not k.head]
  for kind in kinds:
    if names and set(names) <= set(kind.gives):
      return kind.name
  closest = max(kinds, key=lambda kind: len(set(names) & set(kind.gives)))
  unknown = [name for name in names if name not in closest.gives]
  remedy = "".join(meant(name, closest.gives) for name in unknown[:1])
  if not names:
    raise UserError("takes no array.", where=where, remedy=f"Write {_FORM}.")
  raise UserError(
    f"no kind of batch gives all of {', '.join(names)}: {closest.name} lack"
    f" {', '.join(unknown)}.",
    where=where,
    remedy=f"{remedy}A batch of {closest.name} gives"
    f" {', '.join(closest.gives)}.",
  )


def _guarded(function: Callable[..., Any], where: str) -> Callable[..., Any]:
  """Wraps the function, so that its errors have their place in its file."""
  name = losses.name_of(function)  # a partial has none of its own
  told = tell(function, name)

  def call(*arrays: Any, **settings: Any) -> Any:
    try:
      values = told(*arrays, **settings)
    except UserError as e:
      at = f"{where}: {e.where}" if e.where else where
      raise UserError(e.problem, where=at, remedy=e.remedy) from e
    count = arrays[0].shape[0]
    shape = getattr(values, "shape", None)
    if shape != (count,):
      gave = f"shape {shape}" if shape is not None else repr(values)
      raise UserError(
        f"{name} gave {gave} for {count} examples.",
        where=_place(function, where),
        remedy=f"Return a value for each example, of shape ({count},): sum over"
        " tokens, and don't take the mean over the batch.",
      )
    return values

  functools.update_wrapper(call, function)
  return call


def _place(function: Callable[..., Any], where: str) -> str:
  written = code_of(function)
  if written is None:
    return where
  file = pathlib.Path(written.co_filename).resolve()
  return f"{where}: {file}:{written.co_firstlineno}"
