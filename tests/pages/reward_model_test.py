"""The section on a scorer of labelled pairs shows its numbers."""

import numpy as np
import pytest

from jalign import evaluation, pages
from jalign.errors import UserError
from jalign.pages import reward_model, style

RNG = np.random.default_rng(2)


@pytest.fixture
def drawn(monkeypatch):
  """plot_scored, changed to return {title: axes} and the figure."""
  monkeypatch.setattr(reward_model, "save_figure", lambda figure, _: figure)

  def draw(scored):
    figure = reward_model.plot_scored(scored, "x.png")
    return {axes.get_title(loc="left"): axes for axes in figure.axes}, figure

  return draw


def _pairs(count=120, **more):
  chosen, rejected = RNG.normal(size=(2, count)) + [[0.7], [0]]
  return evaluation.from_scores(
    chosen,
    rejected,
    chosen_tokens=RNG.integers(3, 30, count),
    rejected_tokens=RNG.integers(3, 30, count),
    groups=np.arange(count) // 3,
    **more,
  )


def test_the_panels_show_bins_with_their_intervals(drawn):
  pairs = _pairs()
  charts, _ = drawn({"rm": pairs})
  assert list(charts) == [
    "Reliability",
    "Scores",
    "Accuracy by gap of the scores",
    "By gap of the lengths",
  ]
  bins = evaluation.reliability(
    pairs.margins, 10, equal_mass=True, groups=pairs.groups
  )
  _, curve = charts["Reliability"].lines  # the diagonal is the first
  np.testing.assert_allclose(curve.get_xdata(), 100 * bins.confidence)
  np.testing.assert_allclose(curve.get_ydata(), 100 * bins.accuracy)
  (bars,) = charts["Reliability"].collections
  ends = np.array([bar[:, 1] for bar in bars.get_segments()])
  np.testing.assert_allclose(ends, 100 * np.stack([bins.low, bins.high], 1))
  gaps = evaluation.by_gap(pairs)
  curve = charts["Accuracy by gap of the scores"].lines[0]
  np.testing.assert_allclose(curve.get_xdata(), [b.middle for b in gaps])
  heights = [p.get_data().values for p in charts["Scores"].patches]
  assert all(h.sum() == 120 for h in heights)
  lengths = evaluation.by_length(pairs)
  _, longer, labels = charts["By gap of the lengths"].lines
  np.testing.assert_allclose(
    longer.get_ydata(), [100 * b.longer.mean for b in lengths]
  )
  np.testing.assert_allclose(
    labels.get_ydata(), [100 * b.labelled_longer.mean for b in lengths]
  )


def test_several_scorers_keep_their_colours_and_share_axes(drawn):
  scored = {"rm": _pairs(), "dpo": _pairs(40)}
  charts, figure = drawn(scored)
  looks = style.run_colours(list(scored))
  assert "Margins" in charts and "Scores" not in charts
  colours = [line.get_color() for line in charts["Reliability"].lines]
  assert colours == ["#888888", looks["rm"][0], looks["dpo"][0]]
  assert len(charts["Reliability"].lines[2].get_xdata()) == 5  # of 40 pairs
  said = [text.get_text() for text in figure.legends[0].get_texts()]
  assert said == ["rm", "dpo"]


def test_preferences_without_scores_or_lengths_have_three_panels(drawn):
  sure = evaluation.from_probabilities([0.9, 0.2, 1.0, 0.0, 0.6, 0.5])
  charts, figure = drawn({"pm": sure})
  assert list(charts) == [
    "Reliability",
    "Margins",
    "Accuracy by gap of the scores",
  ]
  figure.draw_without_rendering()  # infinite margins can be laid out
  constant = evaluation.from_scores([1.0, 1.0], [1.0, 1.0])
  charts, figure = drawn({"pm": constant})
  figure.draw_without_rendering()
  assert charts["Reliability"].lines[1].get_ydata().tolist() == [50, 50]
  with pytest.raises(UserError, match="nothing to plot"):
    drawn({})


def test_the_section_is_written_with_its_numbers(tmp_path):
  pairs = _pairs(exact=np.full(120, 0.7), raters=["x", "y"] * 60)
  section = reward_model.reward_model_section({"rm": pairs}, tmp_path)
  page = pages.write_report(tmp_path, title="t", sections=[section])
  text = page.read_text()
  share = evaluation.accuracy(pairs)
  low, high = share.interval
  assert (
    f"| accuracy | {100 * share.mean:.1f} % ({100 * low:.1f} to"
    f" {100 * high:.1f}) |" in text
  )
  assert "| best possible accuracy | 70.0 %" in text
  assert "| y | 60 |" in text
  bins = evaluation.reliability(pairs.margins, 10, equal_mass=True)
  assert text.count(" | 12 |\n") == len(bins.pairs) == 10
  assert (tmp_path / "plots" / "reward_model.png").stat().st_size > 10_000
  many = {f"scorer {i}": pairs for i in range(6)}
  table = reward_model.accuracy_table(many)
  assert len(table.rows) == 6 and table.header[:3] == (
    "scorer",
    "pairs",
    "accuracy",
  )
