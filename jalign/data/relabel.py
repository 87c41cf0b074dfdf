"""Rewrites records so that the prompt says what the response is to be worth.

These are pure functions. The text that states the goal has to be the same when
the model is used, so it comes from a format string and from nothing else.
"""

import math
import string
from collections.abc import Iterable, Sequence

from jalign.data.schema import PreferenceRecord, Report, Skipped
from jalign.errors import UserError

# {goal} is the score that is asked for.
GOAL_FORM = "Write a response of score {goal:g}.\n\n{prompt}"
# {first} and {second} are 100 times the direction's cosine and sine.
DIRECTION_FORM = (
  "Maximise {first} * helpfulness + {second} * verbosity.\n\n{prompt}"
)


def reward_augmented(
  records: Iterable[PreferenceRecord], form: str = GOAL_FORM
) -> tuple[list[PreferenceRecord], Report]:
  """Makes two pairs of each pair, one with either response's score as the goal.

  Under the chosen response's score the preference stays. Under the rejected
  response's score the sides are swapped, because the rejected response is the
  one that meets the goal. Scores become -(goal - score)^2, which is 0 for
  the chosen side. The rater's `preference` isn't kept, since it doesn't hold
  under a goal. A pair without both scores is skipped, and so is a pair whose
  scores tie or contradict its sides. The record keeps the prompt without the
  goal as `plain`, for whoever judges responses to it.

  Zhang et al. 2024, "Reward-Augmented Data Enhances Direct Preference Alignment
  of LLMs", arXiv:2410.08067.

  Args:
    records: pairs with scores.
    form: text of the new prompt, with the fields {prompt} and {goal}.

  Returns:
    (two pairs for each pair that is used, report over the pairs).

  Raises:
    UserError: the form lacks one of its fields, or has another field; or a chat
      template wrote the prompts, and the goal would stand before its marks.
  """
  _check(form, ("prompt", "goal"))
  pairs: list[PreferenceRecord] = []
  skipped: list[Skipped] = []
  used = 0
  for record in records:
    high, low = record.chosen_score, record.rejected_score
    if record.end is not None:
      raise UserError(
        "a chat template wrote the prompt: the goal would stand before the "
        "template's first mark, where no model reads any text.",
        where=record.source,
        remedy="Write the goals into the turns of the rows, or read texts "
        "without a template.",
      )
    if high is None or low is None:
      skipped.append(Skipped(record.source, "missing", "a score is missing."))
    elif high == low:
      skipped.append(Skipped(record.source, "tie"))
    elif high < low:
      skipped.append(Skipped(record.source, "contradicted"))
    else:
      used += 1
      for side, goal, chosen, rejected in (
        ("chosen", high, record.chosen, record.rejected),
        ("rejected", low, record.rejected, record.chosen),
      ):
        pairs.append(
          PreferenceRecord(
            prompt=form.format(prompt=record.prompt, goal=goal),
            chosen=chosen,
            rejected=rejected,
            source=f"{record.source}#{side}",
            group=record.group,
            plain=record.plain or record.prompt,
            chosen_score=0.0,
            rejected_score=-((high - low) ** 2),
          )
        )
  report = Report(
    "", used + len(skipped), used, tuple(skipped), records=len(pairs)
  )
  return pairs, report


def directional_prompt(
  prompt: str, direction: Sequence[float], form: str = DIRECTION_FORM
) -> str:
  """The prompt that asks for a direction in the plane of two rewards.

  Args:
    prompt: the prompt without the direction.
    direction: two numbers, not both 0; their length doesn't matter.
    form: text of the new prompt, with the fields {prompt}, {first} and
      {second}: whole numbers, 100 times the direction's cosine and sine.

  Returns:
    The new prompt, the same in training and in use.

  Raises:
    UserError: `direction` isn't a direction, or the form lacks one of its
      fields or has another field.
  """
  _check(form, ("prompt", "first", "second"))
  first, second = _unit(direction)
  return form.format(
    prompt=prompt, first=round(100 * first), second=round(100 * second)
  )


def directional_choice(
  prompt: str,
  rewards: Sequence[Sequence[float]],
  direction: Sequence[float],
  form: str = DIRECTION_FORM,
) -> tuple[int, str]:
  """The response to imitate under a direction, and the prompt that asks for it.

  Directional preference alignment keeps, out of K samples, the one whose
  rewards reach furthest along the direction, and fine-tunes on it under the
  prompt that names the direction. The direction (1, 0) is rejection sampling by
  the first reward. A RankedRecord holds one score per response, so the rewards
  come as a matrix. How the paper scales its rewards isn't known; one factor for
  both rewards changes nothing here, but a different factor for each does.

  Wang et al. 2024, "Arithmetic Control of LLMs for Diverse User Preferences:
  Directional Preference Alignment with Multi-Objective Rewards",
  arXiv:2402.18571.

  Args:
    prompt: what the K responses answer.
    rewards: [K, 2], two rewards of each response.
    direction: two numbers, not both 0; their length doesn't matter.
    form: see `directional_prompt`.

  Returns:
    (index of the response, the first if several are best; the new prompt).

  Raises:
    UserError: there are no responses, a response hasn't two finite rewards, or
      as in `directional_prompt`.
  """
  first, second = _unit(direction)
  if not rewards:
    raise UserError("there are no responses to choose from.")
  if any(len(row) != 2 or not all(map(math.isfinite, row)) for row in rewards):
    raise UserError("every response needs two finite rewards.")
  along = [first * a + second * b for a, b in rewards]
  return along.index(max(along)), directional_prompt(prompt, direction, form)


def _unit(direction: Sequence[float]) -> tuple[float, float]:
  """Cosine and sine of a direction."""
  length = math.hypot(*direction)
  if len(direction) != 2 or not 0 < length < math.inf:
    raise UserError(
      f"{tuple(direction)} is no direction.",
      remedy="Give two finite numbers, not both 0.",
    )
  return direction[0] / length, direction[1] / length


def _check(form: str, fields: Sequence[str]) -> None:
  """Raises UserError if a form lacks one of its fields, or has another."""
  wanted = ", ".join(f"{{{field}}}" for field in fields)
  try:
    named = {name for _, name, _, _ in string.Formatter().parse(form)} - {None}
    form.format(**dict.fromkeys(fields, 0))
  except (ValueError, KeyError, IndexError) as e:
    raise UserError(
      f"the form {form!r} can't be filled in ({e}).",
      remedy=f"Its fields are {wanted}.",
    ) from e
  if named != set(fields):
    raise UserError(
      f"the form {form!r} needs the fields {wanted}.",
      remedy="Name each of them once or more.",
    )
