"""Judges of self-consistent self-rewarding: implicit rewards, and agreement."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from jalign.errors import UserError
from jalign.experiment.judges.kind import Description, JudgeKind, Named
from jalign.experiment.judges.language_model import folder_of, loading, told
from jalign.experiment.judges.model import fingerprint
from jalign.feedback import Judge
from jalign.feedback.agreement import agreeing
from jalign.feedback.implicit import from_implicit_reward
from jalign.feedback.local_model import ROWS


def _make_implicit(
  named: Named,
  *,
  reference: str = "",
  beta: float = 0.1,
  template: str = "",
  rows: int = ROWS,
) -> Judge:
  """Makes a judge of a policy's implicit reward.

  Args:
    named: the judge's description; its function is the folder of the policy.
    reference: folder of the model that the policy's training started from.
    beta: DPO's coefficient.
    template: chat template of both models: "" for the policy's own.
    rows: number of responses that are scored at a time.
  """
  where = f"{named.where}.settings"
  if not reference:
    raise UserError(
      "names no model.",
      where=f"{where}.reference",
      remedy="Name the run or the checkpoint that the policy's training started"
      " from.",
    )
  policy = loading(named, template)
  start = loading(named._replace(function=reference), template)
  return told(
    where,
    lambda: from_implicit_reward(
      lambda: (policy(), start()),
      beta=beta,
      scale=named.scale,
      rows=rows,
    ),
  )


def _made_of_implicit(named: Named, **settings: Any) -> Iterable[str]:
  start = named._replace(function=settings.get("reference", ""))
  return [fingerprint(folder_of(x)) for x in (named, start)]


def _make_agreeing(
  named: Named,
  *,
  judges: Mapping[str, Description] = MappingProxyType({}),
) -> Judge:
  """Makes a judge of the pairs on which several judges agree.

  Args:
    named: the judge's description; it names no function.
    judges: the judges by their names, each with `function`, `kind` and
      `settings`.
  """
  where = f"{named.where}.settings.judges"
  if named.function:
    raise UserError(
      "isn't read: the judges are named in `settings.judges`.",
      where=f"{named.where}.function",
    )
  made = {
    name: named.tools.judge(description, f"{where}.{name}")
    for name, description in judges.items()
  }
  return agreeing(made, where=where)


def _made_of_agreeing(named: Named, **settings: Any) -> Iterable[str]:
  for name, description in settings.get("judges", {}).items():
    where = f"{named.where}.settings.judges.{name}"
    yield from named.tools.made_of(description, where)


SELF_CONSISTENT: dict[str, JudgeKind] = {
  "implicit": JudgeKind(
    "a run or a checkpoint whose implicit reward beta log(pi / reference) is"
    " the reward (arXiv:2305.18290)",
    _make_implicit,
    _made_of_implicit,
  ),
  "agreeing": JudgeKind(
    "no function: the mean preference of the judges in `settings.judges` where"
    " they agree, and no answer where they don't (the filter of"
    " arXiv:2502.08922)",
    _make_agreeing,
    _made_of_agreeing,
  ),
}
