"""Evaluation while a stage trains."""

from typing import Any

import jax

from jalign.errors import UserError
from jalign.experiment.prepare import place
from jalign.training import metrics
from jalign.training.objective import make_evaluation


class Evaluation:
  """A probe: held-out metrics of a stage's loss; keeps the best checkpoint.

  Args:
    run: what the stages share.
    stage: its settings.
    batch: kind of batch that its loss takes.
    objective: of its loss.
    ref_params: the reference, where the objective needs one.
    best: where the best state goes, None where the stage doesn't select.
    folder: of the stage.
  """

  def __init__(self, run, stage, batch, objective, ref_params, best, folder):
    self._run, self._stage, self._best = run, stage, best
    self._metrics = folder / "metrics.jsonl"
    self._ref_params = ref_params if objective.needs_reference else None
    self._evaluate = make_evaluation(objective)
    self._batch = batch

  def __call__(self, step: int, state: Any) -> dict[str, float]:
    run, stage = self._run, self._stage
    if stage.algorithm:
      return {}
    batches = run.prepared.loader(
      self._batch, "eval", stage.batch_size, epochs=1, shuffle=False
    )
    sums = [
      jax.device_get(
        self._evaluate(state.params, place(b.data, run.mesh), self._ref_params)
      )
      for b in batches
    ]
    values = {f"eval/{k}": v for k, v in metrics.combine(sums).items()}
    if self._best is not None:
      self._select(step, state, values)
    return values

  def _select(self, step, state, values):
    stage = self._stage
    if stage.select not in values:
      raise UserError(
        f"{stage.select!r} is not measured.",
        where=f"config.{stage.name}.select",
        remedy=f"Known: {', '.join(sorted(values))}.",
      )
    sign = 1.0 if stage.select_mode == "max" else -1.0
    past = [sign * row[stage.select] for _, row in self._measured()]
    if not past or sign * values[stage.select] > max(past):
      self._best.save(state, data=None, meta={"evaluation": values})
      self._best.wait()

  def _measured(self) -> list[tuple[int, dict[str, float]]]:
    """(step, held-out metrics) so far, out of the run's metrics."""
    rows = metrics.read_jsonl(self._metrics)
    return [
      (row["step"], {k: v for k, v in row.items() if k.startswith("eval/")})
      for row in rows
      if "eval/loss" in row
    ]

  def last(self, step: int) -> dict[str, float]:
    """The metrics measured at a step, {} where none were."""
    return dict(self._measured()).get(step, {})
