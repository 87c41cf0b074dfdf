"""Random streams differ, and policies' samples are independent."""

import json

import numpy as np

from jalign.experiment.config.streams import stream


def test_streams_differ_by_seed_and_purpose_and_nothing_else():
  names = [("report", "sft"), ("report", "dpo"), ("data", "sft"), ("params",)]
  seeds = {stream(seed, *name) for seed in range(50) for name in names}
  assert len(seeds) == 200
  assert all(0 <= seed < 2**31 for seed in seeds)
  assert stream(3, "data", "sft") == stream(3, "data", "sft")
  # Nor is it the next seed's, or a sweep over seeds would repeat it.
  assert stream(0, "params") + 1 != stream(1, "params")


def test_policies_are_sampled_independently(place):
  """Stages that don't move are one policy; its samples differ all the same."""
  flags = [
    "--config.optimizer.learning_rate=1e-30",
    "--config.sft.optimizer.learning_rate=1e-30",
    "--config.sample.per_prompt=8",
  ]
  folder, _ = place.train(*flags)
  a, b = (
    json.loads((folder / stage / "results.json").read_text())
    for stage in ("sft", "align")
  )
  assert a["eval/ranking_accuracy"] == b["eval/ranking_accuracy"]
  same = np.mean([x == y for x, y in zip(a["samples"], b["samples"])])
  assert len(a["samples"]) == 32 and same < 0.2


def test_every_seed_holds_out_the_same_pairs(place):
  place.align_alone()
  held_out = []
  for seed in (0, 1):
    flags = [f"--config.seed={seed}", "--config.steps=1"]
    folder, said = place.train(*flags, workdir=f"run{seed}")
    held_out.append(
      [line for line in said.splitlines() if "held out (" in line]
    )
    results = json.loads((folder / "align" / "results.json").read_text())
    held_out[-1].append(results["prompts"])
  assert held_out[0] == held_out[1]
