"""Writes demo_preferences.jsonl: 1,200 pairs of responses to customer notes.

  python -m jalign.configs.data.make_demo_preferences

The generator is jalign's own and has a seed; nothing is downloaded. For each
note it draws two different responses of one clerk, who has good and bad days:
some responses are polite, some curt, some rude, some ramble, and some state a
wrong fact. The label is a Bradley-Terry draw, P(a is chosen) =
sigmoid(reward(a) - reward(b)), so that 15 % of the labels contradict the
reward. A model that imitates the chosen responses inherits many of the clerk's
faults; preference optimisation can do better.
"""

import argparse
import json
import math
import pathlib
import random

from jalign.configs.data.demo_reward import (
  CITIES,
  COLOURS,
  COUNTS,
  FACTS,
  ITEMS,
  NAMES,
  reward,
)

SEED = 7
PAIRS = 1200
OUTPUT = pathlib.Path(__file__).with_name("demo_preferences.jsonl")

NOTES = (
  "{name} in {city} wants {count} {colour} {item}.",
  "{name} from {city} orders {count} {colour} {item}.",
  "Order of {count} {colour} {item} for {name} in {city}.",
)
OPENINGS = {
  "polite": ("Thank you, {name}!", "Thanks for your order, {name}!"),
  "plain": ("Hello {name}.", "Order noted."),
  "none": ("",),
  "rude": ("Ugh, {name}.", "Fine, whatever.", "You again?"),
}
OPENING_WEIGHTS = {"polite": 4, "plain": 3, "none": 2, "rude": 2}
BODIES = (
  "We will send {count} {colour} {item} to {city}.",
  "Your {count} {colour} {item} will go to {city}.",
  "{count} {colour} {item} to {city}.",
)
RAMBLES = (
  "By the way, it may rain today, or it may not.",
  "Our shop is old and we like to talk about it.",
)
WRONG_FACT = 0.35  # share of the responses with one wrong fact
RAMBLE = 0.2  # share of the responses that ramble


def _respond(rng: random.Random, note: dict[str, str]) -> str:
  """Draws a response of the clerk, with a leading space."""
  said = dict(note)
  if rng.random() < WRONG_FACT:
    kind = rng.choice(list(FACTS))
    said[kind] = rng.choice([v for v in FACTS[kind] if v != note[kind]])
  kinds = list(OPENING_WEIGHTS)
  (kind,) = rng.choices(kinds, [OPENING_WEIGHTS[k] for k in kinds])
  parts = [rng.choice(OPENINGS[kind]), rng.choice(BODIES)]
  if rng.random() < RAMBLE:
    parts.append(rng.choice(RAMBLES))
  return "".join(f" {part}" for part in parts if part).format(**said)


def make_pairs(count: int = PAIRS, seed: int = SEED) -> list[dict]:
  """Makes the rows of the file.

  Args:
    count: number of pairs, whose prompts all differ.
    seed: seed of everything random.

  Returns:
    Rows with prompt, chosen, rejected, the two scores under the reward, and
    preference, the probability with which the chosen response was preferred.
  """
  rng = random.Random(seed)
  rows: dict[str, dict] = {}
  while len(rows) < count:
    note = {
      "name": rng.choice(NAMES),
      "city": rng.choice(CITIES),
      "count": rng.choice(COUNTS),
      "colour": rng.choice(COLOURS),
      "item": rng.choice(ITEMS),
    }
    prompt = rng.choice(NOTES).format(**note)
    first, second = _respond(rng, note), _respond(rng, note)
    scores = reward(prompt, first), reward(prompt, second)
    if prompt in rows or scores[0] == scores[1]:
      continue
    probability = 1 / (1 + math.exp(scores[1] - scores[0]))
    if rng.random() >= probability:
      first, second = second, first
      scores = scores[1], scores[0]
      probability = 1 - probability
    rows[prompt] = {
      "prompt": prompt,
      "chosen": first,
      "rejected": second,
      "preference": round(probability, 4),
      "chosen_score": scores[0],
      "rejected_score": scores[1],
    }
  return list(rows.values())


def to_text(rows: list[dict]) -> str:
  """Returns the file's text, with a JSON object on each line."""
  return "".join(json.dumps(row) + "\n" for row in rows)


def main() -> None:
  """Writes the file of pairs."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--pairs", type=int, default=PAIRS)
  parser.add_argument("--seed", type=int, default=SEED)
  parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
  args = parser.parse_args()
  args.output.write_text(
    to_text(make_pairs(args.pairs, args.seed)), encoding="utf-8"
  )


if __name__ == "__main__":
  main()
