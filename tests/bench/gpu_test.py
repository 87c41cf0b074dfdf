"""The parts of the GPU's benchmark run, here on the CPU with tiny sizes."""

import json

import pytest
from absl.testing import flagsaver

from experiments.bench import gpu


def test_every_part_names_a_function_and_its_arguments():
  assert len(set(gpu.PARTS)) == len(gpu.PARTS)
  for part in gpu.PARTS:
    assert part.split(":")[0] in gpu.FUNCTIONS, part


@pytest.mark.slow
def test_a_second_smoke_run_skips_what_is_there(tmp_path, capfd):
  out = tmp_path / "gpu.jsonl"
  gpu.flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(smoke=True, out=str(out)):
    gpu.main(["gpu"])
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {line["benchmark"] for line in lines} == {"gpu"}
    assert not [line for line in lines if line.get("failed")], lines
    gpu.main(["gpu"])
  again = [json.loads(line) for line in out.read_text().splitlines()]
  # Parts that need PyTorch are tried again as long as it is missing.
  assert all("skipped" in line for line in again[len(lines) :])
