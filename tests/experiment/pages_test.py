"""Pages of runs: plots by start, a colour per policy, data shown as text."""

import json
import types

import pytest

from jalign import cli
from jalign.errors import UserError
from jalign.experiment import held_out, tables
from jalign.experiment import run_report as report
from jalign.experiment.commands import training_page as dynamics
from jalign.experiment.config.settings import SamplerSettings, StageSettings
from jalign.feedback import from_reward
from jalign.pages import style
from jalign.pages.traces import Dynamics


def _row(name, against, kl):
  share = {"mean": 0.6, "low": 0.5, "high": 0.7}
  spread = {"mean": kl, "low": kl - 1, "high": kl + 1}
  return {
    "name": name,
    "against": against,
    "samples/kl_k1_nats": spread,
    "samples/win_rate": share,
  }


@pytest.fixture
def outcome(tmp_path):
  """Outcome of three stages from two starts; "far" has samples by step."""
  for name in ("sft", "near", "far"):
    (tmp_path / name).mkdir()
    rows = [{"step": 0}]
    if name == "far":
      rows += [
        {"step": i, "samples/kl_k1_nats": i, "samples/win_rate": 0.5}
        for i in (1, 2)
      ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / name / "metrics.jsonl").write_text(lines)
  return types.SimpleNamespace(
    folder=tmp_path,
    rows=[
      {"name": "start"},
      _row("sft", "start", 1),
      _row("near", "sft", 2),
      _row("far", "sft", 9),
    ],
    contestants=[{"name": "best of 4"}],
    settings=types.SimpleNamespace(
      stages=[types.SimpleNamespace(name=n) for n in ("sft", "near", "far")]
    ),
  )


def test_stages_of_other_starts_have_a_frontier_of_their_own(
  outcome, monkeypatch
):
  drawn = []
  monkeypatch.setattr(
    report,
    "plot_frontier",
    lambda points, path, **given: drawn.append((points, path, given)) or path,
  )
  (section,) = report.frontier(outcome, {"ceiling": 80})
  assert [list(points) for points, *_ in drawn] == [["sft"], ["near", "far"]]
  assert [given["xlabel"] for *_, given in drawn] == [
    "KL to start (nats a response)",
    "KL to sft (nats a response)",
  ]
  assert [list(given["curves"]) for *_, given in drawn] == [[], ["far"]]
  assert len({path for _, path, _ in drawn}) == 2
  # KLs with half their interval; win rates and their intervals in per cent.
  assert drawn[0][0]["sft"] == pytest.approx((1, 1, 60, 50, 70))
  assert drawn[1][2]["curves"]["far"] == ([1, 2], [50, 50])
  # A path is explained if there is one.
  first, second = (figure.caption for figure in section.content)
  assert "open circle" in second and "open circle" not in first
  looks = [given["looks"] for *_, given in drawn]
  assert looks[0] == looks[1] == report.colours(outcome)
  assert looks[0] == style.run_colours(
    ["start", "sft", "near", "far", "best of 4"]
  )


def test_a_loss_is_left_out_only_where_it_is_the_likelihood():
  imitating = {
    "step": 1,
    "train/loss": 2.0,
    "train/nll_nats_per_token": 2.0 + 1e-6,
  }
  other = {"step": 1, "train/loss": 0.3, "train/nll_nats_per_token": 2.0}
  shown = lambda *rows: list(report.present({"run": rows}))
  assert shown(imitating) == ["train/nll_nats_per_token"]
  assert shown(other) == ["train/loss", "train/nll_nats_per_token"]
  assert shown(imitating, other) == ["train/loss", "train/nll_nats_per_token"]
  assert shown({"step": 1, "train/loss": 1.0}, imitating) == [
    "train/loss",
    "train/nll_nats_per_token",
  ]


def test_a_start_is_known_by_what_its_checkpoints_say(tmp_path):
  assert dynamics._start(tmp_path) == ""
  for step, text in (("2", "{damaged"), ("4", '{"start": "abc"}')):
    folder = tmp_path / "checkpoints" / step / "meta"
    folder.mkdir(parents=True)
    (folder / "metadata").write_text(text)
  assert dynamics._start(tmp_path) == "abc"


def test_starts_are_told_where_they_differ_or_are_not_known():
  of = lambda start: Dynamics([], {}, None, start)
  assert dynamics._starts({"a": of("x"), "b": of("x")}) == ""
  assert dynamics._starts({"a": of("")}) == ""
  said = dynamics._starts(
    {"a": of("x"), "b": of("y"), "c": of("x"), "d": of("")}
  )
  assert "start 1 of a, c; 2 of b; 3 of d (not known: nothing" in said


