"""A whole run of the hh-rlhf command, on the real data."""

import json
import pathlib

import pytest

from jalign import cli

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_hh_from_transcripts_to_report(shared, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(ROOT)
  run = tmp_path / "hh"
  cli.main(
    [
      "train",
      "--config=experiments/configs/hh_dpo.py",
      f"--config.data.path={shared}/data/hh_harmless_base_test.jsonl.gz",
      f"--workdir={run}",
      "--config.sft.epochs=1",
      "--config.epochs=1",
    ]
  )
  said = capsys.readouterr().out
  assert "read 2312 pairs, used 2303" in said
  assert "4 with an empty response (lines 87, 517, 926, 1104)" in said
  assert (
    "5 whose transcripts diverge (lines 1255, 1689, 1951, 1953, 2037)" in said
  )
  results = {
    stage: json.loads((run / stage / "results.json").read_text())
    for stage in ("sft", "dpo")
  }
  # The accuracies have no lower bound here. But on held-out pairs DPO must have
  # learnt its own objective better than a coin flip.
  assert results["dpo"]["evaluation"]["eval/loss"] < 0.6931
  assert (run / "dpo" / "reference_logps.npz").exists()
  report = (run / "report.md").read_text()
  assert "diverge" in report and "plots/dpo.png" in report
