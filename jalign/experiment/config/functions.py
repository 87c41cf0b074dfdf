"""A user's own functions: loaded by name, called with copies, and told of.

Whatever such a function raises or returns becomes one `UserError` that names
its file and line.
"""

import copy
import difflib
import functools
import importlib
import inspect
import pathlib
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jalign.errors import UserError, code_of, line_of, nearest, said
from jalign.feedback import Answers
from jalign.feedback.values import shortened

_REMEDY = "Write it as FILE.py:NAME or package.module:NAME."


def load_function(
  name: str, where: str, loaded: dict[pathlib.Path, types.ModuleType]
) -> Callable[..., Any]:
  """The function that a config names.

  A file's module is in `sys.modules` while it runs and afterwards: dataclasses
  look there for the names in annotations.

  Args:
    name: "file.py:name" or "package.module:name".
    where: config key, for errors.
    loaded: modules by their files, added to: a file is run once, however many
      keys name it.

  Raises:
    UserError: the file, module or function isn't there, or can't be run.
  """
  module_name, _, attribute = name.rpartition(":")
  path = pathlib.Path(module_name).resolve()
  is_file = module_name.endswith(".py")
  if is_file and not path.is_file():
    raise UserError(
      f"{name!r} can't be loaded: there is no file {path}.",
      where=where,
      remedy=_REMEDY,
    )
  try:
    if not is_file:
      module = importlib.import_module(module_name)
    elif path in loaded:
      module = loaded[path]
    else:
      module = types.ModuleType(f"jalign:{path}")
      module.__file__ = str(path)
      sys.modules[module.__name__] = module
      # Not by a loader: its cache takes an old text for a new one of that size.
      exec(compile(path.read_bytes(), path, "exec"), vars(module))
      loaded[path] = module
  except KeyboardInterrupt:
    raise
  except BaseException as e:  # whatever the user's module does, exit() too
    sys.modules.pop(f"jalign:{path}", None)
    at = f"{where}: {line_of(e, path)}" if is_file else where
    raise UserError(
      f"{name!r} can't be loaded ({said(e)}).", where=at, remedy=_REMEDY
    ) from e
  function = getattr(module, attribute, None)
  if not callable(function):
    own = [n for n, x in vars(module).items() if callable(x)]
    own = [n for n in own if not n.startswith("__")]
    lack = "has no function" if function is None else "has something else as"
    raise UserError(
      f"{name!r} can't be loaded: {module_name} {lack} {attribute!r}.",
      where=where,
      remedy=nearest(attribute, own),
    )
  return function


def guarded(
  function: Callable[..., Any],
  where: str,
  form: str,
  check: Callable[..., Any] = lambda returned, *arguments: returned,
  names: Callable[[], Iterable[str]] = lambda: (),
  *,
  inside: bool = False,
) -> Callable[..., Any]:
  """A user's function that gets copies, and raises nothing but UserError.

  Args:
    function: the user's.
    where: config key, for errors.
    form: how it is to be written, as "(prompt, response) -> a number".
    check: `(found, *arguments)` to what is returned; its UserError is told
      with the place of the function.
    names: gives what a KeyError or an AttributeError may have meant.
    inside: whether the user's function is called by this one in another form,
      and is its `__wrapped__`: what is told is that function's place.

  Raises:
    UserError: it can't be called in that form. Of the function returned: it
      raised something, an exit too, or returned what the check refuses. An
      interrupt from the keyboard passes.
  """
  code, name = code_of(function), getattr(function, "__name__", "the function")
  remedy = f"It is called as {form}."
  file = code and pathlib.Path(code.co_filename).resolve()
  at = f"{where}: {file}:{code.co_firstlineno}" if code else where
  parameters = form.partition(")")[0].lstrip("(")
  count = len(parameters.split(",")) if parameters else 0
  try:
    signature = inspect.signature(function, follow_wrapped=not inside)
    signature.bind(*range(count))
  except TypeError as e:
    raise UserError(
      f"{name} can't be called ({e}).", where=at, remedy=remedy
    ) from None
  except ValueError:  # a function in C that doesn't tell
    pass

  @functools.wraps(function)
  def call(*arguments):
    given = [_copied(x) for x in arguments]
    texts = [shortened(x) for x in arguments if isinstance(x, str)]
    about = f" for {', '.join(texts)}" if texts else ""
    try:
      returned = function(*given)
    except KeyboardInterrupt:
      raise
    except BaseException as e:  # its author's, whatever it is
      place = f"{where}: {line_of(e, file)}" if file else where
      hint = _meant(e, names) or "Mend it, then run the same command again."
      raise UserError(
        f"{name} raised {said(e)}{about}.", where=place, remedy=hint
      ) from e
    try:
      return check(returned, *arguments)
    except UserError as e:
      raise UserError(
        f"{name} {e.problem.removesuffix('.')}{about}.",
        where=at,
        remedy=f"{e.remedy} {remedy}".strip(),
      ) from None

  return call


def _copied(argument: Any) -> Any:
  """Lists and rows to change at will; what can't be changed stays."""
  if isinstance(argument, Answers):
    prompts, texts, rows, sequences = argument
    return Answers([*prompts], [*texts], _copied([*rows]), sequences)
  if type(argument) in (list, tuple):
    of_rows = any(isinstance(x, Mapping) for x in argument[:1])
    return copy.deepcopy([*argument]) if of_rows else [*argument]
  if isinstance(argument, Mapping):
    return copy.deepcopy(dict(argument))
  return argument


def _meant(error: BaseException, names: Callable[[], Iterable[str]]) -> str:
  """What a name that isn't there may have meant."""
  name = getattr(error, "name", None)
  if isinstance(error, KeyError) and error.args:
    name = error.args[0]
  if not isinstance(name, str) or "Did you mean" in str(error):
    return ""
  near = difflib.get_close_matches(name, list(names()), n=1)
  return f"Did you mean {near[0]!r}?" if near else ""
