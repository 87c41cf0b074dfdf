"""`jalign train` with a low-rank change, or a part of the parameters."""

import json

import jax
import numpy as np
import pytest

from jalign import cli
from jalign.experiment.commands import export
from jalign.experiment.disk import folder as folders
from jalign.experiment.params import trained_params
from jalign.models import hf
from jalign.sharding import make_mesh
from jalign.training import manifest

LORA = ("--config.lora.rank=2", "--config.optimizer.learning_rate=0.01")


def _params(run, stage="align"):
  config = folders.model_of(run)
  return jax.device_get(trained_params(config, make_mesh(), run / stage))


def _saved(run):
  """Names of the arrays in the last stage's last checkpoint."""
  steps = (run / "align" / "checkpoints").iterdir()
  last = max((p for p in steps if p.name.isdigit()), key=lambda p: int(p.name))
  meta = json.loads((last / "meta" / "metadata").read_text())
  return set(meta["shapes"]["params"])


def test_a_change_of_the_stage_before(place):
  run, said = place.train(*LORA)
  assert "[align] trains LoRA of rank 2 on wq, wk, wv, wo" in said
  assert "[sft] trains" not in said
  before, after = _params(run, "sft"), _params(run)
  assert not np.array_equal(before["blocks"]["wq"], after["blocks"]["wq"])
  np.testing.assert_array_equal(before["embed"], after["embed"])
  names = _saved(run)
  assert "['blocks']['wq']['a']" in names
  command = [
    "convert",
    f"--model={run}",
    f"--to={place.folder / 'none'}",
    "--adapter",
  ]
  assert "the stage sft left" in place.fails(command)
  assert not any("embed" in name for name in names)
  cli.main(["sample", f"--model={run}", "--prompt=q:", "--max_new_tokens=2"])
  cli.main(["evaluate", f"--model={run}"])


@pytest.mark.slow
def test_a_run_that_starts_from_a_change_takes_the_whole_policy(place):
  run, _ = place.train(*LORA)
  again, _ = place.train(
    f"--config.init_from={run}",
    "--config.sft.lora.rank=2",
    *LORA,
    workdir="again",
  )
  after = _params(run)
  np.testing.assert_array_equal(_params(again)["embed"], after["embed"])


