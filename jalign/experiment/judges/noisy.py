"""A judge some of whose labels are wrong: see `jalign.feedback.noise`."""

from collections.abc import Iterable
from typing import Any

from jalign.errors import UserError
from jalign.experiment.judges.checked import check_type, unscaled
from jalign.experiment.judges.kind import Description, JudgeKind, Named
from jalign.feedback import Judge
from jalign.feedback.noise import noisy


def _make(
  named: Named,
  *,
  judge: Description | None = None,
  share: float = 0.25,
  seed: int = 0,
) -> Judge:
  where = f"{named.where}.settings"
  check_type(share, float, f"{where}.share")
  check_type(seed, int, f"{where}.seed")
  unscaled(named)
  inner = named.tools.judge(_described(named, judge), f"{where}.judge")
  return noisy(inner, share=share, seed=seed, where=where)


def _described(named: Named, judge: Description | None) -> Description:
  if named.function:
    raise UserError(
      f"{named.function!r} isn't read: the judge is that of `judge`.",
      where=f"{named.where}.function",
      remedy=f"Describe the judge in {named.where}.settings.judge.",
    )
  if judge is None:
    raise UserError(
      "describes no judge.",
      where=f"{named.where}.settings.judge",
      remedy='Write {"function": ..., "kind": ...}.',
    )
  return judge


def _made_of(
  named: Named, *, judge: Description | None = None, **settings: Any
) -> Iterable[str]:
  del settings
  where = f"{named.where}.settings.judge"
  return named.tools.made_of(_described(named, judge), where)


NOISY = JudgeKind(
  "another judge, described in `judge`, a `share` of whose labels is wrong",
  _make,
  _made_of,
)
