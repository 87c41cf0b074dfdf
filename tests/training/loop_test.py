"""The loop: windows, probes, stops, and losses that aren't finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign.training import loop, progress
from jalign.training.checkpoint import Checkpoints
from jalign.training.state import TrainState
from jalign.training.timed import SaveClock


class Count:
  """An iterator over batches 0, 1, 2, ..., with a position."""

  def __init__(self, at=0):
    self.at = at

  def __next__(self):
    self.at += 1
    return self.at - 1

  def get_state(self):
    return self.at


def start(step=0):
  return TrainState(jnp.int32(step), {"w": jnp.zeros(3)}, ())


def prepare(state, batch):
  del state
  sources = (f"data.jsonl:{2 * batch + 1}", f"data.jsonl:{2 * batch + 2}")
  return loop.Placed((jnp.float32(batch),), sources, {"fed": float(batch)})


@jax.jit
def _step(state, data):
  # The count differs between steps, so that a mean of means would be wrong.
  sums = {"loss": (data * (data + 1), data + 1), "grad_norm": (data, 1.0)}
  params = {"w": state.params["w"] + 1 + data}
  return TrainState(state.step + 1, params, ()), sums


def update(state, data, ref_params):
  del ref_params
  return _step(state, data)


def run(state=None, **options):
  """Runs the loop; returns (state, rows written)."""
  rows = []
  options = {
    "steps": 7,
    "batches": Count(),
    "prepare": prepare,
    "update": update,
    "write": lambda step, values: rows.append((step, values)),
    "log_every": 3,
  } | options
  state = loop.run(start() if state is None else state, **options)
  return state, rows


def test_a_window_is_the_mean_over_its_examples_and_the_last_may_be_short():
  state, rows = run(learning_rate=lambda step: 10 * step)
  assert int(state.step) == 7
  assert [step for step, _ in rows] == [3, 6, 7]
  want = []
  for window in ((0, 1, 2), (3, 4, 5), (6,)):
    counts = np.add(window, 1)
    want.append(np.dot(window, counts) / counts.sum())
  np.testing.assert_allclose(
    [v["train/loss"] for _, v in rows], want, rtol=1e-6
  )
  assert [v["train/grad_norm"] for _, v in rows] == [1, 4, 6]
  assert [v["fed"] for _, v in rows] == [1, 4, 6]
  assert [v["train/learning_rate"] for _, v in rows] == [20, 50, 60]
  assert all(v["time/step_seconds"] > 0 for _, v in rows)


def _several(state, batch):
  placed = prepare(state, batch)
  return placed._replace(batches=(placed.batches[0], jnp.float32(batch + 100)))


def _uncounted(state, data, ref_params):
  changed, sums = update(state, data, ref_params)
  return changed.replace(step=state.step), sums


def test_a_step_of_several_updates_counts_once():
  """Its metrics are means over all examples of its updates."""
  ended, saved, probed = [], [], []

  def finish(state, values, sums):
    ended.append((int(state.step), values["fed"], len(sums)))
    state = state.replace(step=state.step + 1, carry=sums[-1]["loss"][1])
    return state, True

  state, rows = run(
    prepare=_several,
    update=_uncounted,
    finish=finish,
    save=lambda state, position: saved.append((int(state.step), position)),
    save_every=2,
    probes=(loop.Probe(3, lambda s, x: probed.append((s, int(x.step))) or {}),),
    log_every=2,
  )
  assert int(state.step) == 7 and float(state.carry) == 6 + 100 + 1
  assert ended == [(i, i, 2) for i in range(7)]
  assert saved == [(2, 2), (4, 4), (6, 6), (7, 7)]
  assert probed == [(3, 3), (6, 6), (7, 7)]
  assert float(state.params["w"][0]) == sum(2 + 2 * i + 100 for i in range(7))
  data = np.array([0, 100, 1, 101])
  want = np.dot(data, data + 1) / np.sum(data + 1)
  assert rows[0][1]["train/loss"] == pytest.approx(want)
  assert rows[0][1]["fed"] == 0.5

  def breaks(state, data, ref_params):
    state, sums = _uncounted(state, data, ref_params)
    sums["loss"] = (jnp.where(data == 103, jnp.nan, 1.0), jnp.float32(1))
    return state, sums

  saved.clear()
  with pytest.raises(loop.NonFiniteLossError, match="nan at step 4, on.*:7"):
    run(
      prepare=_several,
      update=breaks,
      finish=finish,
      save=lambda state, position: saved.append(int(state.step)),
      save_every=1,
    )
  assert saved == [1, 2, 3]

  def keeps_nan(state, values, sums):
    return finish(state, values, sums)[0], jnp.asarray(values["fed"] != 3)

  saved.clear()
  with pytest.raises(loop.NonFiniteLossError, match="NaN after step 4, on.*:7"):
    run(
      prepare=_several,
      update=_uncounted,
      finish=keeps_nan,
      save=lambda state, position: saved.append(int(state.step)),
      save_every=1,
    )
  assert saved == [1, 2, 3]


def test_a_resumed_run_goes_on_from_its_step():
  whole, rows = run(log_every=1)
  half, first = run(steps=4, log_every=1)
  resumed, second = run(half, batches=Count(4), log_every=1)
  np.testing.assert_array_equal(whole.params["w"], resumed.params["w"])
  losses = lambda rows: [(step, v["train/loss"]) for step, v in rows]
  assert losses(rows) == losses(first + second)
  again, none = run(resumed)
  assert int(again.step) == 7 and none == []


def test_probes_run_at_their_steps_and_at_the_last():
  seen = []

  def measure(step, state):
    seen.append((step, int(state.step), float(state.params["w"][0])))
    return {"probed": float(step)}

  probes = (loop.Probe(2, measure), loop.Probe(7, lambda s, _: {"rare": s}))
  _, rows = run(probes=probes)
  after = lambda step: step * (step + 1) / 2  # the sum of 1 + batch
  assert seen == [(s, s, after(s)) for s in (2, 4, 6, 7)]
  assert [step for step, v in rows if "probed" in v] == [2, 4, 6, 7]
  assert [step for step, v in rows if "rare" in v] == [7]


def test_a_probe_without_values_writes_nothing():
  _, rows = run(probes=(loop.Probe(1, lambda *_: {}),))
  assert [step for step, _ in rows] == [3, 6, 7]


def test_checkpoints_are_due_at_their_steps_and_at_the_end():
  saved = []
  save = lambda state, position: saved.append((int(state.step), position))
  run(save=save, save_every=3)
  assert saved == [(3, 3), (6, 6), (7, 7)]
  saved.clear()
  run(save=save)
  assert saved == [(7, 7)]


def test_the_clock_asks_for_checkpoints_at_ends_of_lines():
  """It adds saves and changes no line of metrics."""
  now, saved = [0.0], []
  clock = SaveClock(minutes=2, clock=lambda: now[0])

  def slow(state, batch):
    now[0] += 50
    return prepare(state, batch)

  def save(state, position):
    clock.restart()
    saved.append(position)

  lines = lambda rows: [(s, v["train/loss"]) for s, v in rows]
  options = dict(prepare=slow, save=save, log_every=2, steps=13)
  _, rows = run(**options, save_due=clock.due)
  assert saved == [4, 8, 12, 13]  # every 120 s, which is three steps: even ones
  saved.clear()
  assert lines(rows) == lines(run(**options)[1]) and saved == [13]
  saved.clear()
  run(**options, save_due=clock.due, save_every=6)
  assert saved == [4, 6, 10, 12, 13]
  assert not SaveClock(minutes=0, clock=lambda: 1e9).due()


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_no_number_names_step_and_batch(tmp_path, name, bad):
  """The checkpoint before it is whole; no probe or save gets that step."""
  checkpoints, probed = Checkpoints(tmp_path), []

  def breaks(state, data, ref_params):
    state, sums = update(state, data, ref_params)
    if int(data) == 5:  # in the sixth step
      sums[name] = (jnp.float32(bad), jnp.float32(1))
      state = state.replace(params={"w": jnp.full(3, np.nan)})
    return state, sums

  def measure(step, state):
    assert np.isfinite(state.params["w"]).all()
    probed.append(step)
    return {}

  with pytest.raises(loop.NonFiniteLossError) as caught:
    run(
      update=breaks,
      probes=(loop.Probe(3, measure),),
      save=lambda state, at: checkpoints.save(state, data=at, meta={}),
      save_every=2,
      description="dpo",
    )
  message = str(caught.value)
  assert f"the {name.replace('_', ' ')} is {bad} at step 6" in message
  assert "data.jsonl:11, data.jsonl:12" in message
  assert message.startswith("dpo: ") and "learning rate" in message
  checkpoints.close()
  assert probed == [3]

  checkpoints = Checkpoints(tmp_path)
  restored = checkpoints.restore(start())
  checkpoints.close()
  assert int(restored.state.step) == 4 and restored.data == 4
  np.testing.assert_array_equal(restored.state.params["w"], np.full(3, 10.0))


def test_a_failing_step_is_found_before_another_one_is_logged():
  """Results are fetched late, but the error names the step that failed."""

  def breaks(state, data, ref_params):
    state, sums = update(state, data, ref_params)
    if int(data) >= 2:
      sums["loss"] = (jnp.float32(np.nan), jnp.float32(1))
    return state, sums

  rows = []
  with pytest.raises(loop.NonFiniteLossError, match=r"at step 3\b"):
    run(update=breaks, log_every=5, write=lambda step, _: rows.append(step))
  assert rows == []


def test_a_step_is_fetched_when_two_more_are_dispatched(monkeypatch):
  """The host doesn't wait for what it dispatched; it isn't far ahead either."""
  dispatched, fetched, ahead = [], [], []
  fetch = loop.fetch

  def counted(tree):
    fetched.append(None)
    return fetch(tree)

  def counting(state, data, ref_params):
    dispatched.append(None)
    ahead.append(len(dispatched) - len(fetched))
    return update(state, data, ref_params)

  monkeypatch.setattr(loop, "fetch", counted)
  _, rows = run(update=counting, steps=9, log_every=2)
  most = loop.IN_FLIGHT + 1
  assert ahead == [*range(1, most), *[most] * (9 - loop.IN_FLIGHT)]
  assert len(fetched) == 9 and [step for step, _ in rows] == [2, 4, 6, 8, 9]

  # A save, and a measurement before or after a step, wait for all steps.
  saved, due = [], lambda step, state: saved.append(len(fetched)) or {}
  for options in (
    {"save": due, "save_every": 3},
    {"probes": (loop.Probe(3, due),)},
    {"probes": (loop.Probe(3, lambda *_: {}, before=due),)},
  ):
    fetched.clear()
    saved.clear()
    run(update=counting, steps=9, **options)
    before = isinstance(options.get("probes", [0])[0], loop.Probe) and (
      options["probes"][0].before is not None
    )
    assert saved == ([2, 5, 8] if before else [3, 6, 9])


def test_a_request_to_stop_saves_and_says_where():
  saved, asked = [], []

  def should_stop():
    asked.append(None)
    return len(asked) == 5

  # A due probe still runs, as the resumed run wouldn't measure that step.
  probes = (
    loop.Probe(5, lambda step, _: {"due": step}),
    loop.Probe(4, lambda step, _: {"earlier": step}),
  )
  rows = []
  with pytest.raises(loop.Interrupted) as caught:
    run(
      should_stop=should_stop,
      save=lambda state, at: saved.append((int(state.step), at)),
      probes=probes,
      write=lambda step, values: rows.append((step, sorted(values)[0])),
    )
  assert caught.value.step == 5 and "step 5" in str(caught.value)
  assert saved == [(5, 5)]
  assert rows == [(3, "fed"), (4, "earlier"), (5, "fed"), (5, "due")]


def test_a_request_at_the_last_step_comes_too_late():
  asked, saved = [], []

  def should_stop():
    asked.append(None)
    return len(asked) == 7

  state, rows = run(
    should_stop=should_stop,
    save=lambda state, at: saved.append((int(state.step), at)),
    probes=(loop.Probe(100, lambda *_: {"probed": 1.0}),),
  )
  assert int(state.step) == 7 and saved == [(7, 7)]
  assert rows[-1] == (7, {"probed": 1.0})


def test_a_log_without_a_terminal_tells_step_and_loss(capsys, monkeypatch):
  run(description="dpo")
  assert capsys.readouterr().err == ""  # because it took less than a minute
  monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
  _, rows = run(description="dpo")
  lines = capsys.readouterr().err.splitlines()
  assert [line.split(",")[0] for line in lines] == [
    f"[dpo] step {step} of 7" for step in range(1, 8)
  ]
  losses = {
    step: values["train/loss"]
    for step, values in rows
    if "train/loss" in values
  }
  assert f", loss {losses[7]:.4f}" in lines[-1] and "loss" not in lines[0]
  run()
  assert capsys.readouterr().err == ""
