"""`jalign strength`: relabels a file's pairs by several reward models."""

import json
import pathlib
from collections.abc import Sequence

import jax
import numpy as np

from jalign import data
from jalign.data.columns import Columns
from jalign.data.file_check import guess
from jalign.data.strength import Strengths, by_strength
from jalign.errors import UserError
from jalign.experiment.judges.model import from_scorer
from jalign.experiment.scorer import load_scorer
from jalign.feedback import assess, make_answers
from jalign.files import check_output, write_whole
from jalign.hosts import say
from jalign.sharding import make_mesh


def relabel(
  models: Sequence[str],
  path: str,
  out: pathlib.Path,
  *,
  source: str = "",
  columns: Columns | None = None,
  flipped: float = 0.2,
  ambiguous: float = 0.2,
  label_smoothing: float = 0.1,
) -> list[str]:
  """Scores pairs by reward models and writes them with new labels.

  Each row of the new file has the prompt, the chosen and the rejected response,
  `preference`, `margin` (see `jalign.data.strength`), and beside them
  `margin_std`, the spread over the models, and `flipped`.

  Args:
    models: two or more runs or checkpoints that score responses.
    path: pairs as plain texts.
    out: a new JSONL file.
    source: name of a reader; "" guesses it.
    columns: the file's names for the source's fields.
    flipped: as in `by_strength`.
    ambiguous: as in `by_strength`.
    label_smoothing: as in `by_strength`.

  Returns:
    Lines that say what was done.

  Raises:
    UserError: a model gives no reward, or the data has no pairs.
  """
  if len(models) < 2:
    raise UserError(
      "strength is a mean over several models.",
      where="--models",
      remedy="Give two or more, as RUN,RUN: say the runs of a sweep over seed.",
    )
  check_output(
    out,
    "--out",
    {"--data": path, **{f"--models[{i}]": m for i, m in enumerate(models)}},
  )
  name = source or guess(path, columns=columns)
  options = {"columns": columns} if columns else {}
  records, report = data.read(name, path, **options)
  if not records or not isinstance(records[0], data.PreferenceRecord):
    raise UserError(
      "the data has no labelled pairs.",
      where=path,
      remedy='Rows have "prompt", "chosen" and "rejected", or other names that'
      " --columns maps.",
    )
  mesh = make_mesh()
  gaps = []
  for model in models:
    gaps.append(_gaps(model, mesh, records))
    right = np.mean(gaps[-1] > 0)
    say(f"[strength] {model} agrees with {right:.1%} of the labels")
  new, found = by_strength(
    records,
    np.stack(gaps),
    flipped=flipped,
    ambiguous=ambiguous,
    label_smoothing=label_smoothing,
  )
  write_whole(out, _lines(new, found))
  return [report.summary(), found.summary(), f"-> {out}"]


def _gaps(
  model: str,
  mesh: jax.sharding.Mesh,
  records: Sequence[data.PreferenceRecord],
) -> np.ndarray:
  """[N] by how much the chosen responses score better than the others."""
  scorer = load_scorer(model, mesh)
  scores = (getattr(scorer.head, name, None) for name in ("score", "scores"))
  if scorer.form or not any(scores):
    raise UserError(
      "the model compares responses, and gives them no scores.",
      where=model,
      remedy="Name runs of a loss such as bradley_terry.",
    )
  judge = from_scorer(lambda: scorer, ("reward",))
  prompts = [record.prompt for record in records]
  with jax.set_mesh(mesh):
    chosen, rejected = (
      assess(judge, make_answers(prompts, texts)).numbers("reward")
      for texts in (
        [record.chosen for record in records],
        [record.rejected for record in records],
      )
    )
  return scorer.sign * (chosen - rejected)


def _lines(records: Sequence[data.PreferenceRecord], found: Strengths) -> bytes:
  rows = (
    {
      "prompt": record.prompt,
      "chosen": record.chosen,
      "rejected": record.rejected,
      "preference": record.preference,
      "margin": record.margin,
      "margin_std": float(std),
      "flipped": bool(preference == 0),
    }
    for record, std, preference in zip(records, found.std, found.preference)
  )
  return "".join(
    json.dumps(row, ensure_ascii=False) + "\n" for row in rows
  ).encode()