@pytest.mark.slow  # a stage that trains all of its parameters is resumed, too
def test_resumed_equals_uninterrupted(place):
  run, _ = place.train(*LORA)
  want = _params(run)
  other, _ = place.train(*LORA, "--config.steps=4", workdir="other")
  for path in (other / "align" / "checkpoints").iterdir():
    if path.name == "4":  # as if the run had been killed after step 2
      for file in sorted(path.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
      path.rmdir()
  (other / "align" / "results.json").unlink()
  place.train(*LORA, "--config.steps=4", workdir="other")
  jax.tree.map(np.testing.assert_array_equal, _params(other), want)


def test_only_some_paths(place, plain):
  place.align_alone()
  start = f"--config.init_from={plain / 'run'}"
  run, said = place.train(start, "--config.trainable=('blocks/*',)")
  assert "trains the parameters blocks/*" in said
  before, after = _params(plain / "run"), _params(run)
  np.testing.assert_array_equal(before["embed"], after["embed"])
  assert not np.array_equal(before["blocks"]["up"], after["blocks"]["up"])
  assert "['embed']" not in _saved(run)
  command = [
    "convert",
    f"--model={run}",
    f"--to={place.folder / 'none'}",
    "--adapter",
  ]
  assert "there is no adapter" in place.fails(command)


def test_bad_settings(place):
  bad = place.command("--config.lora.rank=2", "--config.lora.targets=('x',)")
  said = place.fails(bad)
  assert "config.lora.targets" in said and "blocks/wq" in said
  said = place.fails(place.command("--config.trainable=('x',)"))
  assert "config.trainable" in said
  said = place.fails(place.command(*LORA, "--config.trainable=('*',)"))
  assert "low-rank" in said


def test_online(place, plain):
  place.align_alone()
  judge = place.folder / "judge.py"
  judge.write_text("def reward(prompt, response):\n  return len(response)\n")
  text = place.config.read_text().replace(
    "  c.loss.beta = 0.1\n", "  c.loss = ConfigDict(dict(tau=0.1))\n"
  )
  place.config.write_text("from ml_collections import ConfigDict\n" + text)
  run, _ = place.train(
    *LORA,
    f"--config.init_from={plain / 'run'}",
    "--config.algorithm=ipo_md",
    f"--config.annotator.function={judge}:reward",
    "--config.max_new_tokens=4",
  )
  before, after = _params(plain / "run"), _params(run)
  assert not np.array_equal(before["blocks"]["wq"], after["blocks"]["wq"])
  np.testing.assert_array_equal(before["embed"], after["embed"])


def test_exports_are_alike(place, plain):
  """The run's export equals its start merged with its adapter."""
  place.align_alone()
  start = place.folder / "start"
  cli.main(["convert", f"--model={plain / 'run'}", f"--to={start}"])
  run, _ = place.train(*LORA, f"--config.init_from={start}")
  at = {name: place.folder / name for name in ("whole", "adapter", "merged")}
  cli.main(["convert", f"--model={run}", f"--to={at['whole']}"])
  cli.main(["convert", f"--model={run}", f"--to={at['adapter']}", "--adapter"])
  command = ["merge", f"--model={start}", f"--adapter={at['adapter']}"]
  cli.main([*command, f"--to={at['merged']}"])
  (config, whole), (same, merged) = (
    hf.load(at[name]) for name in ("whole", "merged")
  )
  assert config == same
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole, merged
  )
  assert "already exists" in place.fails([*command, f"--to={at['merged']}"])
  # The run holds only the change, so its start has to be the same.
  convert = ["convert", f"--model={run}", f"--to={place.folder / 'x'}"]
  weights = start / "model.safetensors"
  content = weights.read_bytes()
  weights.write_bytes(content[:-4] + b"\0\0\0\0")
  said = place.fails(convert)
  assert str(run / "align") in said and "has changed" in said
  weights.write_bytes(content)
  closed = place.folder / "closed"
  closed.write_text("a file")
  said = place.fails([*command, f"--to={closed / 'x'}"])
  assert "can't be written (Not a directory" in said
  start.rename(place.folder / "elsewhere")
  assert str(start) in place.fails(convert)


@pytest.mark.parametrize(
  "part",
  [
    pytest.param(LORA, marks=pytest.mark.slow, id="lora"),
    pytest.param(("--config.trainable=('blocks/*',)",), id="paths"),
  ],
)
def test_a_selected_part_is_of_use_to_every_command(place, capsys, part):
  place.align_alone()
  run, _ = place.train(
    *part, "--config.select=eval/loss", "--config.eval_every=2"
  )
  best = max((run / "align" / "best").iterdir(), key=lambda p: int(p.name))
  cli.main(["sample", f"--model={run}", "--prompt=q:", "--max_new_tokens=2"])
  cli.main(["evaluate", f"--model={run}"])
  cli.main(["convert", f"--model={run}", f"--to={place.folder / 'x'}"])
  scores = f"--out={place.folder / 'x.parquet'}"
  cli.main(["score", f"--model={run}", f"--data={place.data}", scores])
  again, _ = place.train(f"--config.init_from={run}", workdir="again")
  assert folders.start_of(again / "align")
  # Best states of earlier versions had no `start`; other states always had it.
  meta = best / "meta" / "metadata"
  metadata = json.loads(meta.read_text())
  want = _params(run)
  meta.write_text(
    json.dumps({k: v for k, v in metadata.items() if k != "start"})
  )
  manifest.write(best)
  jax.tree.map(np.testing.assert_array_equal, _params(run), want)
  # A different start is still refused.
  meta.write_text(json.dumps(metadata | {"start": "another"}))
  manifest.write(best)
  said = place.fails(["convert", f"--model={run}", f"--to={run}-x"])
  assert "the stage's best/ is of another run" in said
  del metadata["made_of"]
  meta.write_text(json.dumps(metadata | {"start": "another"}))
  manifest.write(best)
  said = place.fails(["convert", f"--model={run}", f"--to={run}-x"])
  assert "what the stage started from has changed" in said


def test_an_adapter_names_its_base_so_that_every_folder_finds_it(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "base").mkdir()
  assert export._anywhere("base") == str((tmp_path / "base").resolve())
  assert export._anywhere("org/name") == "org/name"
  assert export._anywhere("") == ""
