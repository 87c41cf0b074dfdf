"""The training loop: takes batches, updates the state, measures and saves.

The loop knows nothing of losses, models or algorithms: those are in the
functions that it is given.
"""

import collections
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from jalign.errors import UserError
from jalign.glossary import in_section
from jalign.sharding import fetch
from jalign.training import metrics
from jalign.training.kinds.ratios import FIRST
from jalign.training.progress import Progress
from jalign.training.state import TrainState

Values = dict[str, float]

# Steps whose results aren't fetched yet while the next step is dispatched. A
# device has work as long as the host is late by less than these steps. More
# steps would delay a save that was asked for.
IN_FLIGHT = 2


class NonFiniteLossError(UserError):
  """The loss or the gradient stopped being a number."""


class Interrupted(Exception):
  """The run was asked to stop; everything up to `step` is saved."""

  def __init__(self, step: int):
    super().__init__(f"stopped and saved at step {step}")
    self.step = step


class Placed(NamedTuple):
  """The data of one step.

  Attributes:
    batches: the batch records of the step's updates, on the devices.
    sources: where each example comes from, for error messages.
    values: metrics that are known already, say of sampling, under their
      whole names.
  """

  batches: Sequence[Any]
  sources: Sequence[str]
  values: Values


class Probe(NamedTuple):
  """A measurement during training, evaluation for example.

  Attributes:
    every: steps between two measurements; the last step is always measured.
    measure: `(step, state) -> values`; must not keep the state.
    before: `(step, state)`, called with the state that the measured step is
      about to change; must not keep the state either.
  """

  every: int
  measure: Callable[[int, TrainState], Mapping[str, float]]
  before: Callable[[int, TrainState], None] | None = None


class Batches(Protocol):
  """An iterator that knows its position."""

  def __next__(self) -> Any: ...

  def get_state(self) -> Any: ...


def run(
  state: TrainState,
  *,
  steps: int,
  batches: Batches,
  prepare: Callable[[TrainState, Any], Placed],
  update: Callable[..., tuple[TrainState, dict[str, Any]]],
  finish: Callable[[TrainState, Values, Sequence[Any]], tuple[TrainState, Any]]
  | None = None,
  ref_params: Any = None,
  write: Callable[[int, Values], None] = lambda step, values: None,
  log_every: int = 10,
  probes: Sequence[Probe] = (),
  save: Callable[[TrainState, Any], None] = lambda state, position: None,
  save_every: int = 0,
  save_due: Callable[[], bool] = lambda: False,
  should_stop: Callable[[], bool] = lambda: False,
  learning_rate: Callable[[int], Any] | None = None,
  description: str = "",
) -> TrainState:
  """Runs from the state's step up to `steps`.

  The host doesn't wait for a step that it dispatched: results are fetched when
  IN_FLIGHT further steps are dispatched, and only then is a step known to be
  finite. Checkpoints and probes wait, and see only states whose every step was
  finite.

  Args:
    state: the first state; its buffers are donated.
    steps: the step at which to end.
    batches: yields what `prepare` takes.
    prepare: `(state, batch) -> Placed`: places an offline batch on the
      devices, or samples and judges an online one.
    update: `(state, data, ref_params) -> (state, sums)`.
    finish: `(state, values, sums of each update) -> (state, whether what it
      keeps is without NaN)`, called after a step's updates; None if a step is
      one update and nothing is left to do.
    ref_params: passed to `update`.
    write: called with `(step, values)` every `log_every` steps and for each
      probe.
    log_every: number of steps over which metrics are averaged.
    probes: run in this order.
    save: `(state, position in the data)`: starts a checkpoint.
    save_every: steps between checkpoints, 0 for none; the last step saves one
      in any case.
    save_due: called every `log_every` steps; True saves a checkpoint, too.
    should_stop: called after each step; True saves and raises Interrupted.
    learning_rate: update -> its learning rate, written with the metrics.
    description: title of the progress bar; "" shows none.

  Returns:
    The last state.

  Raises:
    NonFiniteLossError: the loss, the gradient or the algorithm's carry is not
      finite; names the step and the batch. Earlier checkpoints stay.
    Interrupted: `should_stop` returned True; the state is saved.
  """
  start = int(state.step)
  progress = Progress(description, "step", steps, initial=start, leave=True)
  window = _Window(write, progress)
  flying: collections.deque[_Step] = collections.deque()

  def settle(left: int = 0) -> None:
    """Waits for dispatched steps, all but the last `left`; checks them."""
    while len(flying) > left:
      step = flying.popleft()
      window.add(step, _checked(step, description or "training"))

  with progress:
    for step in range(start + 1, steps + 1):
      last = step == steps
      due = [p for p in probes if last or step % p.every == 0]
      batch = prepare(state, next(batches))
      watching = [p.before for p in due if p.before is not None]
      if watching:
        settle()
        with window.pause():
          for before in watching:
            before(step, state)
      dispatched = []
      for data in batch.batches:
        state, sums = update(state, data, ref_params)
        dispatched.append(sums)
      sound: Any = True
      if finish is not None:
        state, sound = finish(state, batch.values, dispatched)
      stop = should_stop() and not last  # the last step ends the run anyway
      saving = last or stop or (save_every and step % save_every == 0)
      # A window ends at a checkpoint, so that a resumed run repeats no metrics.
      # The clock chooses among ends of windows, and changes none.
      ends = bool(step % log_every == 0 or saving)
      saving = saving or (ends and save_due())
      # Dispatched here, as its value waits for the programs before it.
      rate = learning_rate(step - 1) if ends and learning_rate else None
      flying.append(
        _Step(step, dispatched, sound, batch.sources, batch.values, ends, rate)
      )
      settle(0 if due or saving else IN_FLIGHT)
      progress.update()
      if due:  # also when stopping, since a resumed run starts after this step
        with window.pause():
          for probe in due:
            values = dict(probe.measure(step, state))
            if values:
              write(step, values)
      if saving:
        save(state, batches.get_state())
      if stop:
        raise Interrupted(step)
  return state


