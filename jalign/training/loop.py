"""The training loop: takes batches, updates the state, measures and saves.

The loop knows nothing of losses, models or algorithms: those are in the
functions that it is given.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from jalign.errors import UserError
from jalign.glossary import in_section
from jalign.sharding import fetch
from jalign.training import metrics
from jalign.training.progress import Progress
from jalign.training.state import TrainState

Values = dict[str, float]


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
  should_stop: Callable[[], bool] = lambda: False,
  learning_rate: Callable[[int], Any] | None = None,
  description: str = "",
) -> TrainState:
  """Runs from the state's step up to `steps`.

  Metrics of a step are fetched after the next step is dispatched. Checkpoints
  and probes see only states whose every step was finite.

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
  window: list[dict[str, Any]] = []
  extra: list[Values] = []
  pending: tuple[int, Any, Any, Sequence[str]] | None = None
  start = int(state.step)
  clock = time.perf_counter()
  progress = Progress(description, "step", steps, initial=start, leave=True)

  def settle():
    """Waits for the last dispatched step and checks it."""
    nonlocal pending
    if pending is None:
      return
    step, sums, sound, sources = pending
    pending = None
    sums, sound = fetch((sums, sound))
    for name in ("loss", "grad_norm"):
      if not np.isfinite(sums[name][0]):
        raise NonFiniteLossError(
          f"the {name.replace('_', ' ')} is {sums[name][0]} at step {step}, on"
          f" the batch of {_some(sources)}.",
          where=description or "training",
          remedy="Checkpoints of earlier steps are kept: lower the learning"
          " rate, or look at these examples.",
        )
    if not sound:
      raise NonFiniteLossError(
        f"what the algorithm keeps has a NaN after step {step}, on the batch of"
        f" {_some(sources)}.",
        where=description or "training",
        remedy="Checkpoints of earlier steps are kept: look at what carry.next"
        " computes of this step's statistics.",
      )
    window.append(sums)

  with progress:
    for step in range(start + 1, steps + 1):
      last = step == steps
      due = [p for p in probes if last or step % p.every == 0]
      batch = prepare(state, next(batches))
      watching = [p.before for p in due if p.before is not None]
      if watching:
        settle()
        held = time.perf_counter()
        for before in watching:
          before(step, state)
        clock += time.perf_counter() - held
      dispatched = []
      for data in batch.batches:
        state, sums = update(state, data, ref_params)
        settle()
        pending = (step, sums, True, batch.sources)
        dispatched.append(sums)
      if finish is not None:
        state, sound = finish(state, batch.values, dispatched)
        pending = (step, sums, sound, batch.sources)
      extra.append(batch.values)
      stop = should_stop() and not last  # the last step ends the run anyway
      saving = last or stop or (save_every and step % save_every == 0)
      # A window ends at a checkpoint, so that a resumed run repeats no metrics.
      if step % log_every == 0 or saving:
        settle()
        now = time.perf_counter()
        values = in_section("train", metrics.combine(window)) | _means(extra)
        values["time/step_seconds"] = (now - clock) / len(extra)
        if learning_rate is not None:
          values["train/learning_rate"] = float(learning_rate(step - 1))
        write(step, values)
        progress.show(loss=values["train/loss"])
        window, extra, clock = [], [], now
      progress.update()
      if due:  # also when stopping, since a resumed run starts after this step
        settle()
        for probe in due:
          values = dict(probe.measure(step, state))
          if values:
            write(step, values)
        clock = time.perf_counter()
      if saving:
        settle()
        save(state, batches.get_state())
      if stop:
        raise Interrupted(step)
  return state


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
