"""A row of the glossary, and the words that its columns use."""

from collections.abc import Mapping
from typing import NamedTuple

SECTIONS: Mapping[str, str] = {
  "train": "means over the training batches since the line before",
  "eval": "means over the held-out data, by the loss that is trained",
  "samples": "responses to held-out prompts, while training and at the end",
  "measures": "the config's own measures of the responses in `samples`",
  "rollouts": "responses that an online stage draws to learn from",
  "algorithm": "what an online algorithm's own `measure` says of a round",
  "likelihood": "log-probs of the probe's held-out pairs",
  "policy": "next-token distributions on the chosen responses of these pairs",
  "entanglement": "gradients of the two log-probs of each of these pairs",
  "realised": "what one step of training did to these pairs",
  "time": "the clock",
}

# Units that a name ends in.
SUFFIXES: Mapping[str, str] = {
  "nats": "natural logarithms of probabilities, summed over a response",
  "nats_per_token": "the same, averaged over tokens",
  "bits": "logarithms to base 2, averaged over tokens",
  "tokens": "tokens of a response, the stop token included",
  "share": "a fraction in [0, 1]",
  "count": "a number of things",
  "seconds": "seconds of wall-clock time",
}

# Quantities whose names end in no unit.
OTHERS: Mapping[str, str] = {
  "accuracy": "a fraction in [0, 1]; ties count one half",
  "win rate": "a fraction in [0, 1]; ties count one half",
  "probability": "a number in [0, 1]",
  "loss": "the unit of the loss",
  "score": "the unit of the judge or of the reward model",
  "cosine": "a number in [-1, 1]",
  "norm": "the norm of a gradient",
  "rate": "the optimizer's step size",
  "own": "whatever the function that measures it chose",
}


class Row(NamedTuple):
  """A row of the glossary.

  Attributes:
    pattern: sections, several of them with | between, then / and the name. A
      word in capitals stands for a name that a run chooses.
    unit: a key of `SUFFIXES`, which the name then ends in, or of `OTHERS`.
    says: what the number is, in a sentence without its full stop.
    source: the module of jalign that computes it.
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
  """A row for the chosen and a row for the rejected response of a pair."""
  return [
    Row(pattern.replace("SIDE", side), unit, says.replace("SIDE", side), source)
    for side in ("chosen", "rejected")
  ]


def cases(prefix: str, what: str, source: str) -> list[Row]:
  """A row for each case of what a step does to the log-probs of a pair."""
  said = {
    "ideal": "chosen rises and rejected does not",
    "both_up": "both rise",
    "both_down": "neither rises",
    "reversed": "rejected rises and chosen does not",
  }
  return [
    Row(f"{prefix}{case}_share", "share", f"pairs {what}: {how}", source)
    for case, how in said.items()
  ]
