"""A reward model trained by two processes, and asked by two processes."""

import json

import pytest

from jalign.training.metrics import read_jsonl
from tests.clocks import is_clock
from tests.experiment.conftest import place  # noqa: F401
from tests.processes import launch
from tests.processes.online_test import _close


def _rows(run):
  rows = read_jsonl(run / "align" / "metrics.jsonl")
  return [{k: v for k, v in r.items() if not is_clock(k)} for r in rows]


@pytest.mark.slow
def test_two_processes_train_and_ask_a_reward_model(place):  # noqa: F811
  place.align_alone()

  def run(name, processes, *flags):
    launch.launch(
      ["jalign", *place.command(*flags, workdir=name)],
      processes=processes,
      devices=2 // processes,
    )
    return place.folder / name

  loss = ("--config.loss.name=bradley_terry", "--config.mesh.fsdp=2")
  rate = ("--config.optimizer.learning_rate=0.03",)
  one, two = (run(f"rm{n}", n, *loss, *rate) for n in (1, 2))
  _close(_rows(two), _rows(one))
  for name in ("results.json", "rewards.json"):
    want, got = (
      json.loads((x / "align" / name).read_text()) for x in (one, two)
    )
    _close(got, want)
  asked = (
    "--config.algorithm=online_dpo",
    "--config.loss={'beta': 0.1}",
    "--config.annotator.kind=model",
    f"--config.annotator.function={one}",
    "--config.judge_parts=2",
    "--config.steps=2",
  )
  first, second = (run(f"online{n}", n, *asked) for n in (1, 2))
  _close(_rows(second), _rows(first))
