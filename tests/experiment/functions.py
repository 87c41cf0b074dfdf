"""A file of users' functions, and settings that name them."""

from jalign.experiment.config import parse

MODULE = """
from __future__ import annotations

import asyncio
import dataclasses
import functools
import sys

runs = []


@dataclasses.dataclass
class Rule:
  factor: float = 1.0
  of: Rule | None = None

  def __call__(self, prompt, response):
    return self.factor * len(response)


rule = Rule(2.0)
half = functools.partial(lambda factor, p, r: factor * len(r), 0.5)


def count(prompts, responses):
  runs.append(len(responses))
  return {"calls": [len(runs)] * len(responses)}


def length(prompt, response):
  return len(response)


def first(prompts, a, b):
  prompts.sort(), a.sort(), b.sort()
  return [1.0] + [0.0] * (len(a) - 1)


def fixed(prompts):
  prompts.clear()
  return {"one": ["x", "y"]}


def spoil(prompt, response, row):
  row["more"] = 1
  return len([row["tests"].pop() for _ in row["tests"]])


def spoil_all(prompts, responses, rows):
  responses.clear(), prompts.reverse()
  return [spoil("", "", rows.pop(0)) for _ in prompts]


def spoiler():
  from jalign.feedback import Judge

  return Judge(reward=lambda answers: spoil_all(*answers[:3]))


def pages(outcome):
  outcome.rows.clear()
  return []
"""
TEXTS = (["q", "p"], ["b", "a"], ["d", "c"])


def settings_of(folder, **named):
  """Settings that name functions of a file, by key."""
  (folder / "mine.py").write_text(named.pop("text", MODULE))
  (folder / "link.py").unlink(missing_ok=True)
  (folder / "link.py").symlink_to("mine.py")
  kind = named.pop("kind", "reward")
  place = lambda name: f"{folder / name}" if ".py:" in name else name
  found = {key: place(name) for key, name in named.items()}
  report = found.pop("report", "")
  return parse.parse(
    {
      "data": {"path": "pairs.jsonl"},
      "annotator": {"kind": kind, **found},
      "loss": {"name": "dpo"},
      "report": report,
    }
  )