def test_a_page_without_probes_says_so_and_has_a_vector_file(
  place, drawn, capsys
):
  """Names of the data's fields are shown as text, whatever they contain."""
  rows = [json.loads(line) for line in place.data.read_text().splitlines()]
  name = "<b>x</b>|[y](http://z)\n# `w`"
  place.write_data([row | {name: 1} for row in rows])
  run, said = place.train("--config.eval_every=2")
  data = (run / "report.md").read_text().split("## Data")[1].split("## ")[0]
  assert "http" in said and "http" in data
  assert "\\<b\\>x" in data and "\\|\\[y\\](" in data
  assert "<b>" not in data.replace("\\<b\\>", "")
  page = (run / "report.html").read_text()
  assert "&lt;b&gt;x" in page and 'href="http://z"' not in page

  assert len(dynamics._start(run / "align")) == 32  # of a real checkpoint
  cli.main(["report", str(run), "--format=pdf"])
  folder = run / "dynamics" / "plots"
  names = lambda: sorted(path.name for path in folder.iterdir())
  assert names() == ["dynamics.pdf", "dynamics.png"]
  before = (folder / "dynamics.pdf").read_bytes()
  cli.main(["report", str(run), "--format=pdf"])
  assert (folder / "dynamics.pdf").read_bytes() == before
  cli.main(["report", str(run)])
  assert names() == ["dynamics.png"]  # no older file beside a newer page
  table = (run / "dynamics" / "report.md").read_text()
  assert "| ranking accuracy (%) |" in table and "probe |" not in table
  assert "| loss | dpo(beta=" in table and "![](" not in table  # an alt text
  said = place.fails(["report", str(run), "--format=jpg"])
  assert "'jpg' is not one of png, pdf, svg" in said


def test_names_that_nobody_knows_are_told_of():
  """Runs with unknown metrics alone are refused; a page names unknown ones."""
  old = [{"step": 1, "time": 0.0, "loss": 2.0, "eval/kl": 1.0}]
  new = [{"step": 1, "train/loss": 2.0, "train/of_mine": 1.0}]
  with pytest.raises(
    UserError, match="`eval/kl`, `loss`.*with the jalign that"
  ):
    dynamics._check_names({"old": Dynamics(old, {}, None)})
  dynamics._check_names({"new": Dynamics(new, {}, None)})
  said = dynamics._unknown({"new": Dynamics(new, {}, None)})
  assert "`train/of_mine`" in said and "train/loss" not in said
  assert not dynamics._unknown({"new": Dynamics(new[:0], {}, None)})


@pytest.mark.parametrize(
  "select, meant",
  [
    ("samples/winrate", "samples/win_rate"),
    ("eval/win_rate", "samples/win_rate"),
    ("eval/kl", "samples/kl_k1_nats"),
    ("eval/reward_mean", "samples/reward_mean"),
    ("eval/finished", "samples/finished_share"),
    ("win_rate", "samples/win_rate"),
  ],
)
def test_a_metric_that_is_not_measured_gets_a_proposal(select, meant):
  judge = from_reward(lambda prompt, response: 0.0)
  measured = held_out.sample_metrics(judge, SamplerSettings())
  stage = StageSettings(name="align", loss={}, select=select)
  with pytest.raises(UserError, match=f"Did you mean '{meant}'"):
    held_out.check_select(stage, measured)


def test_a_mean_has_a_half_width_and_a_share_its_intervals_ends():
  mean = {"mean": 1.25, "low": 1.0, "high": 1.5}
  assert tables.interval(mean) == "1.25 ± 0.25"
  even = {"mean": 0.6, "low": 0.5, "high": 0.7}
  assert tables.percent(even) == "60.0 % (50.0 to 70.0)"
  cut = {"mean": 0.99, "low": 0.9, "high": 1.0}
  assert tables.percent(cut) == "99.0 % (90.0 to 100.0)"
  share = {"mean": 99.0, "low": 90.0, "high": 100.0}
  row = {"name": "a", "measures/ended, %": share, "measures/letters": mean}
  row |= dict.fromkeys(("samples/distinct_1_share", "samples/distinct_2_share"))
  table = tables.sampled([row])
  assert dict(zip(table.header, table.rows[0])) == {
    "policy": "a",
    "KL": "",
    "tokens": "",
    "ended": "",
    "ended, %": "99.0 % (90.0 to 100.0)",
    "letters": "1.25 ± 0.25",
    "distinct-1": None,
    "distinct-2": None,
  }


def test_the_row_of_an_online_stage_names_its_algorithm():
  row = {"name": "align", "loss": "dpo(beta=0.1)", "step": 3}
  table = tables.results([row, row | {"algorithm": "online_dpo"}])
  assert [line[1] for line in table.rows] == [
    "dpo(beta=0.1)",
    "online_dpo: dpo(beta=0.1)",
  ]


@pytest.mark.parametrize("init_from, shown", [("", []), ("base", ["start"])])
def test_samples_of_a_start_that_was_trained_are_shown(init_from, shown):
  rows = [
    {"name": name, "prompts": ["p", "q"], "samples": [f"{name} p", "x"]}
    for name in ("start", "align")
  ]
  prompt, responses = report._samples(rows, init_from).rows[0]
  assert prompt == "p" and list(responses) == [*shown, "align"]
  assert all(text == f"{name} p" for name, text in responses.items())
