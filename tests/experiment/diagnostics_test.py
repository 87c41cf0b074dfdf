"""Diagnostics in a run, and the page of its dynamics."""

import json
import types

import numpy as np
import pytest

from jalign import cli
from jalign.errors import UserError
from jalign.experiment.config.settings import StageSettings
from jalign.experiment.data.dataset import Dataset
from jalign.experiment.probe import probe_data
from jalign.training.metrics import read_jsonl

FLAGS = (
  "--config.diagnostics.entanglement=both",
  "--config.diagnostics.likelihood=probe",
  "--config.diagnostics.policy=probe",
  "--config.diagnostics.pairs=6",
  "--config.diagnostics.every=1",
  "--config.diagnostics.groups=('embed',)",
)
# Sections with shares of the cases: the probe's, and each step's.
PARTS = "entanglement/all/", "entanglement/embed/", "train/last_layer_"


def _by_step(rows, name):
  return {row["step"]: row[name] for row in rows if name in row}


def test_probes_and_their_page(place, plain, drawn, capsys):
  run, _ = place.train(*FLAGS, "--config.diagnostics.samples=3")
  _check_numbers(run)
  _check_page(place, run, capsys)
  # Diagnostics don't change the training.
  loss = lambda folder: list(
    _by_step(
      read_jsonl(folder / "align" / "metrics.jsonl"), "train/loss"
    ).values()
  )
  np.testing.assert_allclose(loss(run), loss(plain / "run"), rtol=1e-6)
  results = [
    json.loads((folder / "align" / "results.json").read_text())["evaluation"]
    for folder in (run, plain / "run")
  ]
  assert results[0] == pytest.approx(results[1], rel=1e-5)


def _check_numbers(run):
  rows = read_jsonl(run / "align" / "metrics.jsonl")
  get = lambda name: _by_step(rows, name)
  chosen = get("likelihood/chosen_logps_nats")
  assert list(chosen) == [0, 1, 2, 3, 4]
  # A step's effect is the difference of two successive probes.
  for side in ("chosen", "rejected"):
    nats = get(f"likelihood/{side}_logps_nats")
    change = get(f"realised/{side}_change_nats")
    assert list(change) == [1, 2, 3, 4]
    for step, value in change.items():
      np.testing.assert_allclose(value, nats[step] - nats[step - 1], atol=1e-5)
  # At the start the policy equals its reference.
  assert get("policy/kl_nats_per_token")[0] == pytest.approx(0, abs=1e-6)
  assert get("policy/kl_nats_per_token")[4] > 0
  assert get("samples/kl_k1_nats")[0] == pytest.approx(0, abs=1e-5)
  assert get("likelihood/displaced_share")[0] == 0
  for part in PARTS:
    shares = [
      np.fromiter(get(f"{part}{case}_share").values(), float)
      for case in ("ideal", "both_up", "both_down", "reversed")
    ]
    np.testing.assert_allclose(np.sum(shares, 0), 1, atol=1e-6)
  whole, part = (
    get(f"entanglement/{p}/chosen_norm")[1] for p in ("all", "embed")
  )
  assert 0 < part < whole
  with np.load(run / "align" / "probe_pairs.npz") as arrays:
    assert arrays["step"] == 4 and len(arrays["sources"]) == 6
    np.testing.assert_allclose(
      arrays["chosen_logps_nats"].mean(), chosen[4], rtol=1e-12
    )
    assert arrays["rejected_change_nats"].shape == (6,)
  # SFT has no pull on the rejected response, and no beta.
  rows = read_jsonl(run / "sft" / "metrics.jsonl")
  assert not any("likelihood/chosen_logps_nats" in row for row in rows)


def _check_page(place, run, capsys):
  capsys.readouterr()
  cli.main(["report", str(run)])
  page = run / "dynamics" / "report.html"
  assert capsys.readouterr().out.strip() == str(page)
  text = page.read_text()
  assert "data:image/png;base64," in text and "displaced" in text
  said = place.fails(["report", str(run), str(run)])
  assert "--out" in said
  said = place.fails(["report", str(run), "--stage=nope"])
  assert "Its stages are: sft, align" in said
  said = place.fails(["report", str(run), "--stage=sft"])
  assert "diagnostics.likelihood=probe" in said
  assert "neither a run nor a sweep" in place.fails(
    ["report", str(page.parent)]
  )


@pytest.mark.parametrize(
  "flag, said",
  [
    ("--config.diagnostics.entanglement=yes", "'yes' is not one of"),
    ("--config.diagnostics.likelihood=step", "'step' is not one of"),
    ("--config.diagnostics.pairs=0", "must be at least 1"),
    ("--config.diagnostics.top_k=300", "the model has only 272 tokens"),
    ("--config.diagnostics.groups=('heads',)", "'heads' matches no parameter"),
    ("--config.packing=32", "can't look into packed rows"),
    ("--config.normalise_pairs=True", "gradients that are normalised"),
  ],
)
def test_bad_settings_are_named_before_anything_runs(place, flag, said):
  key = flag.partition("=")[0].removeprefix("--").rpartition(".")[2]
  message = place.fails(place.command(*FLAGS, flag))
  assert said in message
  assert (
    f"diagnostics.{key}" in message or "diagnostics.entanglement" in message
  )
  assert not (place.folder / "run").exists()


def test_normalised_pairs_are_trained(place):
  place.align_alone()
  run, _ = place.train("--config.normalise_pairs=True")
  norms = _by_step(read_jsonl(run / "align/metrics.jsonl"), "train/grad_norm")
  # A pair's gradient has length 2 at most, times its pull of beta / 2.
  assert 0.01 < max(norms.values()) <= 2 * 0.1 / 2 + 1e-6
  said = place.fails(
    place.command(
      "--config.normalise_pairs=True", "--config.lora.rank=2", workdir="other"
    )
  )
  assert "a part of the parameters" in said


@pytest.mark.slow
def test_a_loss_on_labels_is_probed_on_the_pairs(place):
  """KTO takes single responses, but its pulls on both of a pair are known."""
  place.align_alone()
  run, _ = place.train(
    "--config.loss.name=kto",
    "--config.diagnostics.entanglement=probe",
    "--config.diagnostics.likelihood=probe",
    "--config.diagnostics.pairs=4",
  )
  rows = read_jsonl(run / "align" / "metrics.jsonl")
  last = {k: v for row in rows for k, v in row.items()}
  assert 0 <= last["entanglement/all/ideal_share"] <= 1
  assert "realised/as_forecast_share" in last
  said = place.fails(
    place.command(
      "--config.loss.name=kto",
      "--config.diagnostics.entanglement=step",
      workdir="other",
    )
  )
  assert "the loss takes unpaired" in said


def test_pairs_are_looked_for_and_missed():
  data_of = lambda kind: Dataset(
    kind, [], [1], [], [], group_of={}, buckets=(8,), pad_id=0, facts={},
    lines=(),
  )  # fmt: skip
  labels, pairs = data_of("unpaired"), data_of("pairs")
  stage = StageSettings("align", {"name": "kto"})
  of = lambda own, main: types.SimpleNamespace(stages={"align": own}, main=main)
  assert probe_data(of(labels, pairs), stage) is pairs
  with pytest.raises(UserError, match="held-out pairs, and the data has unpai"):
    probe_data(of(labels, labels), stage)
