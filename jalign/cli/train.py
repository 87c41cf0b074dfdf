"""`jalign train`."""

import logging
import os
import pathlib
import signal
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags

from jalign.cli.config_file import read_config
from jalign.cli.parsing import flag_errors, parse_flags
from jalign.errors import UserError, said


class _Signals:
  """Turns the first SIGTERM or SIGINT into a request to stop."""

  def __init__(self):
    self.requested = False
    for number in (signal.SIGTERM, signal.SIGINT):
      signal.signal(number, self._request)

  def _request(self, number, frame):
    del frame
    if self.requested and number == signal.SIGINT:
      raise KeyboardInterrupt
    self.requested = True
    print("\njalign: stopping after this step ...", file=sys.stderr)

  def __call__(self) -> bool:
    return self.requested


def train(arguments: Sequence[str]) -> None:
  """Trains every run of a config."""
  sys.path.insert(0, os.getcwd())  # configs may import their neighbours
  given, arguments = read_config(arguments)
  values = flags.FlagValues()
  flags.DEFINE_string("workdir", None, "run folder", flag_values=values)
  with flag_errors(arguments):
    if given is not None:
      config_flags.DEFINE_config_dict(
        "config",
        given,
        flag_values=values,
        sys_argv=["jalign", *arguments],  # not sys.argv: main takes its own
      )
  parse_flags(values, arguments)
  if given is None or not values.workdir:
    raise UserError("train needs --config=FILE and --workdir=DIR.")
  try:
    config = values.config.to_dict()
  except Exception as e:  # a reference that nothing is behind, for one
    raise UserError(f"can't be read ({said(e)}).", where="--config") from e

  # Heavy imports wait until the flags are right.
  from jalign.experiment.commands.sweep import runs as runs_of
  from jalign.experiment.disk import folder, lock
  from jalign.files import telling

  runs = runs_of(config)
  workdir = pathlib.Path(values.workdir)
  with lock.hold(workdir), telling(workdir, lambda: folder.saved(workdir)):
    _train_all(runs, workdir)


def _is_news(record: logging.LogRecord) -> bool:
  """Whether a log record is other than an exception of a save."""
  return not (record.exc_info and {"orbax", "asyncio"} & _parts(record))


def _parts(record: logging.LogRecord) -> set[str]:
  return set(pathlib.PurePath(record.pathname).parts)


def _train_all(runs: Sequence[Any], workdir: pathlib.Path) -> None:
  """Trains the runs of a config one after another, and compares them."""
  from jalign.experiment.commands.comparison import write_comparison
  from jalign.experiment.run import run_one
  from jalign.experiment.share import Sibling
  from jalign.hosts import say
  from jalign.training.loop import Interrupted, NonFiniteLossError

  # Orbax also logs the stack traces of what it raises.
  for name in ("absl", "asyncio"):
    logging.getLogger(name).addFilter(_is_news)
  stop = _Signals()
  failed: dict[str, NonFiniteLossError] = {}
  family = [Sibling(workdir / run.name, run.settings) for run in runs]
  try:
    for name, _, config, settings in runs:
      if name:
        say(f"=== {name}")
      try:
        folder = workdir / name
        others = [sibling for sibling in family if sibling.folder != folder]
        report = run_one(
          settings, config, folder, should_stop=stop, siblings=others
        )
      except NonFiniteLossError as e:
        if not name:
          raise
        failed[name] = e  # the others of a sweep go on
        print(f"jalign: {name} failed: {e}", file=sys.stderr)
        continue
      say(f"report: {report}")
  except Interrupted as e:
    say(f"jalign: {e}; run the same command to resume.")
    return
  done = [run for run in runs if run.name and run.name not in failed]
  if done:
    report = write_comparison(workdir, done)
    say(f"comparison of {len(done)} runs: {report}")
  if failed:
    raise UserError(
      f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}."
    )
