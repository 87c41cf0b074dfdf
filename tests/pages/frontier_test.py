"""The frontier shows the given points, with labels that can be read."""

import itertools

import numpy as np
import pytest

from jalign import pages
from jalign.errors import UserError
from jalign.pages import frontier

LABELS = {"xlabel": "KL (nats)", "ylabel": "win rate (%)"}


@pytest.fixture
def drawn(monkeypatch):
  """plot_frontier, changed to return the figure."""
  monkeypatch.setattr(frontier, "save_figure", lambda figure, _: figure)
  return lambda *args, **kw: pages.plot_frontier(*args, "x.png", **LABELS, **kw)


def _boxes(axes, names):
  texts = [t for t in axes.texts if t.get_text().replace("\n", " ") in names]
  assert sorted(t.get_text().replace("\n", " ") for t in texts) == sorted(names)
  return {t.get_text(): t.get_window_extent() for t in texts}


def test_crowded_labels_do_not_overlap_and_stay_inside(drawn):
  rng = np.random.default_rng(0)
  points = {
    f"policy {i}": pages.FrontierPoint(10 + x, 0.5, 60 + y, 58 + y, 62 + y)
    for i, (x, y) in enumerate(rng.normal(size=(8, 2)) * 1.5)
  }
  axes = drawn(points).axes[0]
  boxes = _boxes(axes, list(points))
  for a, b in itertools.combinations(boxes.values(), 2):
    assert not a.overlaps(b)
  frame = axes.get_window_extent()
  for name, box in boxes.items():
    assert frame.contains(*box.min) and frame.contains(*box.max)
    marker = axes.transData.transform(points[name][0:3:2])
    assert not box.contains(*marker)


def test_points_curves_and_references_have_their_places(drawn):
  points = {"SFT": (0, None, 30, 28, 32), "DPO": (9, 0.5, 50, 47, 53)}
  curves = {"DPO": ([0, 4, 9], [30, 45, 50]), "best-of-n": ([0, 2], [30, 60])}
  axes = drawn(points, curves=curves, references={"ceiling": 80}).axes[0]
  colours = {
    (line.get_color(), tuple(map(float, line.get_ydata())))
    for line in axes.lines
  }
  looks = pages.run_colours(["SFT", "DPO", "best-of-n"])
  dpo = looks["DPO"][0]
  assert {(dpo, (30, 45, 50)), (dpo, (47, 53)), (dpo, (50,))} <= colours
  assert (looks["best-of-n"][0], (30, 60)) in colours
  assert ("#777777", (80, 80)) in colours
  _boxes(axes, ["SFT", "DPO", "best-of-n", "ceiling"])


def test_a_path_that_ends_elsewhere_is_joined_to_its_point(drawn):
  points = {"DPO": (9, 0.5, 50, 47, 53)}
  axes = drawn(points, curves={"DPO": ([0, 4, 7], [30, 45, 49])}).axes[0]
  (gap,) = (line for line in axes.lines if line.get_linestyle() == ":")
  np.testing.assert_array_equal(gap.get_xydata(), [(7, 49), (9, 50)])
  (end,) = (x for x in axes.lines if x.get_markerfacecolor() == "w")
  np.testing.assert_array_equal(end.get_xydata(), [(7, 49)])
  assert {gap.get_color(), end.get_color()} == {
    pages.run_colours(["DPO"])["DPO"][0]
  }
  other = drawn(points, curves={"best-of-n": ([0, 2], [30, 60])}).axes[0]
  assert ":" not in {line.get_linestyle() for line in other.lines}


def test_it_is_a_file_and_errors_name_the_cause(tmp_path):
  points = {"a": (1, float("nan"), 2, float("nan"), float("nan"))}
  path = pages.plot_frontier(points, tmp_path / "p" / "f.png", **LABELS)
  assert path.read_bytes().startswith(b"\x89PNG")
  with pytest.raises(UserError, match="no points"):
    pages.plot_frontier({}, path, **LABELS)
  with pytest.raises(UserError, match="curve 'c'"):
    pages.plot_frontier(points, path, curves={"c": ([1], [1, 2])}, **LABELS)
