"""The benchmark of cache layouts runs, and its variants agree."""

import json

from absl import flags
from absl.testing import flagsaver

from experiments.bench import cache


def test_a_smoke_run_writes_a_line_for_each_variant(tmp_path, capsys):
  out = tmp_path / "cache.jsonl"
  flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(smoke=True, out=str(out)):
    cache.main(["cache"])
  lines = [json.loads(line) for line in out.read_text().splitlines()]
  assert capsys.readouterr().out == out.read_text()
  points = {
    (x["layout"], x["write"], x["dtype"], x["cache_dtype"]) for x in lines
  }
  assert len(points) == len(lines) == 4 * len(cache.TYPES)
  for x in lines:
    assert x["range"][0] <= x["us_per_layer"] <= x["range"][1]
    assert x["versions"]["jax"] and x["device"] and "others" in x
