"""Axes of steps have whole numbers, the same in all panels."""

from jalign import pages
from jalign.pages import plots


def test_panels_share_whole_steps_even_where_one_has_a_single_point(
  monkeypatch,
):
  monkeypatch.setattr(plots, "save_figure", lambda figure, _: figure)
  charts = {"a": {"r": ([3], [1e-4])}, "b": {"r": ([0, 3], [1.0, 2.0])}}
  for shown in (charts, {"a": charts["a"]}):
    figure = pages.plot_panels(shown, "x.png")
    figure.draw_without_rendering()
    for axes in figure.axes:
      low, high = axes.get_xlim()
      assert low <= 3 <= high and (low <= 0) == (len(shown) == 2)
      ticks = [t for t in axes.get_xticks() if low <= t <= high]
      assert ticks and all(t == round(t) for t in ticks)
