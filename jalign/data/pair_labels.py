"""What a row may say of a pair beside which response is preferred."""

from typing import Any

from jalign.data.rows import (
  SKIP,
  BadRow,
  first_of,
  flag,
  name_in,
  named_numbers,
  number,
  quoted,
)

PAIR_LABELS = (
  "rater",
  "objective",
  "preferences",
  "margin",
  "strength",
  "chosen_unsafe",
  "rejected_unsafe",
)


def labels_of_pair(row: dict[str, Any]) -> dict[str, Any]:
  """The fields of a `PreferenceRecord` that a row gives under `PAIR_LABELS`.

  Raises:
    BadRow: one of them holds what it can't, or only one response is labelled.
  """
  chosen_unsafe, rejected_unsafe = _unsafe(row)
  return {
    "rater": name_in(row, "rater"),
    "objective": name_in(row, "objective"),
    "preferences": _preferences(row),
    "margin": number(row, first_of(row, "margin", "strength")),
    "chosen_unsafe": chosen_unsafe,
    "rejected_unsafe": rejected_unsafe,
  }


def _preferences(row: dict[str, Any]) -> dict[str, float]:
  """The probabilities in the field "preferences" that aren't null."""
  given = {}
  for name, value in named_numbers(row, "preferences").items():
    if value is None:
      continue
    if not 0 <= value <= 1:
      raise BadRow(
        "range",
        f"field 'preferences' is {value} for {quoted(name)}, outside [0, 1].",
        f"It is the probability that the chosen response is better. {SKIP}",
      )
    given[name] = value
  return given


def _unsafe(row: dict[str, Any]) -> tuple[bool | None, bool | None]:
  """The labels of both responses; raises BadRow if only one has a label."""
  fields = "chosen_unsafe", "rejected_unsafe"
  chosen, rejected = (flag(row, field) for field in fields)
  if (chosen is None) != (rejected is None):
    raise BadRow(
      "missing",
      f"field {fields[chosen is not None]!r} is missing, and the other response"
      " has its label.",
      f"Label both responses, or neither. {SKIP}",
    )
  return chosen, rejected
