"""`jalign evaluate` of a run that trained a reward or preference model."""

import dataclasses
import pathlib
from collections.abc import Mapping

import jax

from jalign.errors import UserError
from jalign.evaluation.calibration import reliability
from jalign.evaluation.reward_accuracy import (
  accuracy,
  negative_log_likelihood,
)
from jalign.evaluation.scored_pairs import ScoredPairs
from jalign.experiment import scorer as scorers
from jalign.experiment.config.parse import parse
from jalign.experiment.data.prepare import prepare
from jalign.experiment.disk import folder as folders
from jalign.experiment.reward_pairs import make_scored_pairs, serves
from jalign.sharding import make_mesh


def evaluate_scorer(
  run: pathlib.Path, path: str, columns: Mapping[str, str] | None
) -> list[str]:
  """Lines on the accuracy, likelihood and calibration of a run's scores.

  Args:
    run: folder of a run whose last stage trained a score head.
    path: file of pairs instead of the stage's own held-out pairs or lists; ""
      for the stage's own.
    columns: the file's names for the source's fields; None for the config's.

  Raises:
    UserError: the folder can't be read, or the head and the data give no
      accuracy.
  """
  settings = parse(folders.read_json(run / "config.json"))
  stage, mesh = folders.last_stage(run).name, make_mesh()
  with jax.set_mesh(mesh):
    scorer = scorers.load_scorer(str(run), mesh)
    prepared = prepare(settings, run, None)
    dataset = prepared.stages[stage]
    lines: list[str] = []
    if path:
      if columns:
        own = dataclasses.replace(settings.data, columns=(*columns.items(),))
        settings = dataclasses.replace(settings, data=own)
      prepared = prepared.with_pairs(path, settings)
      dataset = prepared.main
      lines += prepared.lines
    if not serves(dataset, scorer.head):
      raise UserError(
        "the accuracy that this command prints is that of one score or of a"
        f" preference, on pairs or ranked lists; the data has {dataset.kind}.",
        where=str(run),
        remedy="`jalign score --data=FILE` prints the accuracy of each"
        " objective of a model of several.",
      )
    measure = make_scored_pairs(
      scorer.model,
      scorer.head,
      form=scorer.form,
      constant=scorer.constant,
      sign=scorer.sign,
    )
    size = settings.stage(stage).batch_size
    pairs = measure(scorer.params, dataset, size, mesh)
  lines.append(f"{run} ({stage}): {len(pairs)} held-out pairs of responses")
  name = "preference" if scorer.form else "score"
  better = "lower" if scorer.sign < 0 else "higher"
  return [*lines, f"  {name} {better} for chosen: {told(pairs)}"]


def told(pairs: ScoredPairs) -> str:
  """Accuracy, likelihood and calibration on labelled pairs, for people."""
  share, nats = accuracy(pairs), negative_log_likelihood(pairs)
  low, high = (100 * x for x in share.interval)
  error = reliability(
    pairs.margins, 10, labels=pairs.labels, groups=pairs.groups
  ).ece
  prompts = len({*(pairs.groups or range(len(pairs)))})
  return (
    f"{100 * share.mean:.1f} % (95 % interval {low:.1f} to {high:.1f},"
    f" {prompts} prompts, {len(pairs)} pairs); NLL {nats.mean:.4f} nats,"
    f" calibration error {error:.3f}"
  )
