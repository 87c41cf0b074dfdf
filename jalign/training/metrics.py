"""Metrics: exact means of sums, and the writers that keep them.

A metric travels as a pair (total, count) and is divided once, by `combine`.
A writer has three functions, `write(step, values)`, `truncate_after(step)` and
`close()`; a training loop takes `write` as its hook. Of several processes, let
only process 0 have writers.
"""

import hashlib
import json
import math
import os
import pathlib
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from jalign.errors import UserError
from jalign.files import naming, write_whole
from jalign.sharding import fetch

RESERVED = ("step", "time")


class MetricWriter(Protocol):
  """Where metrics go."""

  def write(self, step: int, values: Mapping[str, Any]) -> None:
    """Keeps scalar values, by name, for a step."""

  def truncate_after(self, step: int) -> None:
    """Forgets everything beyond a step, from which a run resumes."""

  def close(self) -> None:
    """Frees the writer; nothing is written afterwards."""


def combine(
  sums: Sequence[Mapping[str, tuple[Any, Any]]],
) -> dict[str, float]:
  """Means over all parts that were summed: microbatches, steps, hosts.

  mean = sum_i total_i / sum_i count_i, added in float64 without rounding
  error, so the mean does not depend on how examples were cut into parts.

  Args:
    sums: for each part, name -> (total, count), scalars on host or device. A
      part that lacks a name adds nothing to its mean.

  Returns:
    name -> mean, names in order of appearance; NaN where the count is 0.

  Raises:
    UserError: a total or count is not a scalar.
  """
  totals: dict[str, list[float]] = {}
  counts: dict[str, list[float]] = {}
  for part in fetch(list(sums)):
    for name, (total, count) in part.items():
      totals.setdefault(name, []).append(_scalar(name, total))
      counts.setdefault(name, []).append(_scalar(name, count))
  return {name: _ratio(totals[name], counts[name]) for name in totals}


def _ratio(totals: Sequence[float], counts: Sequence[float]) -> float:
  # fsum raises for inf - inf; the plain sum is NaN.
  finite = all(map(math.isfinite, totals))
  total = math.fsum(totals) if finite else sum(totals)
  count = math.fsum(counts)
  return total / count if count else math.nan


def _scalar(name: str, value: Any) -> float:
  array = np.asarray(value)
  if array.size != 1:
    raise UserError(
      f"a metric must be a scalar, and this one has shape {array.shape}.",
      where=f"metric {name!r}",
      remedy="Sum the metric, and give its count beside it.",
    )
  return float(array.reshape(()))


def _scalars(values: Mapping[str, Any]) -> dict[str, float]:
  """Python floats, fetched from the devices in one transfer."""
  host = fetch(dict(values))
  return {name: _scalar(name, value) for name, value in host.items()}


class JsonlWriter:
  """Appends a JSON object per line: step, time (Unix seconds) and values.

  Each line is flushed. Strict JSON has no NaN or infinity: both become null,
  which `read_jsonl` reads as NaN. A partial last line, left by a crash, is
  dropped when the file is opened again.

  Args:
    path: the file; its folder is made if missing.
  """

  def __init__(self, path: str | os.PathLike[str]):
    self._path = pathlib.Path(path)
    self._path.parent.mkdir(parents=True, exist_ok=True)
    self._file = self._path.open("ab")
    whole = self._path.read_bytes().rfind(b"\n") + 1
    self._file.truncate(whole)

  def write(self, step: int, values: Mapping[str, Any]) -> None:
    """Appends a line; raises UserError for values named `step` or `time`."""
    for name in RESERVED:
      if name in values:
        raise UserError(f"no metric can be named {name!r}.", where="metrics")
    row: dict[str, Any] = {"step": int(step), "time": round(time.time(), 3)}
    for name, value in _scalars(values).items():
      row[name] = value if math.isfinite(value) else None
    line = json.dumps(row, allow_nan=False).encode() + b"\n"
    with naming(self._path):
      self._file.write(line)
      self._file.flush()

  def truncate_after(self, step: int) -> None:
    """Drops the lines of later steps; the old file stays until then."""
    self._file.close()
    lines = self._path.read_bytes().split(b"\n")[:-1]
    earlier = [
      line + b"\n"
      for number, line in enumerate(lines, 1)
      if _row(line, f"{self._path}:{number}")["step"] <= step
    ]
    write_whole(self._path, b"".join(earlier))
    self._file = self._path.open("ab")

  def close(self) -> None:
    """Closes the file."""
    with naming(self._path):
      self._file.close()


