"""`jalign train` on several processes measures what a single one measures."""

import matplotlib.figure
import pytest

from jalign import cli
from tests.experiment.conftest import blank
from tests.processes.runs import check_same, command, prepare, train

MEASURED = (
  "--config.reference=precompute",
  "--config.select=eval/loss",
  "--config.eval_every=2",
)
ALL = (
  "--config.packing=32",
  *MEASURED,
  "--config.diagnostics.likelihood=probe",
  "--config.diagnostics.entanglement=probe",
  "--config.diagnostics.pairs=4",
)


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path, monkeypatch):
  """DPO; every tensor is split over the two processes."""
  prepare(tmp_path, sft=False)
  monkeypatch.setattr(matplotlib.figure.Figure, "savefig", blank)
  cli.main(command(tmp_path, "one", *MEASURED))  # on eight devices
  ends = train(tmp_path, "two", *MEASURED, "--config.mesh.tensor=2")
  assert check_same(tmp_path / "one", tmp_path / "two") > 30
  assert "report: " in ends[0].said
  speaks = [x for x in ends[1].said.splitlines() if "Gloo" not in x]
  assert not speaks, "the first process speaks for all"


MESHES = ((1, "2x1x1"), (1, "1x2x1"), (1, "1x1x2"), (2, "2x2x1"), (2, "1x2x2"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """A folder with runs of one process on one device: see VARIANTS."""
  folder = tmp_path_factory.mktemp("alone")
  prepare(folder)
  for name, flags in VARIANTS.items():
    train(folder, name, *flags, processes=1)
  return folder


VARIANTS = {
  "plain": ("--config.diagnostics.samples=2",),
  "all": ALL,
  "lora": ("--config.lora.rank=2", "--config.microbatches=2", *ALL[1:]),
}


@pytest.mark.slow
@pytest.mark.parametrize("devices, mesh", MESHES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_mesh_of_two_processes_measures_the_same(
  alone, devices, mesh, variant
):
  name = f"{variant} {mesh}"
  sizes = zip(("data", "fsdp", "tensor"), mesh.split("x"))
  mesh_flags = [f"--config.mesh.{axis}={size}" for axis, size in sizes]
  train(alone, name, *VARIANTS[variant], *mesh_flags, devices=devices)
  assert check_same(alone / variant, alone / name) > 60


@pytest.mark.slow
def test_runs_of_a_sweep_share_a_stage(tmp_path):
  prepare(tmp_path)
  sweep = "--config.sweep=(('loss.beta', (0.1, 0.5)),)"
  train(tmp_path, "one", sweep, processes=1)
  ends = train(tmp_path, "two", sweep)
  assert "[sft] is that of loss.beta=0.1: taken" in ends[0].said
  check_same(tmp_path / "one", tmp_path / "two")
