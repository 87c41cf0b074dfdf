"""Judges that check responses: see `jalign.feedback.verifiers`."""

from typing import Any

from jalign.errors import UserError, nearest
from jalign.experiment.judges.checked import check_given, given
from jalign.experiment.judges.kind import JudgeKind, Named
from jalign.feedback import Judge
from jalign.feedback.verifiers import VERIFIERS, judge_of
from jalign.losses.signature import hyperparameters


def _make(
  named: Named,
  *,
  pattern: str | None = None,
  column: str | None = None,
  after: str | None = None,
  ignore_case: bool | None = None,
  tolerance: float | None = None,
  seconds: float | None = None,
  memory: int | None = None,
  workers: int | None = None,
) -> Judge:
  """Makes a judge of a verifier; None is the verifier's own default."""
  values = given({k: v for k, v in locals().items() if k != "named"})
  name, where = named.function, f"{named.where}.settings"
  if name not in VERIFIERS:
    raise UserError(
      f"{name!r} is no verifier.",
      where=f"{named.where}.function",
      remedy=nearest(name, VERIFIERS),
    )
  check_given(VERIFIERS[name], values, f"the verifier {name!r}", where)
  try:
    verifier = VERIFIERS[name](**values)
  except UserError as e:
    at = f"{where}.{e.where}"
    raise UserError(e.problem, where=at, remedy=e.remedy) from None
  own = hyperparameters(VERIFIERS[name]).get("column", "")
  _check_column(named, values.get("column", own))
  return judge_of(verifier, scale=named.scale)


def _check_column(named: Named, column: str) -> None:
  columns = list(named.tools.columns())
  if column and column not in columns:
    there = f"It has: {', '.join(columns)}." if columns else "It is empty."
    raise UserError(
      f"judges get no column {column!r} of the data.",
      where=f"{named.where}.settings.column",
      remedy=f"Name the column in config.data.judge_columns. {there}",
    )


def _made_of(named: Named, **settings: Any) -> list[str]:
  del named, settings
  return []


VERIFIER = JudgeKind(
  f"a verifier: {', '.join(VERIFIERS)}; `column` is one of"
  " `config.data.judge_columns`",
  _make,
  _made_of,
)
