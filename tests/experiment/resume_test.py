"""A run continues only with its own config, states and metrics."""

import json
import shutil

import pytest

from jalign import cli
from jalign.errors import UserError
from jalign.experiment import identity, resume
from jalign.experiment.config.parse import defaults
from jalign.experiment.config.settings import StageSettings
from jalign.experiment.disk import folder
from jalign.training import manifest, metrics
from jalign.training.checkpoint import versions
from tests.experiment.identity_test import ANYWAY, OF

# ----------------------------------------------------------------- the config


def _config(**changes):
  return defaults() | {"data": {"path": "d"}, "loss": {"name": "dpo"}} | changes


def test_a_key_that_is_new_with_its_default_is_no_difference(tmp_path):
  old = _config()
  for key in ("select", "normalise_pairs", "resume"):
    del old[key]
  del old["optimizer"]["b1"], old["mesh"]
  folder.claim(tmp_path, old)
  folder.check(tmp_path, _config())
  with pytest.raises(
    UserError,
    match=r"select_mode \('min' in the folder, 'max' now\), steps .*, 3 now",
  ):
    folder.check(tmp_path, _config(steps=3, select_mode="max"))
  with pytest.raises(UserError, match="these differ: select .[^)]*.[.]"):
    folder.check(tmp_path, _config(select="eval/loss"))


def test_a_key_that_is_gone_is_named(tmp_path):
  old = _config(forgotten=1)
  del old["select"]
  folder.claim(tmp_path, old)
  with pytest.raises(
    UserError, match="forgotten .1 in the folder, not set now"
  ):
    folder.check(tmp_path, _config())


# ------------------------------------------------------------------- of a stage


def _meta(start="s", seed=0, made_of=OF, **changes):
  stage = StageSettings(name="align", loss={"name": "dpo"}, **changes)
  return json.loads(json.dumps(resume.meta_of(stage, start, seed, made_of)))


def test_states_of_another_making(tmp_path, capsys):
  same = lambda there: resume.differing(there, _meta())
  assert same(_meta()) == []
  assert same({"start": "s"}) == [] == same({})  # states of older versions
  older = _meta()
  del older["stage"]["select"], older["stage"]["optimizer"]["b1"]
  assert same(older) == [] == resume.differing(older, older)
  assert same(_meta(steps=9)) == ["settings: config.align.steps"]
  assert same(_meta(trainable=("blocks/*",))) == [
    "settings: config.align.trainable"
  ]
  older["stage"]["gone"] = 1
  assert same(older) == ["settings: config.align.gone"]
  assert same(_meta(seed=1)) == ["seed"]
  assert same(_meta(made_of=OF | {"data.held_out": "x"})) == ["data.held_out"]
  with pytest.raises(UserError, match="made from another start"):
    resume.check_state(_meta("other"), _meta(), tmp_path)
  with pytest.raises(UserError, match=r"other settings: config.align.steps"):
    resume.check_state(_meta(steps=9), _meta(), tmp_path)
  resume.check_state(_meta() | {"versions": versions()}, _meta(), tmp_path)
  assert not capsys.readouterr().out
  resume.check_state(_meta() | {"versions": {"jax": "0"}}, _meta(), tmp_path)
  assert "jax was 0 and is 0." in capsys.readouterr().out


def test_metrics_of_another_run(tmp_path):
  stage = tmp_path / "align"
  writer = metrics.JsonlWriter(stage / "metrics.jsonl")
  for step in (1, 2):
    writer.write(step, {"loss": 1.0})
  meta = resume.with_metrics({}, stage)
  writer.write(3, {"loss": 1.0})  # written after the state was saved
  writer.close()
  check = lambda select="", anyway=False, there=meta: resume.check_metrics(
    there, 2, stage, select, anyway
  )
  check()
  text = (stage / "metrics.jsonl").read_text()
  for other in (text.replace("1.0", "1.5", 1), text.partition("\n")[2], ""):
    (stage / "metrics.jsonl").write_text(other)
    with pytest.raises(UserError, match="isn't what this stage wrote") as e:
      check()
    assert ANYWAY in str(e.value)
    with pytest.raises(UserError, match="chooses the best state"):
      check("eval/loss", anyway=True)
    check(anyway=True)
    check(there={})  # a folder of an older version
  said = json.loads((tmp_path / identity.NAME).read_text())["went_on"]
  assert [x["changed"] for x in said] == [["align/metrics.jsonl"]] * 3


def _doctored(checkpoint, change):
  """Changes a checkpoint's metadata, as if another run had saved it."""
  meta = checkpoint / "meta" / "metadata"
  value = json.loads(meta.read_text())
  change(value)
  meta.write_text(json.dumps(value))
  manifest.write(checkpoint)


def test_a_folder_with_what_is_not_its_own(place, capsys):
  place.align_alone()
  report = place.folder / "more.py"
  report.write_text("def sections(outcome):\n  return []\n")
  flags = [
    "--config.select=eval/loss",
    "--config.judge=False",
    "--config.steps=2",
    f"--config.report={report}:sections",
  ]
  run, _ = place.train(*flags, workdir="run[1]")  # which is no pattern
  assert "resume" not in json.loads((run / "config.json").read_text())
  stage = run / "align"
  whole = shutil.copytree(run, place.folder / "whole")
  again = place.command(*flags, workdir="run[1]")
  cli.main(["evaluate", f"--model={run}"])
  assert "changed" not in capsys.readouterr().out

  def put_back():
    shutil.rmtree(run)
    shutil.copytree(whole, run)

  def of_another(value):
    value["made_of"]["data.train"] = "x"

  best = max((stage / "best").iterdir(), key=lambda p: int(p.name))
  _doctored(best, of_another)
  said = place.fails(again)
  assert "the stage's best/ was made of other data.train" in said
  said = place.fails(["convert", f"--model={run}", f"--to={run}-x"])
  assert "best/ is of another run" in said
  put_back()

  _doctored(
    stage / "checkpoints" / "2",
    lambda value: value["stage"]["optimizer"].update(learning_rate=9.0),
  )
  said = place.fails(again)
  assert "config.optimizer.learning_rate" in said
  said = place.fails(["convert", f"--model={run}", f"--to={run}-x"])
  assert "checkpoints/ was made of other settings: config.align.opt" in said
  put_back()

  file = stage / "metrics.jsonl"
  file.write_text(file.read_text().replace('"eval/loss": 0', '"eval/loss": 1'))
  assert f"{file}: the file isn't what this stage wrote" in place.fails(again)
  put_back()

  place.data.write_text(place.data.read_text().replace(" b", " c"))
  assert "align from data.held_out, data.train" in place.fails(again)
  report.unlink()  # only the report needs it
  cli.main(["evaluate", f"--model={run}"])
  said = capsys.readouterr().out
  assert "changed since the run began: data.train, data.held_out" in said


@pytest.mark.slow
def test_agreed_to_it_goes_on(place):
  report = place.folder / "more.py"
  report.write_text("def sections(outcome):\n  return []\n")
  flags = [f"--config.report={report}:sections"]
  run, _ = place.train(*flags)
  report.write_text("def sections(outcome):\n  return ()\n")
  assert "report changed since it began" in place.fails(place.command(*flags))
  _, said = place.train(*flags, ANYWAY)
  assert "[run] goes on although report changed" in said
  assert "changed since it began | report" in (run / "report.md").read_text()
  cli.main(place.command(*flags))  # nothing more is asked
