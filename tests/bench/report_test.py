"""The benchmarks run without PyTorch, and the report judges what they write."""

import json
import math

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments.bench import (
  decode,
  diagnostics,
  load,
  logprobs,
  mixture,
  models,
  products,
  report,
  roofline,
  train_step,
)

ALWAYS = {"benchmark", "device", "processor", "cores", "versions", "commit"}
TIMED = ALWAYS | {"time", "others"}


@pytest.fixture
def smoke(tmp_path, monkeypatch):
  """Runs a benchmark of jalign alone, with tiny sizes; returns its lines."""
  monkeypatch.setattr(models, "theirs", lambda *_: None)
  # Separate processes would take longer than everything else here.
  monkeypatch.setattr(train_step, "peak", lambda *_: 7)
  here = lambda name, folder="": load.alone(name, folder, "tiny")
  monkeypatch.setattr(load, "apart", here)

  def run(benchmark):
    out = tmp_path / "out.jsonl"
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(
      smoke=True,
      out=str(out),
      dtypes=["float32"],
      batches=["2"],
      peers=False,
      statistics=False,
    ):
      benchmark.main([benchmark.__name__])
    return [json.loads(line) for line in out.read_text().splitlines()]

  return run


def test_decoding_says_what_was_measured_and_what_was_skipped(smoke):
  x, sampling = smoke(decode)
  assert x.keys() >= ALWAYS | {
    "others",
    "compile",
    "floor_share",
    "weight_bytes",
  }
  middle, least, most = x["seconds"]["jalign"]
  assert least <= middle <= most
  assert all(x["floors"].values()) and len(x["floors"]) == 3
  assert x["skipped"] == ["transformers", "tunix"] and "ratio" not in x
  assert sampling["part"] == "sampling" and sampling["share_alone"] > 0


@pytest.mark.slow  # a benchmark's script: the faster lane has decoding's
def test_diagnostics_are_set_against_a_step_and_a_backward_pass(smoke):
  step, probe = smoke(diagnostics)
  assert set(step["seconds"]) == {"plain", "watched"} and step["ratio"] > 0
  assert set(probe["seconds"]) == {"backward", "products"}


def test_mixture_is_set_against_the_sum_of_its_models(smoke):
  (x,) = smoke(mixture)
  assert x.keys() >= TIMED and "ratio" not in x
  both = x["seconds"]["policy"][0] + x["seconds"]["reference"][0]
  assert x["step_ratio"] == pytest.approx(
    x["seconds"]["jalign"][0] / both, abs=1e-3
  )


def test_products_are_set_against_the_limits(smoke):
  (x,) = smoke(products)
  assert x.keys() >= TIMED and x["batch"] == 2
  assert x["beside_limits"].keys() == x["seconds"].keys()
  assert all(ratio > 0 for ratio in x["beside_limits"].values())


@pytest.mark.slow  # a benchmark's script: the faster lane has decoding's
def test_loading_says_time_and_memory(smoke):
  lora, loads = smoke(load)
  assert lora["state_bytes"]["lora"] < lora["state_bytes"]["all"]
  assert {"all", "lora"} == set(lora["seconds"]) == set(lora["peak"])
  assert loads["bytes"] > 0 and "jalign" in loads["seconds"]


def test_a_step_of_dpo_says_its_loss_and_memory(smoke):
  (x,) = smoke(train_step)
  assert x.keys() >= TIMED and "ratio" not in x
  # The models differ, so the loss isn't that of equal models.
  assert 0 < abs(x["loss"] - math.log(2)) < 0.1
  assert x["peak_rss"] == {"jalign": 7}


def test_the_stream_says_what_it_saves(smoke):
  (x,) = smoke(logprobs)
  assert x.keys() >= TIMED | {"time_ratio", "temporaries_ratio"}
  assert x["seconds"].keys() == {"full", "streamed", "counted"}


def decoding(batch, ratio, **more):
  fields = {"benchmark": "decode", "size": "m", "dtype": "float32"}
  fields |= {"batch": batch, "new_tokens": 10, "weight_bytes": 4_000_000}
  fields["seconds"] = {"jalign": [1.0, 0.9, 1.2], "transformers": [ratio] * 3}
  fields["floors"] = {"read_gb_s": 50.0, "gemm_float32_gflop_s": 400.0}
  return fields | {"ratio": ratio, "others": 0.0} | more


def line(text, title):
  (row,) = [x for x in text.splitlines() if x.startswith(f"| {title} |")]
  return row


def test_the_worst_point_decides():
  fp32 = "decode fp32 / HF generate"
  good = [decoding(1, 1.7), decoding(8, 3.5, others=0.2)]
  assert "| 1.7 (1.7–3.5, 2 points) | met; 1 of 2 on busy cores |" in line(
    report.table(good), fp32
  )
  bad = report.table([*good, decoding(32, 1.69)])
  assert "| 1.69 (1.69–3.5, 3 points) | **not met**;" in line(bad, fp32)
  best = report.table([decoding(1, 3.0)])
  assert line(best, fp32).endswith("| 3 | met, aim reached |")
  assert line(best, "decode bf16 / HF generate").endswith("– | not measured |")


def test_where_less_is_better_the_most_decides():
  row = "mixture step / sum of its models' steps"
  at = lambda x: {"benchmark": "mixture", "batch": x, "step_ratio": x}
  assert "**not met**" in line(report.table([at(1.0), at(1.16)]), row)
  assert "aim reached" in line(report.table([at(0.9), at(1.0)]), row)


def test_a_point_measured_again_replaces_the_first(tmp_path):
  files = [tmp_path / name for name in ("a.jsonl", "b.jsonl")]
  for file, ratio in zip(files, (1.0, 2.0)):
    file.write_text(json.dumps(decoding(8, ratio)) + "\n")
  (record,) = report.read(files)
  assert record["ratio"] == 2.0


def test_the_roofline_places_points_under_its_limits(tmp_path):
  point = decoding(8, 2.0)
  # A million weights, with 2 FLOP each for 8 rows, in a step of 0.1 s.
  assert roofline.placed(point) == {
    "jalign": (4.0, pytest.approx(0.16)),
    "transformers": (4.0, pytest.approx(0.08)),
  }
  roofline.draw([point, decoding(1, 2.0)], str(tmp_path / "plot.png"))
  assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
