"""Judges whose reward is linear in a user's features of a response."""

from collections.abc import Iterable, Sequence

import numpy as np

from jalign.errors import UserError
from jalign.experiment.config import code
from jalign.experiment.judges.kind import JudgeKind, Named
from jalign.feedback import Judge
from jalign.feedback.features import judge_of_features
from jalign.feedback.values import refuse

_FORM = "(prompts, responses) -> a row of features for each response"


def _make(named: Named, *, coefficients: Sequence[float] = ()) -> Judge:
  where = f"{named.where}.settings.coefficients"
  if isinstance(coefficients, int | float):  # as the command line gives one
    coefficients = (coefficients,)
  if not isinstance(coefficients, list | tuple) or not all(
    isinstance(x, int | float) for x in coefficients
  ):
    raise UserError(
      f"{coefficients!r} is not a list of numbers.",
      where=where,
      remedy="Give a number for each feature.",
    )
  key = f"{named.where.removeprefix('config.')}.function"
  count = len(coefficients)

  def check(returned, prompts, responses):
    shape = (len(prompts), count)
    try:
      found = np.asarray(returned, np.float64)
    except (TypeError, ValueError):
      found = np.empty(0)
    if found.shape != shape or not np.isfinite(found).all():
      raise refuse(returned, f"finite numbers of shape {shape}", "")
    return found

  features = named.tools.load(
    named.function, key, _FORM, check, named.tools.columns
  )
  try:
    return judge_of_features(features, coefficients, scale=named.scale)
  except UserError as e:
    raise UserError(
      e.problem,
      where=e.where or where,
      remedy="Give a number for each feature, as `feedback.fit_features` finds"
      " them.",
    ) from None


def _made_of(named: Named, **settings: object) -> Iterable[str]:
  del settings
  return [code.fingerprint(named.function)]


FEATURES = JudgeKind(
  "a function `(prompts, responses)` of two lists that returns K features of"
  " each response; the reward is their sum, weighted by `coefficients`",
  _make,
  _made_of,
)
