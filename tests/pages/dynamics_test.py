"""The page of dynamics names its panels' contents, and keeps runs apart."""

import numpy as np
import pytest

from jalign.pages import dynamics, panels, style
from jalign.pages.traces import Dynamics


@pytest.fixture
def drawn(monkeypatch):
  """plot_dynamics, changed to return {title: axes} and the figure."""
  monkeypatch.setattr(dynamics, "save_figure", lambda figure, _: figure)

  def draw(runs):
    figure = dynamics.plot_dynamics(runs, "x.png")
    shown = [axes for axes in figure.axes if axes.get_visible()]
    return {axes.get_title(loc="left"): axes for axes in shown}, figure

  return draw


def _run(*names, start="a", scale=1.0):
  rows = [
    {"step": step, **dict.fromkeys(names, scale * step)} for step in (0, 2, 4)
  ]
  return Dynamics(rows, {}, None, start)


def _colours(axes):
  grey = {"#888888", "#444444"}
  return {line.get_color() for line in axes.lines} - grey


SIDES = ("chosen_log_ratio_nats", "rejected_log_ratio_nats")
TRAINED = [f"train/{name}" for name in SIDES]
MEASURED = [f"eval/{name}" for name in SIDES]


def test_what_was_measured_in_training_is_not_called_held_out(drawn):
  held_out = _run(*TRAINED, *MEASURED)
  training = _run(*TRAINED, scale=3.0)
  charts, _ = drawn({"a": held_out, "b": training})
  assert list(charts) == [
    "Log-probs of held-out pairs",
    "Log-probs of training batches",
  ]
  blue, red = (look[0] for look in style.run_colours(["a", "b"]).values())
  assert _colours(charts["Log-probs of held-out pairs"]) == {blue}
  assert _colours(charts["Log-probs of training batches"]) == {red}
  assert list(drawn({"b": training})[0]) == ["Log-probs of training batches"]
  assert list(drawn({"a": held_out})[0]) == ["Log-probs of held-out pairs"]


def test_a_panel_names_the_runs_that_it_has_nothing_of(drawn):
  probed = _run("entanglement/all/cosine", "policy/top_k_mass")
  stepped = _run("train/last_layer_cosine")
  charts, _ = drawn({"a": probed, "b": stepped})
  assert charts["Top-k mass"].get_xlabel() == "step\nnot measured: b"
  cosines = charts["Entanglement: cosine, threshold dotted"]
  assert cosines.get_xlabel() == "step"
  charts, _ = drawn({"b": stepped})
  assert list(charts) == ["Entanglement, last layer; threshold dotted"]


def test_the_legend_of_a_few_runs_has_their_losses(drawn):
  run = _run(*TRAINED)._replace(recipe={"loss": "dpo(beta=0.1)"})
  _, figure = drawn({"a": run, "b": run})
  said = lambda figure: [t.get_text() for t in figure.legends[0].get_texts()]
  assert said(figure) == ["a: dpo(beta=0.1)", "b: dpo(beta=0.1)"]
  names = [f"run {i}" for i in range(7)]
  assert said(drawn(dict.fromkeys(names, run))[1]) == names


def test_runs_from_other_starts_have_axes_of_their_own(drawn):
  names = "samples/kl_k1_nats", "samples/win_rate"
  runs = {
    "a": _run(*names),
    "b": _run(*names, start="other"),
    "c": _run(*names),
  }
  charts, _ = drawn(runs)
  looks = style.run_colours(list(runs))
  assert {title: _colours(axes) for title, axes in charts.items()} == {
    "Gain and distance, start 1 of 2": {looks["a"][0], looks["c"][0]},
    "Gain and distance, start 2 of 2": {looks["b"][0]},
  }
  assert list(drawn({"a": runs["a"], "c": runs["c"]})[0]) == [
    "Gain and distance"
  ]
  unknown = {name: _run(*names, start="") for name in "ab"}
  assert len(drawn(unknown)[0]) == 2


def test_a_distance_below_zero_is_drawn_where_it_is(drawn):
  charts, _ = drawn(
    {"a": _run("samples/kl_k1_nats", "samples/win_rate", scale=-0.1)}
  )
  axes = charts["Gain and distance"]
  path, last = axes.lines
  np.testing.assert_allclose(path.get_xdata(), [0, -0.2, -0.4])
  np.testing.assert_allclose(last.get_xdata(), [-0.4])
  np.testing.assert_allclose(path.get_ydata(), [0, -20, -40])  # per cent
  assert axes.get_ylabel() == "win rate over the start (%)"
  assert "nats" in axes.get_xlabel() and "sqrt" not in axes.get_xlabel()


