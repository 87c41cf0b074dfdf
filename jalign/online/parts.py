"""Samples and judges a round's prompts in parts, so that both go on at once.

All parts are dispatched to the devices before the first is judged. While the
judge works on a part on the host, the devices sample the next one. Responses
depend on the round's key and on their row, not on the number of parts.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jalign.errors import UserError
from jalign.feedback import Answers, Assessed
from jalign.online.judging import Verdict
from jalign.types import Rollout


def slices(count: int, parts: int) -> list[slice]:
  """Cuts `count` prompts into equal parts.

  Raises:
    UserError: they can't be cut so.
  """
  if parts < 1 or count % parts:
    raise UserError(
      f"{count} prompts don't divide into {parts} parts.",
      where="judge_parts",
      remedy="Choose a divisor of the number of prompts.",
    )
  each = count // parts
  return [slice(i * each, (i + 1) * each) for i in range(parts)]


def join_rollouts(rollouts: Sequence[Rollout]) -> Rollout:
  """The rows of several rollouts as one rollout."""
  return rollouts[0] if len(rollouts) == 1 else _joined(tuple(rollouts))


@jax.jit
def _joined(rollouts: tuple[Rollout, ...]) -> Rollout:
  rows = [
    x.replace(model_logps=jnp.moveaxis(x.model_logps, 1, 0)) for x in rollouts
  ]
  joined = jax.tree.map(lambda *parts: jnp.concatenate(parts), *rows)
  return joined.replace(model_logps=jnp.moveaxis(joined.model_logps, 0, 1))


def join_verdicts(verdicts: Sequence[Verdict], draws: int) -> Verdict:
  """The verdicts on several parts of a round as one.

  Args:
    verdicts: verdicts on consecutive prompts.
    draws: K, number of draws.
  """
  if len(verdicts) == 1:
    return verdicts[0]
  rows = lambda take: np.concatenate([take(v) for v in verdicts])
  numbers = lambda name: (
    None
    if getattr(verdicts[0], name) is None
    else rows(lambda v: getattr(v, name))
  )
  return Verdict(
    _join_assessed([v.assessed for v in verdicts], draws),
    numbers("rewards"),
    numbers("costs"),
    rows(lambda v: v.preference),
    rows(lambda v: v.answered),
    {
      name: rows(lambda v, name=name: v.parts[name])
      for name in verdicts[0].parts
    },
  )


def _join_assessed(sides: Sequence[Assessed], draws: int) -> Assessed:
  """Answers by draw: all of the first draw, from every part, come first."""
  order = [
    (side, np.arange(k * n, (k + 1) * n))
    for k in range(draws)
    for side, n in ((side, len(side) // draws) for side in sides)
  ]
  pick = lambda values: np.concatenate(
    [np.asarray(values(side))[at] for side, at in order]
  )
  first = sides[0]
  number = lambda name: (
    None
    if getattr(first, name) is None
    else pick(lambda side: side.numbers(name))
  )
  taken = [side.answers.take(at) for side, at in order]
  listed: Callable[[str], list] = lambda name: [
    x for answers in taken for x in getattr(answers, name)
  ]
  return Assessed(
    Answers(listed("prompts"), listed("texts"), listed("rows")),
    number("reward"),
    number("cost"),
    answers_all=first.answers_all,
    parts={
      name: pick(lambda side, name=name: side.parts[name])
      for name in first.parts
    },
  )
