"""The demo, run like a user does, gives what its page promises."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FLAGS = ("--config=demo", "--workdir=demo")
ALIGNED = ("dpo", "online_dpo", "online_ipo", "ipo_md")


@pytest.mark.slow
def test_every_aligned_policy_beats_a_competent_start(tmp_path):
  environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
  environment["PYTHONPATH"] = str(ROOT)
  subprocess.run(
    [sys.executable, "-m", "jalign", "train", *FLAGS],
    cwd=tmp_path,
    env=environment,
    check=True,
  )
  read = lambda stage: json.loads(
    (tmp_path / "demo" / stage / "results.json").read_text()
  )
  sft = read("sft")
  assert sft["measures/grammatical %"]["mean"] > 90
  assert sft["measures/true clauses %"]["mean"] > 75
  for stage in ALIGNED:
    row = read(stage)
    assert row["against"] == "sft"
    assert row["samples/win_rate"]["low"] > 0.5
    grammatical = row["measures/grammatical %"]["mean"]
    assert grammatical > sft["measures/grammatical %"]["mean"] - 5
    assert 0.1 < row["samples/kl_k1_nats"]["mean"] < 4
  page = (tmp_path / "demo" / "report.html").read_text()
  assert 'src="http' not in page and "<script" not in page
  assert page.count("data:image/png;base64,") >= 6