def read_jsonl(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Reads the rows that a `JsonlWriter` wrote, also while it writes.

  Args:
    path: the file.

  Returns:
    A dict per line, in order: `step` (int), `time` (Unix seconds) and the
    values, NaN where the file has null. A partial last line is left out.

  Raises:
    UserError: there is no such file, or a whole line is damaged.
  """
  try:
    data = pathlib.Path(path).read_bytes()
  except OSError as error:
    problem = f"the file cannot be read: {error}."
    raise UserError(problem, where=str(path)) from error
  rows = []
  for number, line in enumerate(data.split(b"\n")[:-1], 1):
    items = _row(line, f"{path}:{number}").items()
    rows.append({k: math.nan if v is None else v for k, v in items})
  return rows


def digest(path: str | os.PathLike[str], step: int | None = None) -> str:
  """A hash of a file's whole lines, which no other run's file has.

  Args:
    path: the file; a missing file has no lines.
    step: the last step whose lines count; None for all lines.

  Returns:
    32 hexadecimal digits.

  Raises:
    UserError: a line is damaged.
  """
  path = pathlib.Path(path)
  lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
  hashed = hashlib.sha256()
  for number, line in enumerate(lines, 1):
    if step is None or _row(line, f"{path}:{number}")["step"] <= step:
      hashed.update(line + b"\n")
  return hashed.hexdigest()[:32]


def _row(line: bytes, where: str) -> dict[str, Any]:
  """The object on a line: an integer step, and numbers or nulls."""
  remedy = "Mend or delete the line."
  try:
    row = json.loads(line)
  except (ValueError, RecursionError) as error:
    raise UserError(
      "the line is not JSON.", where=where, remedy=remedy
    ) from error
  if not isinstance(row, dict):
    raise UserError(
      "the line is not a JSON object.", where=where, remedy=remedy
    )
  if type(row.get("step")) is not int:
    raise UserError("the line has no integer step.", where=where, remedy=remedy)
  for name, value in row.items():
    if value is not None and type(value) not in (int, float):
      raise UserError(f"{name!r} is not a number.", where=where, remedy=remedy)
  return row


class TensorBoardWriter:
  """Writes scalars as TensorBoard event files, without TensorFlow.

  Args:
    folder: gets one event file per writer.
  """

  def __init__(self, folder: str | os.PathLike[str]):
    # TensorBoard reads files in the order of their names, which begin with
    # seconds: the newest must come last even if the clock was set back. Its own
    # writer has a thread, in which a full disk would go unnoticed.
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    there = [p.name.split(".") for p in folder.glob("events.out.tfevents.*")]
    past = [int(parts[3]) for parts in there if parts[3].isdecimal()]
    seconds = max([int(time.time()), *(second + 1 for second in past)])
    name = f"events.out.tfevents.{seconds:010d}.{socket.gethostname()}"
    self._file = (folder / f"{name}.{os.getpid()}").open("ab")
    self._records = RecordWriter(self._file)
    self._add(0, file_version="brain.Event:2")

  def write(self, step: int, values: Mapping[str, Any]) -> None:
    """Adds one event and flushes it."""
    scalars = [
      summary_pb2.Summary.Value(tag=name, simple_value=value)
      for name, value in _scalars(values).items()
    ]
    self._add(step, summary=summary_pb2.Summary(value=scalars))

  def truncate_after(self, step: int) -> None:
    """Marks a restart, so that TensorBoard hides later steps of older files."""
    log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._add(step + 1, session_log=log)

  def close(self) -> None:
    """Closes the file."""
    with naming(pathlib.Path(self._file.name)):
      self._file.close()

  def _add(self, step: int, **what: Any) -> None:
    event = event_pb2.Event(wall_time=time.time(), step=int(step), **what)
    with naming(pathlib.Path(self._file.name)):
      self._records.write(event.SerializeToString())
      self._records.flush()


class WandbWriter:
  """Logs to Weights & Biases, with `step` as the charts' axis.

  wandb's own step can only grow, so the step is logged as a value: a resumed
  run may then write steps again.

  Args:
    project: name of the project.
    name: name of the run; None lets wandb choose.
    folder: folder for wandb's files; None for wandb's default.
    config: settings to record with the run.
    **options: passed to `wandb.init`: `id`, `resume`, `mode="offline"`, ...

  Raises:
    UserError: wandb is not installed, or not configured.
  """

  def __init__(
    self,
    project: str,
    *,
    name: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    config: Mapping[str, Any] | None = None,
    **options: Any,
  ):
    try:
      import wandb
    except ImportError as error:
      raise UserError(
        "wandb is not installed.",
        where="wandb",
        remedy="Run pip install 'jalign[wandb]', or leave this writer out.",
      ) from error
    try:
      self._run = wandb.init(
        project=project,
        name=name,
        dir=None if folder is None else os.fspath(folder),
        config=None if config is None else dict(config),
        **options,
      )
    except wandb.Error as error:
      raise UserError(
        f"no run could be started: {error}",
        where="wandb",
        remedy="Run wandb login, or set WANDB_MODE=offline.",
      ) from error
    self._run.define_metric("step")
    self._run.define_metric("*", step_metric="step")

  def write(self, step: int, values: Mapping[str, Any]) -> None:
    """Logs one row."""
    self._run.log({"step": int(step), **_scalars(values)})

  def truncate_after(self, step: int) -> None:
    """Does nothing: wandb keeps all rows, and draws repeated steps twice."""

  def close(self) -> None:
    """Finishes the run."""
    self._run.finish()


class _All:
  """Writes to each of several writers."""

  def __init__(self, writers: Iterable[MetricWriter]):
    self._writers = tuple(writers)

  def write(self, step: int, values: Mapping[str, Any]) -> None:
    scalars = _scalars(values)
    for writer in self._writers:
      writer.write(step, scalars)

  def truncate_after(self, step: int) -> None:
    for writer in self._writers:
      writer.truncate_after(step)

  def close(self) -> None:
    for writer in self._writers:
      writer.close()


def write_all(writers: Iterable[MetricWriter]) -> MetricWriter:
  """A writer that writes to each of several writers, or to none.

  Args:
    writers: the writers, in the order to write to them.

  Returns:
    A `MetricWriter`.
  """
  return _All(writers)
