"""`python -m jalign.losses` prints the catalogue of losses for people to read.

With the name of a loss it prints that loss's whole docstring.
"""

import inspect
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jalign.cli import loss_tables
from jalign.cli.parsing import Values, command
from jalign.cli.terminal import guarded
from jalign.errors import UserError
from jalign.losses.catalogue import CATALOGUE, Entry
from jalign.losses.presets import PRESETS, resolve
from jalign.losses.signature import array_parameters, hyperparameters
from jalign.training.kinds import KINDS

PROGRAM = "python -m jalign.losses"


def main(argv: Sequence[str] | None = None) -> None:
  """Entry point of `python -m jalign.losses`; exits the process."""
  arguments = list(sys.argv[1:] if argv is None else argv)
  guarded(PROGRAM, lambda: _losses(PROGRAM, arguments))


@command(words="[NAME]")
def _losses(values: Values) -> None:
  """Lists the losses by kind of batch, or prints all about one loss.

  With NAME, the command prints the loss's arrays, its hyperparameters with
  their defaults, its formula, its conventions and its paper.

  examples:
    python -m jalign.losses
    python -m jalign.losses simpo
  """
  if len(values.words) > 1:
    raise UserError("give one NAME at most.")
  width = min(max(shutil.get_terminal_size((80, 24)).columns, 72), 100)
  lines = _one(values.words[0], width) if values.words else _catalogue(width)
  print("\n".join(lines), flush=True)


def _catalogue(width: int) -> Iterator[str]:
  """Yields the lines that describe all losses, by kind of batch."""
  for kind, entries in loss_tables.groups().items():
    head = f"{kind}: {KINDS[kind].about}"
    yield from textwrap.wrap(head, width)
    yield "=" * min(len(head), width)
    yield ""
    for name, entry in entries.items():
      yield from _summary(name, entry, width)
      yield ""
  yield from textwrap.wrap(f"Sums with a name: {', '.join(PRESETS)}.", width)
  yield ""
  yield from textwrap.wrap(
    f"{len(CATALOGUE)} losses. {PROGRAM} NAME prints all about one loss: its"
    " arrays and hyperparameters, its formula, its conventions, its paper.",
    width,
  )


def _summary(name: str, entry: Entry, width: int) -> Iterator[str]:
  marks = [entry.paper or loss_tables.UNPUBLISHED]
  if loss_tables.needs_reference(entry):
    marks.append("needs a reference")
  if entry.coupled:
    marks.append("sees the whole batch")
  if entry.denominator != "examples":
    marks.append(f"divided by {entry.denominator}")
  yield from _indented(f"{name}  ({', '.join(marks)})", width, 0)
  for i, clause in enumerate(loss_tables.clauses(entry)):
    yield from _indented(clause, width, 4 if i == 0 else 6)
  yield from _indented(
    f"takes {', '.join(array_parameters(entry.function))}", width, 4
  )
  settings = ", ".join(loss_tables.settings_of(entry))
  if settings:
    yield from _indented(f"with {settings}", width, 4)


def _indented(text: str, width: int, indent: int) -> list[str]:
  return textwrap.wrap(
    text,
    width,
    initial_indent=" " * indent,
    subsequent_indent=" " * (indent + 4),
    break_long_words=False,
    break_on_hyphens=False,
  )


def _one(name: str, width: int) -> Iterator[str]:
  """Yields the signature and the docstring of a loss or of a preset."""
  arrays: tuple[str, ...] = ()
  if name in PRESETS:
    function: Callable[..., Any] = PRESETS[name]
  else:
    try:
      function = resolve(name)[1].function
    except UserError as e:  # its place would be a key, and there is no config
      raise UserError(e.problem, remedy=e.remedy) from e
    arrays = array_parameters(function)
  settings = [f"{k}={v}" for k, v in hyperparameters(function).items()]
  parameters = [*arrays, *(["*"] if settings else []), *settings]
  yield from _indented(f"{name}({', '.join(parameters)})", width, 0)
  yield ""
  yield inspect.getdoc(function) or ""
