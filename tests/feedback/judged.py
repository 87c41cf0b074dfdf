"""Calls a judge on texts."""

from jalign.feedback import assess, compare, make_answers


def judged(judge, prompts, a, b, **options):
  """[N] P(a is preferred to b) under a judge."""
  sides = [assess(judge, make_answers(prompts, x, **options)) for x in (a, b)]
  return compare(judge, *sides)
