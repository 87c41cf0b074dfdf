"""Loads a user's own functions by name, and calls them with copies.

An error that such a function raises, or a wrong value that it returns, becomes
one `UserError` that names the function's file and line.
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
  """Loads the function that a config names.

  A file's module is in `sys.modules` while it runs and afterwards: dataclasses
  look there for the names in annotations.

  Args:
    name: "file.py:name" or "package.module:name".
    where: config key, for errors.
    loaded: modules by their files. The module of a new file is added, so that
      a file is run once, however many keys name it.

  Raises:
    UserError: the file, module or function doesn't exist, or can't be run.
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
      # A loader would use its cache for a changed file of the same size.
      exec(compile(path.read_bytes(), path, "exec"), vars(module))
      loaded[path] = module
  except KeyboardInterrupt:
    raise
  except BaseException as e:  # the user's module may even call exit()
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
  """Wraps a user's function: it gets copies, and raises only UserError.

  Args:
    function: the user's function.
    where: config key, for errors.
    form: the form that the function must have, such as
      "(prompt, response) -> a number".
    check: `(returned, *arguments) -> value to return`; the place of the user's
      function is added to its UserError.
    names: returns the names that a KeyError or an AttributeError may have
      meant.
    inside: whether `function` is a wrapper that calls the user's function, its
      `__wrapped__`, in another form; errors name the place of the latter.

  Raises:
    UserError: the function can't be called in that form. The returned function
      raises UserError if the user's function raises or exits, or returns a
      value that the check refuses. It lets an interrupt from the keyboard pass.
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
  except ValueError:  # a function in C that has no signature
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
    except BaseException as e:  # any error of the user's function
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
  """Copies lists and rows; immutable arguments are returned as they are."""
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
  """Suggests a name in place of the name that an error is about."""
  name = getattr(error, "name", None)
  if isinstance(error, KeyError) and error.args:
    name = error.args[0]
  if not isinstance(name, str) or "Did you mean" in str(error):
    return ""
  near = difflib.get_close_matches(name, list(names()), n=1)
  return f"Did you mean {near[0]!r}?" if near else ""