class _Step(NamedTuple):
  """A step that was dispatched, with what its results are checked and told by.

  Attributes:
    step: its number.
    sums: the sums of each update, on the devices.
    sound: whether what the algorithm keeps is without NaN, on the devices.
    sources: where each example comes from.
    values: metrics that were known already.
    ends: whether a window of metrics ends with this step.
    rate: the learning rate, where the window's line has one.
  """

  step: int
  sums: Sequence[dict[str, Any]]
  sound: Any
  sources: Sequence[str]
  values: Values
  ends: bool
  rate: Any


def _checked(step: _Step, where: str) -> Sequence[dict[str, Any]]:
  """The sums of a step's updates on the host, once the step is done.

  Raises:
    NonFiniteLossError: something isn't finite.
  """
  every, sound = fetch((step.sums, step.sound))
  for sums in every:
    for name in ("loss", "grad_norm"):
      if not np.isfinite(sums[name][0]):
        raise NonFiniteLossError(
          f"the {name.replace('_', ' ')} is {sums[name][0]} at step"
          f" {step.step}, on the batch of {_some(step.sources)}.",
          where=where,
          remedy="Checkpoints of earlier steps are kept: lower the learning"
          " rate, or look at these examples.",
        )
  if not sound:
    raise NonFiniteLossError(
      f"what the algorithm keeps has a NaN after step {step.step}, on the batch"
      f" of {_some(step.sources)}.",
      where=where,
      remedy="Checkpoints of earlier steps are kept: look at what carry.next"
      " computes of this step's statistics.",
    )
  return every


class _Window:
  """Steps whose metrics make one line, which is written when they are known."""

  def __init__(self, write: Callable[[int, Values], None], progress: Progress):
    self._write, self._progress = write, progress
    self._clock = time.perf_counter()
    self._sums: list[dict[str, Any]] = []
    self._extra: list[Values] = []

  @contextlib.contextmanager
  def pause(self) -> Iterator[None]:
    """Leaves the time of a measurement out of the time of the steps."""
    held = time.perf_counter()
    yield
    self._clock += time.perf_counter() - held

  def add(self, step: _Step, sums: Sequence[dict[str, Any]]) -> None:
    """Adds a step that is done; writes the line if the window ends with it."""
    self._sums += sums[:1]
    self._sums += [_later(update) for update in sums[1:]]
    self._extra.append(step.values)
    if not step.ends:
      return
    now = time.perf_counter()
    values = in_section("train", metrics.combine(self._sums))
    values |= _means(self._extra)
    values["time/step_seconds"] = (now - self._clock) / len(self._extra)
    if step.rate is not None:
      values["train/learning_rate"] = float(step.rate)
    self._write(step.step, values)
    self._progress.show(loss=values["train/loss"])
    self._sums, self._extra, self._clock = [], [], now


def _later(sums: dict[str, Any]) -> dict[str, Any]:
  """The sums of an update that isn't its step's first."""
  return {k: v for k, v in sums.items() if not k.startswith(FIRST)}


def _means(rows: Sequence[Values]) -> Values:
  names = sorted({name for row in rows for name in row})
  return {
    name: float(np.mean([row[name] for row in rows if name in row]))
    for name in names
  }


def _some(sources: Sequence[str], shown: int = 8) -> str:
  hidden = len(sources) - shown
  listed = ", ".join(sources[:shown])
  return f"{listed} and {hidden} more" if hidden > 0 else listed
