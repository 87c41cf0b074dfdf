"""Judges that compare factors by rules: see `jalign.feedback.rules`."""

from collections.abc import Iterable, Sequence
from typing import Any

from jalign.errors import UserError
from jalign.experiment.config import code
from jalign.experiment.judges.checked import check_type, factors_of, unscaled
from jalign.experiment.judges.kind import JudgeKind, Named
from jalign.feedback import Judge
from jalign.feedback.rules import Rule, from_rules


def _make(
  named: Named, *, rules: Sequence[Any] = (), tremble: float = 0.0
) -> Judge:
  where = f"{named.where}.settings"
  unscaled(named)
  check_type(tremble, float, f"{where}.tremble")
  listed = rules if isinstance(rules, list | tuple) else [rules]
  read = [_rule(rule, f"{where}.rules") for rule in listed]
  return from_rules(factors_of(named), read, tremble=tremble, where=where)


def _rule(rule: Any, where: str) -> Rule:
  parts = list(rule) if isinstance(rule, list | tuple) else [rule]
  numbers = [x for x in parts[1:] if isinstance(x, int | float)]
  if (
    not parts
    or not isinstance(parts[0], str)
    or len(numbers) < len(parts) - 1
    or len(parts) > 3
  ):
    raise UserError(
      f"{rule!r} is no rule.",
      where=where,
      remedy="Write (factor, 1 or -1, margin >= 0).",
    )
  return Rule(*parts)


def _made_of(named: Named, **settings: Any) -> Iterable[str]:
  del settings
  return [code.fingerprint(named.function)]


RULES = JudgeKind(
  "a function `(prompts, responses)` of two lists that returns a dictionary of"
  " numbers by factor; the first of `rules`, each (factor, 1 or -1, margin),"
  " that decides a pair counts",
  _make,
  _made_of,
)
