"""Online rounds of several processes are those of a single process."""

import collections
import json

import jax
import numpy as np
import pytest

from jalign.training.metrics import read_jsonl
from tests.clocks import is_clock
from tests.experiment.conftest import place  # noqa: F401
from tests.processes import launch, rounds

TOLERANCE = 1e-6  # of losses: sums over devices may be in another order


def _played(folder, words, processes, devices=1):
  """What each process saw of each case."""
  file = folder / "seen"
  launch.launch(
    ["tests.processes.rounds", str(file), *words],
    processes=processes,
    devices=devices,
  )
  files = [folder / f"seen.{i}" for i in range(processes)]
  return [json.loads(file.read_text()) for file in files]


def _alone(case):
  """The same in this process, with virtual devices."""
  seen = rounds.play(*case, devices=jax.devices()[: int(np.prod(case[0]))])
  return json.loads(json.dumps(seen))


def _close(got, want):
  """Texts and counts are equal; numbers of float32 programs nearly so."""
  if isinstance(want, dict):
    assert got.keys() == want.keys()
    for name in want:
      _close(got[name], want[name])
  elif isinstance(want, list):
    assert len(got) == len(want)
    for pair in zip(got, want):
      _close(*pair)
  elif isinstance(want, float):
    assert got == pytest.approx(want, rel=TOLERANCE, abs=TOLERANCE, nan_ok=True)
  else:
    assert got == want


def _check(case, seen, devices=1):
  """Compares what several processes saw of a case with a process of its own."""
  (data, fsdp, _), _, judge = case
  alone = _alone(case)
  for each in seen:
    for name in ("rounds", "answers", "samples"):
      assert each.get(name) == seen[0].get(name), name
    for before, now in zip(alone["rounds"], each["rounds"]):
      assert now["tokens"] == before["tokens"]
      if judge != "tokens":  # numbers of Python reach all processes whole
        assert now["preference"] == before["preference"]
        assert now["values"] == before["values"]
      _close(now["values"], before["values"])
      _close(now["preference"], before["preference"])
      _close(now["train"], before["train"])
      # Each device holds its part of the rollout's rows.
      held = 2 * rounds.PROMPTS // (data * fsdp)
      assert now["rows"] == [held] * devices
    _close(each.get("samples"), alone.get("samples"))
    assert each.get("answers") == alone.get("answers")
    assert "process" in each["refused"] and "can't judge" in each["refused"]
    assert f"process {len(seen) - 1}" in each["refused"]
  if judge == "tokens":
    assert all("fsdp" in x or "data" in x for x in seen[0]["specs"])
    return
  # Every response is judged once, by one process, and all share the work.
  calls = [collections.Counter(each["asked"]) for each in seen]
  assert sum(calls, collections.Counter()) == collections.Counter(
    alone["asked"]
  )
  assert all(calls)
  for prompt in {f"prompt {i}" for i in range(rounds.PROMPTS)}:
    assert sum(prompt in each for each in calls) == 1


def test_two_processes_play_the_rounds_of_one(tmp_path):
  case = (2, 1, 1), "ipo_md", "reward"
  seen = _played(tmp_path, ["2x1x1:ipo_md:reward"], 2)
  _check(case, [each[0] for each in seen])


ALGORITHMS = {
  "online_dpo": "preference",
  "online_ipo": "reward",
  "ipo_md": "tokens",
  "nash_md": "preference",
}


def _words(meshes, algorithms=tuple(ALGORITHMS)):
  return [f"{m}:{a}:{ALGORITHMS[a]}" for m in meshes for a in algorithms]


@pytest.mark.slow
@pytest.mark.parametrize(
  "processes, devices, words",
  [
    (2, 1, _words(("2x1x1", "1x2x1", "1x1x2"))),
    (2, 2, _words(("2x2x1", "1x2x2"))),
    (4, 1, _words(("1x2x2",), ("ipo_md",))),
  ],
)
def test_every_algorithm_on_every_mesh(tmp_path, processes, devices, words):
  seen = _played(tmp_path, words, processes, devices)
  for at, case in enumerate(rounds.cases_of(words)):
    _check(case, [each[at] for each in seen], devices)


JUDGE = """
import math

import jax


def reward(prompt, response):
  return len(response) / 7 + math.sin(sum(map(ord, response)))


def refused(prompt, response):
  if jax.process_index() == 1:
    raise ValueError("no")
  return 0.0


def measured(prompts, responses):
  return {"letters": [len(text) for text in responses]}


def others(prompts):
  return {"other": [" a a"] * len(prompts)}
"""


@pytest.fixture(name="online")
def _online(place):  # noqa: F811
  """A function that trains by IPO-MD with a judge, on some processes."""
  place.align_alone()
  judge = place.folder / "judge.py"
  judge.write_text(JUDGE)
  plain = place.config.read_text()
  place.config.write_text(
    "from ml_collections import ConfigDict\n"
    "from jalign.online import ALGORITHMS\n"
    "from tests.online import toys\n"
    "ALGORITHMS['toy'] = toys.ADAPTIVE\n"
    + plain.replace(
      "c.loss.beta = 0.1",
      "c.loss, c.algorithm = ConfigDict(), 'ipo_md'\n"
      f"  c.annotator.measures = {str(judge)!r} + ':measured'\n"
      f"  c.annotator.opponents = {str(judge)!r} + ':others'\n"
      "  c.sample.prompts, c.sample.best_of = 5, 3",
    )
  )

  def run(name, processes, devices, *flags, reward="reward", code=0):
    named = f"--config.annotator.function={judge}:{reward}"
    ends = launch.launch(
      ["jalign", *place.command(named, *flags, workdir=name)],
      processes=processes,
      devices=devices,
      code=code,
    )
    return place.folder / name, ends

  return run


@pytest.mark.slow
@pytest.mark.parametrize(
  "devices, flags",
  [
    (1, ()),
    # Parameters lie otherwise while responses are drawn, a few at a time.
    (
      2,
      (
        "--config.mesh.fsdp=4",
        "--config.mesh.decode_tensor=2",
        "--config.slots=4",
      ),
    ),
    # Its opponent and its reference are kept from step to step.
    (
      1,
      (
        "--config.algorithm=toy",
        "--config.algorithm_settings={'target': 0.01, 'every': 1}",
        "--config.mesh.fsdp=2",
        "--config.lora.rank=2",
      ),
    ),
  ],
)
def test_a_run_of_two_processes_writes_what_one_writes(online, devices, flags):
  one, _ = online("one", 1, 2 * devices, *flags)
  two, _ = online("two", 2, devices, *flags)
  rows = []
  for run in (one, two):
    read = read_jsonl(run / "align" / "metrics.jsonl")
    rows.append([{k: v for k, v in r.items() if not is_clock(k)} for r in read])
  _close(rows[1], rows[0])
  for name in ("align/results.json", "win_matrix.json"):
    want, got = (json.loads((run / name).read_text()) for run in (one, two))
    _close(got, want)


@pytest.mark.slow
def test_a_judge_that_fails_on_one_process_ends_all(online):
  _, ends = online("failed", 2, 1, reward="refused", code=2)
  for end in ends:
    assert "process 1" in end.said and "ValueError: no" in end.said
    assert "judge.py" in end.said
