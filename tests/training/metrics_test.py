"""Writers' files, read back; and exact means of sums."""

import json
import math
import sys
import time
import types

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

from jalign.errors import UserError
from jalign.training import metrics


def test_combine_is_the_mean_over_all_examples():
  rng = np.random.default_rng(0)
  values = rng.normal(size=37)
  whole = [{"loss": (values.sum(), 37)}]
  cut = [{"loss": (p.sum(), len(p))} for p in np.split(values, [1, 9, 30])]
  assert metrics.combine(cut)["loss"] == pytest.approx(values.mean(), abs=1e-15)
  assert metrics.combine(cut) == pytest.approx(metrics.combine(whole))
  naive = np.mean([float(t) / c for t, c in (p["loss"] for p in cut)])
  assert abs(naive - values.mean()) > 0.01


def test_combine_keeps_small_terms_devices_and_absent_names():
  parts = [
    {"a": (1e16, 1), "b": (jnp.float32(3), jnp.int32(2))},
    {"a": (1.0, 1)},
    {"a": (-1e16, 1), "empty": (0.0, 0)},
  ]
  means = metrics.combine(parts)
  assert means["a"] == 1 / 3 and means["b"] == 1.5
  assert math.isnan(means["empty"])
  assert list(means) == ["a", "b", "empty"]
  assert metrics.combine([]) == {}
  bad = [{"x": (math.inf, 1)}, {"x": (-math.inf, 1)}]
  assert math.isnan(metrics.combine(bad)["x"])
  with pytest.raises(UserError, match=r"'x'.*shape \(2,\)"):
    metrics.combine([{"x": (np.zeros(2), 1)}])


def test_jsonl_round_trip(tmp_path):
  path = tmp_path / "deep" / "metrics.jsonl"
  writer, before = metrics.JsonlWriter(path), time.time()
  writer.write(1, {"loss": jnp.float32(0.5), "n": np.int64(3)})
  writer.write(2, {"loss": math.nan, "reward": math.inf})
  first, second = metrics.read_jsonl(path)  # flushed before it is closed
  writer.close()
  assert (first["step"], first["loss"], first["n"]) == (1, 0.5, 3.0)
  assert before - 1 <= first["time"] <= time.time() + 1
  assert math.isnan(second["loss"]) and math.isnan(second["reward"])

  def refuse(constant):
    raise AssertionError(f"not strict JSON: {constant}")

  for line in path.read_text().splitlines():
    json.loads(line, parse_constant=refuse)
  assert '"loss": null' in path.read_text()


def test_jsonl_refuses_reserved_names_and_arrays(tmp_path):
  writer = metrics.JsonlWriter(tmp_path / "m.jsonl")
  for name in ("step", "time"):
    with pytest.raises(UserError, match=name):
      writer.write(1, {name: 1.0})
  with pytest.raises(UserError, match="'loss'.*scalar"):
    writer.write(1, {"loss": np.zeros(3)})
  writer.close()
  assert (tmp_path / "m.jsonl").read_bytes() == b""


@pytest.mark.parametrize("cut", [1, 7, 20])
def test_a_crash_within_a_line_leaves_a_readable_file(tmp_path, cut):
  path = tmp_path / "metrics.jsonl"
  writer = metrics.JsonlWriter(path)
  for step in (1, 2, 3):
    writer.write(step, {"loss": step})
  writer.close()
  path.write_bytes(path.read_bytes()[:-cut])
  assert [row["step"] for row in metrics.read_jsonl(path)] == [1, 2]
  writer = metrics.JsonlWriter(path)
  writer.write(3, {"loss": 9})
  writer.close()
  assert [row["loss"] for row in metrics.read_jsonl(path)] == [1, 2, 9]


