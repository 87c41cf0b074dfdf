"""Commands are functions with flags; this module has help and errors of flags.

No slow import is made here, so that help and a misspelt flag are answered at
once.
"""

import argparse
import difflib
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jalign.errors import UserError

SEEDS = 2**63 - 1  # the largest
_KEY = ("--config.", "-config.")  # how a flag for a key of a config begins


class Flag(NamedTuple):
  """A flag of a command.

  Attributes:
    name: without dashes.
    value: the word for its value in the help, such as "DIR"; "" for a switch.
    about: what the flag means; the help adds the default.
    default: the value without the flag.
    read: `text -> value`; raises ArgumentTypeError.
    required: whether the command needs the flag.
    several: whether the flag may be given several times; the value is a list.
  """

  name: str
  value: str
  about: str
  default: Any = None
  read: Callable[[str], Any] | None = None
  required: bool = False
  several: bool = False


class Values(argparse.Namespace):
  """The values of a command's flags, by their names.

  Attributes:
    words: arguments that aren't flags.
    keys: (key, text) of each flag --config.KEY=TEXT, in the order given.
  """

  words: list[str]
  keys: list[tuple[str, str]]

  def __getattr__(self, name: str) -> Any:
    raise AttributeError(name)  # tells type checkers that flags have any name


class Command(NamedTuple):
  """A command of the command line.

  Attributes:
    run: the function that does the command's work.
    flags: the command's flags.
    words: the help's text for arguments beside flags, such as
      "RUN [RUN ...]"; "" where there are none.
    takes_keys: whether flags may be keys of a config, --config.KEY=VALUE.
    hints: name of a flag that the command lacks -> what to do instead.
    more: returns the text that ends the help.
  """

  run: Callable[[Values], None]
  flags: tuple[Flag, ...]
  words: str = ""
  takes_keys: bool = False
  hints: dict[str, str] = {}
  more: Callable[[], str] = lambda: ""

  @property
  def about(self) -> str:
    """The command in one line."""
    return (inspect.getdoc(self.run) or "").partition("\n")[0]

  def __call__(self, program: str, arguments: Sequence[str]) -> None:
    """Reads the flags as `parse` does, and runs the command."""
    self.run(parse(self, program, arguments))


def command(*flags: Flag, **options: Any) -> Callable[..., Command]:
  """Makes a command of a function `values -> None`; its docstring is the help.

  Args:
    *flags: the command's flags.
    **options: other fields of `Command`.
  """
  return lambda run: Command(run, flags, **options)


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
  """Makes a function that reads whole numbers in a range."""

  def read(text: str) -> int:
    try:
      value = int(text)
    except ValueError:
      raise _refuse(f"{text!r} is not a whole number") from None
    if value < least:
      raise _refuse(f"{value} is not at least {least}")
    if most is not None and value > most:
      raise _refuse(f"{value} is more than {most}")
    return value

  return read


def number(text: str) -> float:
  """Reads a finite number."""
  try:
    value = float(text)
  except ValueError:
    raise _refuse(f"{text!r} is not a number") from None
  if not math.isfinite(value):
    raise _refuse(f"{value} is not a finite number")
  return value


def columns(text: str) -> dict[str, str]:
  """Reads "FIELD=COLUMN,..." as {field of a source: column of a file}."""
  pairs = [part.partition("=") for part in _text(text).split(",") if part]
  for pair in pairs:
    if not all(pair):
      raise _refuse(f"{''.join(pair)!r} is not FIELD=COLUMN")
  return {field: column for field, _, column in pairs}


def _text(text: str) -> str:
  if "\0" in text:
    raise _refuse("contains the character NUL")
  return text


def _switch(text: str) -> bool:
  if text.lower() not in ("true", "false"):
    raise _refuse(f"{text!r} is neither true nor false")
  return text.lower() == "true"


def _refuse(problem: str) -> argparse.ArgumentTypeError:
  return argparse.ArgumentTypeError(f"{problem}.")


class _Help(argparse.RawDescriptionHelpFormatter):
  """Prints flags in the form in which they are typed, --count=N."""

  def __init__(self, prog: str):
    super().__init__(prog, max_help_position=26)

  def _format_action_invocation(self, action: argparse.Action) -> str:
    if not action.option_strings or action.nargs in (0, "?"):
      return ", ".join(action.option_strings)
    return f"{action.option_strings[0]}={action.metavar}"


