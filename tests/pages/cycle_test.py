"""A cycle's arrows go from winners to losers, with nothing in their way."""

import itertools

import numpy as np
import pytest
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from jalign import pages
from jalign.errors import UserError
from jalign.pages import cycle


def _drawn(monkeypatch, *args, **kw):
  monkeypatch.setattr(cycle, "save_figure", lambda figure, _: figure)
  figure = pages.plot_cycle(*args, "x.png", **kw)
  figure.draw_without_rendering()
  (axes,) = figure.axes
  of = lambda kind: [p for p in axes.patches if isinstance(p, kind)]
  return axes, of(FancyBboxPatch), of(FancyArrowPatch)


def _extent(axes, label):
  (text,) = [t for t in axes.texts if t.get_text() == label]
  return text.get_window_extent()


def test_arrows_leave_the_winner_and_carry_its_rate(monkeypatch):
  axes, boxes, arrows = _drawn(
    monkeypatch, ["A", "B", "C"], [0.65, 0.3, 0.58], half_widths=[0.03] * 3
  )
  a, b, c = boxes
  ends = [(arrow.patchA, arrow.patchB) for arrow in arrows]
  assert ends == [(a, b), (c, b), (c, a)]
  colours = [arrow.get_edgecolor() for arrow in arrows]
  assert colours[0] == colours[2] != colours[1]
  labels = [t.get_text() for t in axes.texts]
  assert {"65 ± 3 %", "70 ± 3 %", "58 ± 3 %"} <= set(labels)


@pytest.mark.parametrize("n", [3, 4, 5, 6])
@pytest.mark.parametrize("with_texts", [False, True])
def test_boxes_and_labels_keep_apart_and_texts_fit(monkeypatch, n, with_texts):
  names = [f"kind {i}" for i in range(n)]
  texts = dict.fromkeys(names[1:], "some words of text " * 30)
  rates = np.linspace(0.41, 0.92, n)
  axes, boxes, _ = _drawn(
    monkeypatch, names, rates, texts=texts if with_texts else None
  )
  extents = [box.get_window_extent() for box in boxes]
  frame = axes.get_window_extent()
  for a, b in itertools.combinations(extents, 2):
    assert not a.overlaps(b)
  for rate in rates:
    label = _extent(axes, f"{100 * max(rate, 1 - rate):.0f} %")
    assert not any(label.overlaps(box) for box in extents)
    assert frame.contains(*label.min) and frame.contains(*label.max)
  inside = [t for t in axes.texts if "kind" in t.get_text()]
  inside += [t for t in axes.texts if "words" in t.get_text()]
  assert len(inside) == n + (n - 1) * with_texts
  for text in inside:
    extent = text.get_window_extent()
    assert any(
      box.contains(*extent.min) and box.contains(*extent.max) for box in extents
    )


def test_it_is_a_file_and_errors_name_the_cause(tmp_path):
  path = pages.plot_cycle(
    ["a", "b", "c"], [0.6, 0.7, 0.5], tmp_path / "p" / "c.png", title="$x$"
  )
  assert path.read_bytes().startswith(b"\x89PNG")
  with pytest.raises(UserError, match="can't form a cycle"):
    pages.plot_cycle(["a", "b"], [0.5, 0.5], path)
  with pytest.raises(UserError, match="different names"):
    pages.plot_cycle(["a", "b", "a"], [0.5] * 3, path)
  for rates in ([0.5, 0.5], [0.5, 0.5, 65], [0.5, 0.5, float("nan")]):
    with pytest.raises(UserError, match="win rates"):
      pages.plot_cycle(["a", "b", "c"], rates, path)
