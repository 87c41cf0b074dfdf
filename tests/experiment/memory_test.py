"""Settings that save memory leave what a run computes as it is."""

import json
import shutil
import types

import jax
import numpy as np
import pytest

from jalign.errors import UserError
from jalign.experiment.disk import folder as folders
from jalign.experiment.params import trained_params
from jalign.sharding import make_mesh
from jalign.training import offload

MESH = "--config.mesh.fsdp=2"


def _params(run):
  config = folders.model_of(run)
  return jax.device_get(trained_params(config, make_mesh(), run / "align"))


def _same(a, b):
  jax.tree.map(np.testing.assert_array_equal, _params(a), _params(b))


def test_what_waits_in_the_host_s_memory_trains_the_same(place, monkeypatch):
  """Values, checkpoints and the rest of an interrupted run, to the bit."""
  place.align_alone()
  kept, _ = place.train(MESH, workdir="kept")
  moved = []
  plain = offload.to_host
  monkeypatch.setattr(
    offload, "to_host", lambda tree: moved.append(tree) or plain(tree)
  )
  flags = (MESH, "--config.offload=optimizer,start")
  away, _ = place.train(*flags, workdir="away")
  assert moved
  _same(kept, away)
  results = lambda run: json.loads((run / "align/results.json").read_text())
  assert results(kept)["evaluation"] == results(away)["evaluation"]
  # What the last two steps made is gone: the run makes it again.
  shutil.rmtree(away / "align/checkpoints/4")
  _, said = place.train(*flags, workdir="away")
  assert "[align] resumes at step 2 of 4" in said
  _same(kept, away)


@pytest.mark.slow
def test_low_moments_and_a_precomputed_reference_go_with_them(place):
  flags = (MESH, "--config.optimizer.moments=bfloat16")
  flags = (*flags, "--config.reference=precompute")
  kept, _ = place.train(*flags, workdir="kept")
  away, _ = place.train(*flags, "--config.offload=optimizer,start")
  _same(kept, away)


@pytest.mark.parametrize(
  "flags, said",
  [
    (
      ["--config.offload=optimiser"],
      "config.sft.offload: 'optimiser' is not one of optimizer, start. Did you"
      " mean 'optimizer'?",
    ),
    (
      ["--config.offload=start", "--config.lora.rank=2"],
      "again and again where the stage has lora.rank",
    ),
    (["--config.optimizer.moments=bf16"], "optimizer.moments: 'bf16' is not"),
  ],
)
def test_what_can_t_be_saved_says_why(place, flags, said):
  assert said in place.fails(place.command(*flags))


class _Far:
  """A device that is only planned for: its compiler lists no memories."""

  device_kind = "NVIDIA H200"

  def addressable_memories(self):
    return []


def test_a_plan_for_gpus_that_are_not_there_says_that_it_can_t_know():
  mesh = types.SimpleNamespace(devices=np.array([_Far()]))
  with pytest.raises(UserError, match="NVIDIA H200 devices that aren't there"):
    offload.check(mesh, "config.align.offload")


def test_devices_without_such_memory_are_named(place, monkeypatch):
  monkeypatch.setattr(offload, "HOST", "no_such_memory")
  said = place.fails(place.command("--config.offload=optimizer"))
  assert "config.sft.offload: cpu has no memory 'no_such_memory'" in said
  assert "it has device, pinned_host" in said