def test_truncate_after_drops_later_steps_and_goes_on(tmp_path):
  path = tmp_path / "metrics.jsonl"
  writer = metrics.JsonlWriter(path)
  for step in (10, 20, 20, 30):
    writer.write(step, {"loss": step})
  writer.close()
  writer = metrics.JsonlWriter(path)
  writer.truncate_after(20)
  writer.write(25, {"loss": 0})
  writer.close()
  assert [r["step"] for r in metrics.read_jsonl(path)] == [10, 20, 20, 25]
  assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_read_jsonl_names_the_bad_line(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1}\n{"step": \n{"step": 3}\n')
  with pytest.raises(UserError, match=r"metrics\.jsonl:2"):
    metrics.read_jsonl(path)
  with pytest.raises(UserError, match="cannot be read"):
    metrics.read_jsonl(tmp_path / "none.jsonl")


def _scalars(folder):
  events = event_accumulator.EventAccumulator(str(folder))
  events.Reload()
  tags = events.Tags()["scalars"]
  return {t: [(e.step, e.value) for e in events.Scalars(t)] for t in tags}


def test_tensorboard_reads_the_events_back(tmp_path):
  writer = metrics.TensorBoardWriter(tmp_path / "tb")
  writer.write(1, {"train/loss": 0.5, "train/kl": jnp.float32(2)})
  writer.write(3, {"train/loss": 0.25})
  found = _scalars(tmp_path / "tb")  # flushed before it is closed
  writer.close()
  assert found == {
    "train/loss": [(1, 0.5), (3, 0.25)],
    "train/kl": [(1, 2.0)],
  }


def test_tensorboard_forgets_what_a_resumed_run_repeats(tmp_path):
  writer = metrics.TensorBoardWriter(tmp_path)
  for step in (1, 2, 3, 4):
    writer.write(step, {"loss": step})
  writer.close()
  time.sleep(1.1)  # event files are read in order of their start, in seconds
  writer = metrics.TensorBoardWriter(tmp_path)
  writer.truncate_after(2)
  writer.write(3, {"loss": 30})
  writer.close()
  assert _scalars(tmp_path)["loss"] == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_write_all_reaches_every_writer(tmp_path):
  paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
  writer = metrics.write_all([metrics.JsonlWriter(p) for p in paths])
  for step in (1, 2):
    writer.write(step, {"loss": jnp.float32(step)})
  writer.truncate_after(1)
  writer.write(2, {"loss": 7})
  writer.close()
  for path in paths:
    assert [row["loss"] for row in metrics.read_jsonl(path)] == [1, 7]
  with pytest.raises(ValueError, match="closed file"):
    writer.write(3, {"loss": 1})
  metrics.write_all([]).write(1, {"loss": 1})


class _Run:
  def __init__(self):
    self.rows, self.axes, self.finished = [], {}, False

  def define_metric(self, name, step_metric=None):
    self.axes[name] = step_metric

  def log(self, row):
    self.rows.append(row)

  def finish(self):
    self.finished = True


def _fake_wandb(monkeypatch, init):
  fake = types.ModuleType("wandb")
  fake.Error, fake.init = type("Error", (Exception,), {}), init
  monkeypatch.setitem(sys.modules, "wandb", fake)
  return fake


def test_wandb_gets_the_step_as_a_value(monkeypatch, tmp_path):
  run, options = _Run(), {}

  def init(**given):
    options.update(given)
    return run

  _fake_wandb(monkeypatch, init)
  writer = metrics.WandbWriter("p", folder=tmp_path, mode="offline")
  writer.write(3, {"loss": jnp.float32(0.5)})
  writer.truncate_after(1)
  writer.write(2, {"loss": 1.0})
  writer.close()
  assert options["project"] == "p" and options["mode"] == "offline"
  assert run.rows == [{"step": 3, "loss": 0.5}, {"step": 2, "loss": 1.0}]
  assert run.axes == {"step": None, "*": "step"} and run.finished


def test_wandb_missing_or_not_configured_is_a_users_error(monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)
  with pytest.raises(UserError, match="not installed"):
    metrics.WandbWriter("p")

  def init(**_):
    raise fake.Error("api_key not configured")

  fake = _fake_wandb(monkeypatch, init)
  with pytest.raises(UserError, match=r"api_key not configured.*wandb login"):
    metrics.WandbWriter("p")
