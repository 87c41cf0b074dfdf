"""A row of the glossary, and the sections and units that rows use."""

from collections.abc import Mapping
from typing import NamedTuple

SECTIONS: Mapping[str, str] = {
  "train": "means over the training batches since the previous line of metrics",
  "eval": "means over the held-out data, by the loss that is trained",
  "samples": "responses to held-out prompts, while training and at the end",
  "measures": "the config's own measures of the responses in `samples`",
  "rollouts": "responses that an online stage draws to learn from",
  "algorithm": "numbers of a round by an online algorithm's own `measure`",
  "likelihood": "log-probs of the probe's held-out pairs",
  "policy": "next-token distributions on the chosen responses of these pairs",
  "entanglement": "gradients of the two log-probs of each of these pairs",
  "realised": "the effect of one step of training on these pairs",
  "time": "wall-clock times",
}

# Units at the end of a name.
SUFFIXES: Mapping[str, str] = {
  "nats": "natural logarithms of probabilities, summed over a response",
  "nats_per_token": "natural logarithms of probabilities, averaged over tokens",
  "bits": "logarithms to base 2, averaged over tokens",
  "tokens": "tokens of a response, the stop token included",
  "share": "a fraction in [0, 1]",
  "count": "a number of items, such as responses",
  "seconds": "seconds of wall-clock time",
  "tokens_per_second": "tokens in a second of wall-clock time",
}

# Quantities whose names don't end in a unit.
OTHERS: Mapping[str, str] = {
  "accuracy": "a fraction in [0, 1]; ties count one half",
  "win rate": "a fraction in [0, 1]; ties count one half",
  "probability": "a number in [0, 1]",
  "loss": "the unit of the loss",
  "score": "the unit of the judge or of the reward model",
  "cosine": "a number in [-1, 1]",
  "ratio": "a quotient of probabilities",
  "norm": "the norm of a gradient",
  "rate": "the optimizer's step size",
  "own": "the unit of the function that measures the quantity",
}


class Row(NamedTuple):
  """A row of the glossary.

  Attributes:
    pattern: sections with | between them, then / and the name. A word in
      capitals stands for a name that a run chooses.
    unit: a key of `SUFFIXES`, which is then the end of the name, or of
      `OTHERS`.
    says: what the number means, in words without a full stop.
    source: the module of jalign that computes the number.
  """

  pattern: str
  unit: str
  says: str
  source: str

  @property
  def sections(self) -> tuple[str, ...]:
    """The sections in which the quantity is measured."""
    return tuple(self.pattern.partition("/")[0].split("|"))

  @property
  def name(self) -> str:
    """The name after the section."""
    return self.pattern.partition("/")[2]


def sides(pattern: str, unit: str, says: str, source: str) -> list[Row]:
  """Makes two rows, for the chosen and the rejected response of a pair."""
  return [
    Row(pattern.replace("SIDE", side), unit, says.replace("SIDE", side), source)
    for side in ("chosen", "rejected")
  ]


def cases(prefix: str, what: str, source: str) -> list[Row]:
  """Makes a row for each effect that a step can have on a pair's log-probs."""
  said = {
    "ideal": "the chosen log-prob rises and the rejected doesn't",
    "both_up": "both log-probs rise",
    "both_down": "neither log-prob rises",
    "reversed": "the rejected log-prob rises and the chosen doesn't",
  }
  return [
    Row(f"{prefix}{case}_share", "share", f"pairs {what}: {how}", source)
    for case, how in said.items()
  ]
