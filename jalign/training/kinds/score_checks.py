"""What records for a reward model's head must hold, and the names in them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jalign import data
from jalign.errors import UserError
from jalign.hosts import say

_Parts = Callable[[str], Sequence[Any]]


def names_of(examples: Iterable[Any]) -> tuple[str, ...]:
  """Sorted names of the objectives that examples are labelled or rated on."""
  return tuple(sorted({name for e in examples for name in _numbers(e)}))


def head_settings(examples: Iterable[Any]) -> dict[str, int]:
  """Setting `count` of the head `objectives`; {} for data without any."""
  names = names_of(examples)
  return {"count": len(names)} if names else {}


def name_options(examples: _Parts, part: str) -> dict[str, tuple[str, ...]]:
  """Option `names`: the objectives of the training examples, sorted.

  Raises:
    UserError: a held-out example has an objective that no training example has.
  """
  del part
  names = names_of(examples("train"))
  for example in examples("eval"):
    for name in _numbers(example):
      if name not in names:
        raise UserError(
          f"a held-out record has the objective {name!r}, which no training"
          f" record has (they have {', '.join(names) or 'none'}).",
          where=example.source,
          remedy="Leave it out of the held-out data, or train on it.",
        )
  return {"names": names}


def _numbers(example: Any) -> Mapping[str, float]:
  """Numbers by objective of a pair or a rated response; {} for others."""
  found = getattr(example, "objectives", None)
  return getattr(example, "ratings", {}) if found is None else found


def check_pairs(
  title: str, names: Sequence[str], examples: Sequence[data.EncodedPair]
) -> None:
  """Raises UserError for pairs whose labels teach nothing, and says the rest.

  See `Reading.check`.
  """
  if "preference" in names:
    _check_vary(
      title, [e.preference for e in examples], 0.5, "preferences of pairs"
    )
  if "harmful_unsafe" in names:
    labels = [(e.chosen_unsafe, e.rejected_unsafe) for e in examples]
    if labels and len({label for pair in labels for label in pair}) == 1:
      unsafe = labels[0][0]
      say(
        f"[data] all responses of {len(labels)} pairs are"
        f" {'unsafe' if unsafe else 'safe'}: the signs of costs will only say"
        " that."
      )
  if "objective" in names:
    without = [e.source for e in examples if not e.objectives]
    if without and len(without) < len(examples):
      say(
        f"[data] {len(without)} of {len(examples)} pairs have no objective"
        f" ({without[0]} is the first): they count under none."
      )


def check_lists(
  title: str, names: Sequence[str], examples: Sequence[data.EncodedList]
) -> None:
  """Raises UserError if no list has an order; says how many have none."""
  del names
  tied = [e.source for e in examples if len(set(e.scores.tolist())) == 1]
  if len(tied) == len(examples):
    raise UserError(
      f"{title} learns from the order of responses, and in all"
      f" {len(examples)} lists to train on the scores are equal.",
      where="data",
      remedy="Name another field as the score, or give other data.",
    )
  if tied:
    say(
      f"[data] the scores of {len(tied)} of {len(examples)} lists are equal"
      f" ({tied[0]} is the first): they teach no order."
    )


def check_labels(
  title: str, names: Sequence[str], examples: Sequence[data.EncodedBinary]
) -> None:
  """Raises UserError if all labels are equal."""
  if "desirable" in names and len({bool(e.desirable) for e in examples}) < 2:
    said = "desirable" if examples[0].desirable else "undesirable"
    raise UserError(
      f"{title} tells desirable responses from others, and all"
      f" {len(examples)} responses to train on are {said}.",
      where="data",
      remedy="Give responses of both labels.",
    )


def check_ratings(
  title: str, names: Sequence[str], examples: Sequence[data.EncodedRating]
) -> None:
  """Raises UserError if all ratings are constant; says which ones are."""
  del names
  values: dict[str, set[float]] = {}
  counts: dict[str, int] = {}
  for example in examples:
    for name, value in example.ratings.items():
      values.setdefault(name, set()).add(value)
      counts[name] = counts.get(name, 0) + 1
  constant = {n: next(iter(v)) for n, v in values.items() if len(v) == 1}
  said = _listed(constant, counts)
  if len(constant) == len(values):
    raise UserError(
      f"{title} learns from ratings that differ, and all are constant: {said}.",
      where="data",
      remedy="Give ratings of better and of worse responses.",
    )
  if constant:
    say(f"[data] ratings that are constant, and teach nothing: {said}.")
  rare = {n: c for n, c in sorted(counts.items()) if c < len(examples)}
  if rare:
    parts = ", ".join(f"{n} of {len(examples) - c}" for n, c in rare.items())
    say(f"[data] ratings missing of {len(examples)} responses: {parts}.")


def _listed(constant: Mapping[str, float], counts: Mapping[str, int]) -> str:
  return ", ".join(
    f"{name} is {value:g} in all {counts[name]}"
    for name, value in sorted(constant.items())
  )


def _check_vary(
  title: str, values: Sequence[float | None], at: float, noun: str
) -> None:
  if values and all(value == at for value in values):
    raise UserError(
      f"{title} learns from the {noun}, and all {len(values)} are {at:g}.",
      where="data",
      remedy="Give probabilities that differ from it, or leave the field out:"
      " the chosen response is then preferred for certain.",
    )
