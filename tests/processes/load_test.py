"""A Hugging Face checkpoint is loaded by several processes, each its part."""

import json

import pytest

from tests.models.hf import cases, parity_test
from tests.processes.launch import launch


def _loaded(tmp_path, folder, name, meshes, processes, devices):
  out = tmp_path / name
  launch(
    ["tests.processes.load", str(folder), str(out), *meshes],
    processes=processes,
    devices=devices,
  )
  files = [tmp_path / f"{name}.{i}" for i in range(processes)]
  return [json.loads(file.read_text()) for file in files]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["qwen3", "olmo2"])
def test_each_process_reads_only_what_lies_on_its_devices(tmp_path, case):
  described = json.loads(str(parity_test.GOLDEN[f"{case}/json"]))
  folder = cases.write(
    tmp_path / case, described["config"], described["shapes"]
  )
  ((alone,),) = _loaded(tmp_path, folder, "one", ["1x1x1"], 1, 1)
  assert alone["read"] == alone["held"]
  meshes = ["1x2x1", "1x1x2", "2x1x1"]
  several = _loaded(tmp_path, folder, "two", meshes, 2, 1)
  several += _loaded(tmp_path, folder, "four", ["1x2x2", "2x2x1"], 2, 2)
  for seen in several:
    for each in seen:
      assert each["mark"] == alone["mark"]
      assert each["read"] == each["held"]
  halves = [seen[0]["read"] for seen in several[:2]]
  assert all(0.5 <= half / alone["read"] < 0.6 for half in halves), halves
