"""`python -m jalign.online` prints the table of algorithms for people to read.

With the name of an algorithm it prints all that the algorithm's row says.
"""

import collections
import inspect
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence

from jalign import losses
from jalign.cli.parsing import Values, command
from jalign.cli.terminal import guarded
from jalign.errors import UserError, nearest
from jalign.online import ALGORITHMS, Algorithm, hyperparameters

PROGRAM = "python -m jalign.online"
_UNITS = ("passes", "minibatches")  # settings that every row has


def main(argv: Sequence[str] | None = None) -> None:
  """Entry point of `python -m jalign.online`; exits the process."""
  arguments = list(sys.argv[1:] if argv is None else argv)
  guarded(PROGRAM, lambda: _algorithms(PROGRAM, arguments))


@command(words="[NAME]")
def _algorithms(values: Values) -> None:
  """Lists the online algorithms, or prints all about one of them.

  An algorithm's line says which models draw the responses to a prompt, what the
  judge is asked, the kind of batch, the loss, and the paper. With NAME, the
  command prints hyperparameters and their defaults, and where the algorithm's
  functions are explained.

  examples:
    python -m jalign.online
    python -m jalign.online rloo
  """
  if len(values.words) > 1:
    raise UserError("give one NAME at most.")
  width = min(max(shutil.get_terminal_size((80, 24)).columns, 72), 100)
  lines = _one(values.words[0], width) if values.words else _all(width)
  print("\n".join(lines), flush=True)


def draws_of(row: Algorithm) -> str:
  """Who draws, such as "policy x 4, greedy"."""
  counts = collections.Counter(draw.name for draw in row.draws)
  return ", ".join(f"{n} x {k}" if k > 1 else n for n, k in counts.items())


def judge_of(row: Algorithm) -> str:
  """What the judge is asked, such as "reward"."""
  needs, draws = row.needs, len(row.draws)
  asked = [
    what
    for what, wanted in (
      ("reward", needs.reward),
      ("cost", needs.cost),
      ("segments", needs.segments),
    )
    if wanted
  ]
  pairs = needs.pairs(draws)
  if pairs:
    asked.append("preference" if len(pairs) == 1 else "preferences")
  return ", ".join(asked)


def loss_of(row: Algorithm) -> tuple[str, losses.Entry]:
  """Name and entry of an algorithm's loss."""
  if isinstance(row.loss, str):
    return row.loss, losses.resolve(row.loss)[1]
  return losses.name_of(row.loss.function), row.loss


def settings_of(row: Algorithm) -> list[str]:
  """Hyperparameters of an algorithm's functions as `name=default`."""
  known = hyperparameters(row).items()
  told = lambda value: "" if value is inspect.Parameter.empty else f"={value}"
  return [
    f"{name}{told(value)}"
    for name, value in known
    if not (name in _UNITS and value == 1)
  ]


def markdown_table() -> str:
  """Makes a table of all algorithms, a row each.

  Returns:
    Markdown that ends with a line break.
  """
  head = ("algorithm", "", "draws", "judge", "batch", "loss", "paper")
  rows = [head, ("---",) * len(head)]
  for name, row in ALGORITHMS.items():
    loss, entry = loss_of(row)
    paper = re.sub(r"arXiv:(\S+)", r"[\1](https://arxiv.org/abs/\1)", row.paper)
    rows.append(
      (
        f"`{name}`",
        row.about,
        draws_of(row),
        judge_of(row),
        entry.batch,
        f"`{loss}`",
        paper,
      )
    )
  return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _all(width: int) -> Iterator[str]:
  """Yields the lines that describe all algorithms."""
  for name, row in ALGORITHMS.items():
    loss, entry = loss_of(row)
    yield from _indented(f"{name}  ({row.paper})", width, 0)
    yield from _indented(f"{row.about}.", width, 4)
    yield from _indented(
      f"draws {draws_of(row)}; asks for {judge_of(row)}; {loss} on"
      f" {entry.batch}",
      width,
      4,
    )
    yield ""
  yield from textwrap.wrap(
    f"{len(ALGORITHMS)} algorithms. `jalign train --config=online:NAME` trains"
    f" by one of them; {PROGRAM} NAME prints all about it.",
    width,
  )


def _one(name: str, width: int) -> Iterator[str]:
  """Yields all that a row says."""
  if name not in ALGORITHMS:
    raise UserError(
      f"unknown algorithm {name!r}.",
      remedy=nearest(name, ALGORITHMS),
    )
  row = ALGORITHMS[name]
  loss, entry = loss_of(row)
  yield from _indented(f"{name}: {row.about}", width, 0)
  yield ""
  facts = {
    "paper": row.paper,
    "draws": draws_of(row),
    "judge": judge_of(row),
    "loss": f"{loss}, on {entry.batch}; `python -m jalign.losses {loss}`",
    "trains": "a critic beside the policy" if row.critic else "",
    "settings": ", ".join(settings_of(row)),
  }
  if row.samples:
    least, most = row.samples
    facts["samples"] = (
      f"{least} or more" if most is None else f"{least} to {most}"
    )
  if row.game:
    facts["optimiser"] = (
      "without momentum (b1 = 0): where preferences run in a circle, Adam's"
      " momentum keeps the policy circling around the equilibrium"
    )
  for what, text in facts.items():
    if text:
      yield from _indented(f"{what:10}{text}", width, 0)
  for function in (row.arrange, row.measure, row.carry.init, row.carry.next):
    about = inspect.getdoc(inspect.unwrap(function))
    if about and not function.__module__.endswith((".algorithm", ".carry")):
      yield ""
      yield f"{function.__module__}.{function.__name__}"
      yield textwrap.indent(about, "  ")


def _indented(text: str, width: int, indent: int) -> list[str]:
  return textwrap.wrap(
    text,
    width,
    initial_indent=" " * indent,
    subsequent_indent=" " * (indent + 4),
    break_long_words=False,
    break_on_hyphens=False,
  )