def _parser(of: Command, program: str) -> argparse.ArgumentParser:
  needed = [f"--{f.name}={f.value}" for f in of.flags if f.required]
  more = "[--config.KEY=VALUE ...]" if of.takes_keys else "[flags]"
  usage = [program, of.words, *needed, more]
  parser = argparse.ArgumentParser(
    program,
    usage=" ".join(filter(None, usage)),
    description=inspect.getdoc(of.run),
    formatter_class=_Help,
    allow_abbrev=False,
    exit_on_error=False,
    add_help=False,
  )
  group = parser.add_argument_group("flags")
  for flag in of.flags:
    about = flag.about
    if flag.default not in (None, "") and flag.default is not False:
      about += f"; {flag.default} by default"
    options: dict[str, Any] = {
      "help": about.replace("%", "%%"),
      "default": flag.default,
      "dest": flag.name,
    }
    if not flag.value:
      options |= {"nargs": "?", "const": True, "type": _switch}
    else:
      options |= {"metavar": flag.value, "type": flag.read or _text}
    if flag.several:
      options |= {"action": "append", "default": None}
    group.add_argument(f"--{flag.name}", **options)
  group.add_argument("--help", "-h", action="store_true", help="this text")
  return parser


def parse(of: Command, program: str, arguments: Sequence[str]) -> Values:
  """Returns the values of a command's flags; --help prints and exits.

  Args:
    of: the command.
    program: the words typed before the arguments, "jalign train".
    arguments: flags and words.

  Raises:
    UserError: a flag is unknown, missing, without its value, or has a value
      that it can't have.
  """
  keys, others = _keys(arguments) if of.takes_keys else ([], list(arguments))
  parser = _parser(of, program)
  if {"-h", "--help"} & {*others}:
    parser.epilog = of.more()
    parser.print_help()
    raise SystemExit(0)
  values = Values()
  try:
    _, left = parser.parse_known_args(others, values)
  except argparse.ArgumentError as e:
    problem = e.message
    if problem == "expected one argument":
      problem = "has no value."
    raise UserError(problem, where=e.argument_name or "") from None
  values.keys, values.words = keys, _words(of, left, program)
  missing = [
    f"--{flag.name}={flag.value}"
    for flag in of.flags
    if flag.required and not getattr(values, flag.name)
  ]
  if missing:
    raise UserError(
      f"{program.split()[-1]} needs {_listed(missing)}.",
      remedy=f"`{program} --help` lists its flags.",
    )
  return values


def _keys(
  arguments: Sequence[str],
) -> tuple[list[tuple[str, str]], list[str]]:
  """Returns flags of a config's keys as (key, text), and other arguments."""
  keys, others, left = [], [], list(arguments)
  while left:
    argument = left.pop(0)
    if not argument.startswith(_KEY):
      others.append(argument)
      continue
    key, given, text = argument.lstrip("-").partition("=")
    if not given:  # the value is the next argument, or the flag is a switch
      follows = bool(left) and not left[0].startswith("--")
      text = left.pop(0) if follows else "true"
    keys.append((key.removeprefix("config."), text))
  return keys, others


def _words(of: Command, left: Sequence[str], program: str) -> list[str]:
  """Returns the arguments that aren't flags, if the command takes any."""
  words: list[str] = []
  for i, argument in enumerate(left):
    if argument == "--":
      words += left[i + 1 :]
      break
    if argument.startswith("-") and argument != "-":
      raise _unknown(of, argument, program)
    words.append(argument)
  for word in words:
    if "\0" in word:
      raise UserError("contains the character NUL.", where=repr(word))
  if words and not of.words:
    raise UserError(
      f"{words[0]!r} is not a flag.", remedy="Flags begin with --."
    )
  return words


def _unknown(of: Command, argument: str, program: str) -> UserError:
  name = argument.lstrip("-").partition("=")[0]
  names = [flag.name for flag in of.flags]
  if of.takes_keys and name.partition(".")[2]:
    near = difflib.get_close_matches(name.partition(".")[0], ["config"])
    meant = f"--config.{name.partition('.')[2]}"
  else:
    near = difflib.get_close_matches(name, names, n=1)
    meant = f"--{near[0]}" if near else ""
  remedy = f"Did you mean {meant}? " if near else ""
  if of.takes_keys and not near:
    remedy = f"A key of the config is written --config.{name}."
  remedy = of.hints.get(name, remedy)
  return UserError(
    f"there is no flag {argument.partition('=')[0]!r}.",
    remedy=f"{remedy} `{program} --help` lists the flags.".strip(),
  )


def _listed(names: Sequence[str]) -> str:
  *others, last = names
  return f"{', '.join(others)} and {last}" if others else last
