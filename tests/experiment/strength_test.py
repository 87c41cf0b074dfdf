"""`jalign strength`: a file of pairs, relabelled by several reward models."""

import json
import types

import numpy as np
import pytest

from jalign import cli, data
from jalign.errors import UserError
from jalign.experiment.commands import strength
from jalign.feedback import from_reward

ROWS = [
  {"prompt": f"q{i}:", "chosen": " a" * (i + 1), "rejected": " b" * 5}
  for i in range(10)
]


@pytest.fixture
def place(tmp_path, monkeypatch):
  """A file of pairs; a model is a number, the reward of a letter "a"."""
  path = tmp_path / "pairs.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))

  def load(name, mesh):
    score = None if name == "none" else abs
    head = types.SimpleNamespace(score=score)
    return types.SimpleNamespace(name=name, head=head, form="", sign=1.0)

  def judge(own, gives):
    each = float(own().name)
    return from_reward(lambda p, r: each * r.count("a") + r.count("b"))

  monkeypatch.setattr(strength, "load_scorer", load)
  monkeypatch.setattr(strength, "from_scorer", judge)
  return tmp_path


def test_a_file_is_relabelled_and_read_again(place, capsys):
  out = place / "new.jsonl"
  cli.main(
    ["strength", "--models=1,3", f"--data={place / 'pairs.jsonl'}",
     f"--out={out}", "--flipped=0.1", "--ambiguous=0.2"]
  )  # fmt: skip
  said = capsys.readouterr()
  assert "contradicts 2 labels; 1 labels flipped, 2 softened" in said.out
  rows = [json.loads(line) for line in out.read_text().splitlines()]
  gaps = np.array([[k * (i + 1) - 5 for i in range(10)] for k in (1, 3)])
  mean = gaps.mean(0)
  assert [row["flipped"] for row in rows] == [True] + [False] * 9
  assert (rows[0]["chosen"], rows[0]["margin"]) == (" b" * 5, -mean[0])
  np.testing.assert_allclose([r["margin"] for r in rows[1:]], mean[1:])
  np.testing.assert_allclose([r["margin_std"] for r in rows], gaps.std(0))
  records, report = data.read("pairs", out)
  assert [r.preference for r in records] == [1, 0.9, 0.9, *[1] * 7]
  np.testing.assert_allclose([r.margin for r in records[1:]], mean[1:])
  assert ("flipped", 10) in report.ignored


def test_one_model_or_one_without_rewards_is_refused(place):
  path, out = str(place / "pairs.jsonl"), place / "new.jsonl"
  with pytest.raises(UserError, match="mean over several models"):
    strength.relabel(["1"], path, out)
  with pytest.raises(UserError, match="gives them no scores"):
    strength.relabel(["1", "none"], path, out)
  with pytest.raises(UserError, match="is --data="):
    strength.relabel(["1", "2"], path, place / "pairs.jsonl")
  assert not out.exists()
