"""`jalign train`."""

import logging
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from jalign import configs
from jalign.cli.config_file import read_config, shipped
from jalign.cli.parsing import Flag, Values, command, whole
from jalign.errors import UserError


def _shipped() -> str:
  """The end of the help, a list of the shipped configs."""
  named = shipped()
  return "\n".join(
    [
      "shipped configs:",
      *(f"  {name:<17}{about}" for name, about in named.items()),
      "",
      "Copy a file to make a config of your own. The files are in the folder",
      f"  {pathlib.Path(configs.__path__[0]).resolve()}",
    ]
  )


@command(
  Flag(
    "config",
    "NAME[:ARG]",
    "a shipped config, or a FILE.py whose get_config returns a config; ARG is"
    " passed to get_config",
    required=True,
  ),
  Flag(
    "workdir",
    "DIR",
    "folder of the run: a new one, or one to go on with",
    required=True,
  ),
  Flag(
    "coordinator",
    "HOST:PORT",
    "joins a run of several processes: a free port on the host of process 0",
  ),
  Flag("num_processes", "N", "the number of processes", read=whole(1)),
  Flag("process_id", "I", "the number of this process, from 0", read=whole(0)),
  Flag(
    "cluster",
    "",
    "joins the processes that TPU, SLURM or GKE started, in place of the three"
    " flags above",
  ),
  Flag(
    "join_seconds",
    "SECONDS",
    "how long a process waits for the others to join",
    300,
    whole(1),
  ),
  Flag(
    "hang_minutes",
    "N",
    "after so long without progress, prints where all processes are, and the"
    " stacks of this one; 0 for never",
    default=30,
    read=whole(0),
  ),
  Flag(
    "stopped_exit",
    "CODE",
    "exit code of a run that was told to stop before its end, for a scheduler"
    " that starts only failed runs again",
    0,
    whole(0, 125),
  ),
  takes_keys=True,
  more=_shipped,
)
def train(values: Values) -> None:
  """Trains every stage of a config, evaluates, and writes reports.

  The reports are DIR/report.md and DIR/report.html. The same command goes on
  with a run that was stopped.

  A flag sets any key of the config: --config.batch_size=16; or a key of an
  earlier stage: --config.sft.optimizer.learning_rate=1e-3. `jalign keys` lists
  all keys with their types, defaults and meanings. --config.loss.name=ipo
  replaces the config's loss by another loss with its defaults (`python -m
  jalign.losses` lists losses), --config.loss.name=FILE.py:NAME by a function of
  your own.

  examples:
    jalign train --config=dpo --workdir=runs/dpo
    jalign train --config=dpo:ipo --workdir=runs/ipo --config.loss.tau=0.2
    jalign train --config=my_config.py --workdir=runs/mine --config.seed=1
  """
  sys.path.insert(0, os.getcwd())  # configs may import their neighbours
  _check_flags(values)
  if not (values.coordinator or values.cluster):
    whole_run = _train(values)
  else:
    from jalign import cluster

    with cluster.joined(
      values.coordinator or "",
      values.num_processes,
      values.process_id,
      timeout=values.join_seconds,
    ):
      whole_run = _train(values)
  # Within the cluster, an exit would be an error.
  if not whole_run and values.stopped_exit:
    sys.exit(values.stopped_exit)


def _check_flags(values: Values) -> None:
  """Refuses flags of a cluster that would be ignored."""
  flags = ("coordinator", "num_processes", "process_id")
  given = [flag for flag in flags if getattr(values, flag) is not None]
  if given and values.cluster:
    raise UserError(
      "means nothing beside --cluster, which asks the platform.",
      where=f"--{given[0]}",
      remedy="Leave out --cluster or the flags that it stands for.",
    )
  if given and not values.coordinator:
    raise UserError(
      "means nothing without --coordinator.",
      where=f"--{given[0]}",
      remedy="Add --coordinator=HOST:PORT, the address of process 0.",
    )


def _train(values: Values) -> bool:
  """Does the work of the command in this process; whether to the end."""
  config = read_config(values.config, values.keys)

  # Heavy imports wait until the flags are right.
  from flax import traverse_util

  from jalign import cluster, heartbeat
  from jalign.experiment.commands.sweep import runs as runs_of
  from jalign.experiment.config.overrides import naming_flags
  from jalign.experiment.disk import folder, lock
  from jalign.files import telling
  from jalign.hosts import same_everywhere

  workdir = pathlib.Path(values.workdir)
  with heartbeat.beating(values.hang_minutes), naming_flags(config):
    flat = traverse_util.flatten_dict(config, sep=".")
    same_everywhere({f"config.{k}": repr(v) for k, v in flat.items()}, "config")
    runs = runs_of(config)
    with lock.hold(workdir), telling(workdir, lambda: folder.saved(workdir)):
      whole_run = _train_all(runs, workdir, values.config)
    cluster.await_others()
  return whole_run


def _is_news(record: logging.LogRecord) -> bool:
  """Whether a log record isn't the exception of a failed save."""
  return not (record.exc_info and {"orbax", "asyncio"} & _parts(record))


def _parts(record: logging.LogRecord) -> set[str]:
  return set(pathlib.PurePath(record.pathname).parts)


def _train_all(
  runs: Sequence[Any], workdir: pathlib.Path, config_name: str
) -> bool:
  """Trains the runs of a config one after another, and compares them.

  Returns:
    Whether all runs have ended; False after a request to stop.
  """
  from jalign.experiment.run import run_one
  from jalign.experiment.share import Sibling
  from jalign.hosts import host0, say
  from jalign.preemption import Stop
  from jalign.training.loop import Interrupted, NonFiniteLossError

  # Orbax raises errors and also logs their stack traces.
  for name in ("absl", "asyncio"):
    logging.getLogger(name).addFilter(_is_news)
  stop = Stop()
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
          settings,
          config,
          folder,
          should_stop=stop,
          siblings=others,
          name=config_name,
        )
      except NonFiniteLossError as e:
        if not name:
          raise
        failed[name] = e  # the others of a sweep go on
        if host0():
          print(f"jalign: {name} failed: {e}", file=sys.stderr)
        continue
      say(f"report: {report}")
  except Interrupted as e:
    say(f"jalign: {e}; run the same command to resume.")
    return False
  done = [run for run in runs if run.name and run.name not in failed]
  if done and host0():
    from jalign.experiment.commands.comparison import write_comparison

    report = write_comparison(workdir, done)
    say(f"comparison of {len(done)} runs: {report}")
  if failed:
    raise UserError(
      f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}."
    )
  return True
