"""The command line: `jalign COMMAND --help` says what a command does.

A command with bad input prints one paragraph and exits with code 2; a run that
was asked to stop (SIGTERM, or Ctrl-C once) saves first and exits with code 0.
"""

import os
import sys
from collections.abc import Sequence

import jalign
from jalign.cli import others
from jalign.cli.judge import judge
from jalign.cli.keys import keys, metrics
from jalign.cli.plan import plan
from jalign.cli.sample import sample
from jalign.cli.strength import strength
from jalign.cli.terminal import guarded
from jalign.cli.train import train
from jalign.errors import UserError, nearest

COMMANDS = {
  "train": train,
  "plan": plan,
  "sample": sample,
  "evaluate": others.evaluate,
  "score": others.score,
  "report": others.report,
  "rewards": others.rewards,
  "convert": others.convert,
  "merge": others.merge,
  "data": others.data,
  "judge": judge,
  "strength": strength,
  "keys": keys,
  "metrics": metrics,
}


def main(argv: Sequence[str] | None = None) -> None:
  """Entry point of the `jalign` command; exits the process."""
  # Warnings of transformers are about code that calls it.
  os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
  arguments = list(sys.argv[1:] if argv is None else argv)
  guarded("jalign", lambda: _run(arguments))


def _run(arguments: list[str]) -> None:
  if arguments[:1] == ["help"]:  # `jalign help train`
    arguments = [*arguments[1:2], "--help"]
  if not arguments or arguments[0] in ("-h", "--help"):
    print(_usage())
    sys.exit(0 if arguments else 2)
  if arguments == ["--version"]:
    print(f"jalign {jalign.__version__}")
    return
  name, *flags = arguments
  if name not in COMMANDS:
    raise UserError(
      f"unknown command {name!r}.",
      remedy=f"{nearest(name, COMMANDS)} See jalign --help.",
    )
  COMMANDS[name](f"jalign {name}", flags)


def _usage() -> str:
  lines = [f"  {name:<10}{of.about}" for name, of in COMMANDS.items()]
  return "\n".join(
    [
      "usage: jalign COMMAND [flags]",
      "",
      *lines,
      "",
      "`jalign COMMAND --help` says what a command does, and lists its flags;",
      "`jalign --version` prints the version.",
      "A first run: jalign train --config=dpo --workdir=runs/dpo",
    ]
  )