def test_rewards_are_shown_and_are_the_gain_where_there_are_some(drawn):
  names = [f"rollouts/reward_{x}" for x in ("mean", "std", "std_within_prompt")]
  held_out = (
    "samples/reward_mean",
    "samples/reward_std",
    "samples/kl_k1_nats",
    "samples/win_rate",
  )
  charts, _ = drawn({"a": _run(*names, *held_out)})
  assert list(charts) == [
    "Reward of training samples",
    "Spread of that reward",
    "Reward of held-out samples",
    "Gain and distance",
  ]
  assert charts["Gain and distance"].get_ylabel() == "mean reward"
  (mean,) = charts["Reward of training samples"].lines
  np.testing.assert_allclose(mean.get_ydata(), [0, 2, 4])
  # Gains in different units don't share an axis.
  wins = _run("samples/kl_k1_nats", "samples/win_rate")
  charts, _ = drawn({"a": _run(*held_out), "b": wins})
  gains = panels.gains({"a": _run(*held_out), "b": wins})
  assert len(gains) == 2


def test_preferences_are_shown_without_a_reward(drawn):
  names = (
    "preference_certainty",
    "identical_pairs_share",
    "win_rate_over_mixture",
  )
  names = [f"rollouts/{name}" for name in names]
  charts, _ = drawn({"a": _run(*names, scale=0.1)})
  (axes,) = charts.values()
  assert list(charts) == ["Preferences between training samples"]
  for line in axes.lines:
    np.testing.assert_allclose(line.get_ydata(), [0, 20, 40])
  assert {line.get_linestyle() for line in axes.lines} == {"-", "--", ":"}


def test_chosen_and_rejected_have_the_runs_colour(drawn):
  charts, _ = drawn({"a": _run(*MEASURED)})
  axes = charts["Log-probs of held-out pairs"]
  assert _colours(axes) == {style.look(0)[0]}
  assert {"-", "--"} <= {line.get_linestyle() for line in axes.lines}


def test_a_legend_of_many_long_names_is_whole(drawn):
  runs = {
    f"a rather long name of run {i} " * 2: _run("eval/x") for i in range(9)
  }
  runs = {
    name: _run("eval/chosen_log_ratio_nats", scale=i)
    for i, name in enumerate(runs, 1)
  }
  _, figure = drawn(runs)
  (legend,) = figure.legends
  figure.draw_without_rendering()
  box, page = legend.get_window_extent(), figure.bbox
  assert page.x0 <= box.x0 < box.x1 <= page.x1
  assert page.y0 <= box.y0 < box.y1 <= page.y1
  assert len(legend.get_texts()) == 9
  assert "".join(legend.get_texts()[0].get_text().split()) == (
    "".join(next(iter(runs)).split())
  )
  (axes,) = (axes for axes in figure.axes if axes.get_visible())
  assert not axes.get_window_extent().overlaps(box)
  assert axes.get_window_extent().height > 100


def test_a_band_is_a_standard_deviation_each_way(drawn):
  rows = [
    {"step": s, "rollouts/reward_mean": 5.0 + s, "rollouts/reward_std": 2.0}
    for s in (0, 1)
  ]
  charts, _ = drawn({"a": Dynamics(rows, {}, None, "a")})
  (band,) = charts["Reward of training samples"].collections
  heights = band.get_paths()[0].vertices[:, 1]
  assert heights.min() == 3 and heights.max() == 8


def test_accuracies_are_per_cent_and_a_turn_is_a_fall_that_ends(drawn):
  values = [0.9, 0.5, 0.7, 0.8, 0.9]
  rows = [
    {"step": s, "policy/top_k_mass": v, "likelihood/reward_accuracy": v}
    for s, v in enumerate(values)
  ]
  charts, _ = drawn({"a": Dynamics(rows, {}, None, "a")})
  (line,) = charts["Accuracies on held-out pairs"].lines
  np.testing.assert_allclose(line.get_ydata(), 100 * np.array(values))
  _, turn = charts["Top-k mass"].lines
  np.testing.assert_allclose(turn.get_xydata(), [[1, 0.5]])


def test_calibration_is_of_the_chosen_over_the_rejected(drawn):
  """Nine of ten pairs are ranked as labelled, by a margin of 2."""
  gained = np.where(np.arange(10) < 9, 2.0, -2.0)
  pairs = {
    "chosen_logps_nats": gained,
    "rejected_logps_nats": np.zeros(10),
    "ref_chosen_logps_nats": np.zeros(10),
    "ref_rejected_logps_nats": np.zeros(10),
  }
  charts, _ = drawn({"a": Dynamics([], pairs, 1.0, "a")})
  line, _ = charts["Calibration of implicit rewards"].lines
  np.testing.assert_allclose(line.get_xdata(), 100 / (1 + np.exp(-2)))
  assert np.mean(line.get_ydata()) == 90
