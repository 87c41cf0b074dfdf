"""Plots are PNG files with the right contents; pages render as meant."""

import html
import re

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from jalign import evaluation, pages
from jalign.errors import UserError
from jalign.pages import plots, style
from jalign.training import metrics


def _pixels(path):
  """[H, W, 3] values in [0, 1] of a file, which must be a PNG."""
  assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
  return matplotlib.image.imread(path)[..., :3]


def _has_colour(image, colour):
  target = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
  return (np.abs(image - target).max(-1) < 0.02).sum() > 50


def test_curves_show_every_run_in_its_colour(tmp_path):
  names = ["dpo", "ipo", "slic"]
  looks = pages.run_colours(names)
  steps = np.arange(50)
  series = {n: (steps, steps * (i + 1.0)) for i, n in enumerate(names)}
  path = pages.plot_curves(
    series,
    tmp_path / "plots" / "curves.png",
    xlabel="step",
    ylabel="reward (nats)",
    title="Reward",
    looks=looks,
  )
  image = _pixels(path)
  assert image.shape[1] >= 800
  assert all(_has_colour(image, looks[n][0]) for n in names)
  del series["ipo"]
  image = _pixels(
    pages.plot_curves(series, path, xlabel="", ylabel="", looks=looks)
  )
  assert not _has_colour(image, looks["ipo"][0])
  assert _has_colour(image, looks["slic"][0])  # the same as with three


def test_run_colours_are_distinct_and_stable():
  names = [f"run {i}" for i in range(28)]
  looks = pages.run_colours(names)
  assert len(set(looks.values())) == 28
  assert pages.run_colours(names[:3] + names[:1]) == {
    n: looks[n] for n in names[:3]
  }


def test_end_labels_keep_their_distance_and_order():
  figure = Figure()
  axes = figure.subplots()
  axes.set_ylim(0, 1)
  ends = {"a": 0.98, "b": 0.97, "c": 0.99, "d": 0.1}
  style.label_ends(axes, ends, pages.run_colours(list(ends)), gap=0.1)
  placed = {text.get_text(): text.get_position()[1] for text in axes.texts}
  assert placed["d"] < placed["b"] < placed["a"] < placed["c"] <= 1
  heights = np.diff(sorted(placed.values()))
  assert heights.min() > 0.1 - 1e-9
  style.label_ends(axes, {}, {})


def test_running_mean_has_no_lag_and_keeps_gaps():
  values = np.arange(10.0)
  np.testing.assert_allclose(plots._running_mean(values, 3)[1:-1], values[1:-1])
  assert plots._running_mean(values, 3)[0] == 0.5
  values[4] = np.nan
  means = plots._running_mean(values, 3)
  assert np.isnan(means[4]) and means[3] == 2.5 and means[5] == 5.5


def test_metrics_of_written_rows_with_gaps_and_several_runs(tmp_path):
  runs = {}
  for i, name in enumerate(["a", "b"]):
    writer = metrics.JsonlWriter(tmp_path / f"{name}.jsonl")
    for step in range(40):
      loss = float("nan") if step == 9 else 1 / (step + i + 1)
      writer.write(step, {"loss": loss, "learning_rate": 1e-6})
      if step % 10 == 0:
        writer.write(step, {"eval/kl": step})
    writer.close()
    runs[name] = metrics.read_jsonl(tmp_path / f"{name}.jsonl")
  keys = {"loss": "loss (nats)", "eval/kl": "KL (nats)"}
  two = pages.plot_metrics(runs, keys, tmp_path / "two.png", window=5)
  single = pages.plot_metrics(runs["a"], ["loss"], tmp_path / "one.png")
  assert _has_colour(_pixels(two), style.PALETTE[1])
  assert not _has_colour(_pixels(single), style.PALETTE[1])
  with pytest.raises(UserError, match="'reward'.*eval/kl, learning_rate, loss"):
    pages.plot_metrics(runs, ["reward"], tmp_path / "x.png")
  with pytest.raises(UserError, match="nothing to plot"):
    pages.plot_metrics(runs, [], tmp_path / "x.png")
  with pytest.raises(UserError, match="curve 'a'"):
    pages.plot_curves(
      {"a": ([1, 2], [1])}, tmp_path / "x.png", xlabel="", ylabel=""
    )


def test_win_matrix_and_bars(tmp_path):
  p = np.full((3, 3, 8), 0.5)
  p[0, 1], p[1, 0] = 1, 0
  p[1, 2] = p[2, 1] = np.nan
  matrix = evaluation.win_matrix(["a $x$", "b_1", "a rather long name"], p)
  image = _pixels(pages.plot_win_matrix(matrix, tmp_path / "matrix.png"))
  assert _has_colour(image, "#053061") and _has_colour(image, "#67001f")

  values = {"a": (60.0, 55.0, 65.0), "b": (-4.0, float("nan"), float("nan"))}
  path = tmp_path / "bars.png"
  plain = _pixels(
    pages.plot_bars_with_intervals(values, path, xlabel="win rate (%)")
  )
  assert _has_colour(plain, style.PALETTE[0])
  looks = pages.run_colours(["x", "a", "b"])
  own = _pixels(
    pages.plot_bars_with_intervals(
      values, path, xlabel="win rate (%)", reference=50, looks=looks
    )
  )
  assert _has_colour(own, style.PALETTE[1])
  assert not _has_colour(own, style.PALETTE[0])


def test_win_matrix_has_intervals_and_groups(tmp_path, monkeypatch):
  p = np.full((3, 3, 4), 0.5)
  p[0, 1] = [0.6, 0.8, 0.7, 0.9]
  p[1, 0] = 1 - p[0, 1]
  matrix = evaluation.win_matrix(["a", "a name of many words", "c"], p)
  with monkeypatch.context() as patch:
    patch.setattr(plots, "save_figure", lambda figure, _: figure)
    figure = pages.plot_win_matrix(matrix, "x.png", separators=[2])
  (axes,) = figure.axes
  texts = {text.get_text() for text in axes.texts}
  low, high = (100 * x for x in evaluation.win_rate(p[0, 1]).interval)
  assert {"75.0", "25.0", "50.0", f"{low:.0f} to {high:.0f}"} <= texts
  assert f"{100 - high:.0f} to {100 - low:.0f}" in texts
  assert "95 % interval" in axes.get_xlabel()
  dark = [x for x in axes.lines if x.get_color() != "w"]
  assert len(dark) == 2 and all(
    1.5 in x.get_data()[i] for i, x in zip((1, 0), dark)
  )
  assert [t.get_text() for t in axes.get_xticklabels()][
    1
  ] == "a name of\nmany words"
  with pytest.raises(UserError, match="separator at 3"):
    pages.plot_win_matrix(matrix, tmp_path / "x.png", separators=[3])


@pytest.mark.parametrize("kind", style.FORMATS)
def test_a_plot_is_the_same_file_each_time(tmp_path, kind):
  series = {"a_1 $x$": ([1, 2], [3, 4]), "b": ([1, 2], [5, 4])}
  first, second = (
    pages.plot_curves(
      series, tmp_path / f"{i}.{kind}", xlabel="step", ylabel="loss"
    ).read_bytes()
    for i in range(2)
  )
  assert first == second
  start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[kind]
  assert first.startswith(start)
  for stamp in (b"CreationDate", b"dc:date", b"Matplotlib v"):
    assert stamp not in first


def test_a_plot_of_no_known_format_is_refused(tmp_path):
  with pytest.raises(UserError, match="one of: png, pdf, svg"):
    pages.plot_curves(
      {"a": ([1], [1])}, tmp_path / "x.jpg", xlabel="", ylabel=""
    )
  assert not list(tmp_path.iterdir())


def test_curves_that_are_too_many_to_be_named_beside_are_named_below(
  monkeypatch,
):
  monkeypatch.setattr(plots, "save_figure", lambda figure, _: figure)
  series = {f"run {i}": ([1, 2], [i, i]) for i in range(20)}
  figure = pages.plot_curves(series, "x.png", xlabel="", ylabel="")
  (legend,) = figure.legends
  assert [t.get_text() for t in legend.get_texts()] == list(series)
  assert not figure.axes[0].texts
  few = dict(list(series.items())[:14])
  figure = pages.plot_curves(few, "x.png", xlabel="", ylabel="")
  assert not figure.legends and len(figure.axes[0].texts) == 14


def test_a_legend_of_panels_is_within_the_figure(monkeypatch):
  monkeypatch.setattr(plots, "save_figure", lambda figure, _: figure)
  names = [
    f"loss.beta=0.{i},loss.label_smoothing=0.1,seed={i}" for i in range(8)
  ]
  figure = pages.plot_panels(
    {"loss": {n: ([1, 2], [3, 4]) for n in names}}, "x.png"
  )
  (legend,) = figure.legends
  figure.draw_without_rendering()
  box, page = legend.get_window_extent(), figure.bbox
  assert page.x0 <= box.x0 < box.x1 <= page.x1 and page.y0 <= box.y0
  assert not figure.axes[0].get_window_extent().overlaps(box)


NASTY = """# not a heading
| not | a table |
1. not a list <b>not bold</b> *nor* _this_ &amp; <|endoftext|>
- nor this $x$ [nor](a link)

```python
    indented = `code`
```
> not a quote ~~nor struck~~ \\ backslash
===
+ 3) done"""


def _page(tmp_path, content):
  path = pages.write_report(
    tmp_path, title="A | title", sections=[pages.Section("One", content)]
  )
  return path.read_text()


def test_a_table_has_one_row_a_line_and_numbers_to_the_right(tmp_path):
  rows = [
    ["a|b\nc", 0.123456, np.float32(1e-7), True, 3],
    ["*d*", float("nan"), None, np.bool_(False), np.int64(4)],
  ]
  header = ["name", "loss (nats)", "lr", "ok", "n"]
  assert _page(tmp_path, pages.Table(header, rows)).splitlines() == [
    "# A \\| title",
    "",
    "## One",
    "",
    "| name | loss (nats) | lr | ok | n |",
    "| --- | ---: | ---: | --- | ---: |",
    "| a\\|b c | 0.1235 | 1e-07 | True | 3 |",
    "| \\*d\\* | – | – | False | 4 |",
  ]
  lopsided = ["99.7 % (99.1 to 100.0)", "50.3 ± 10.7 %", "-3 (-4 to 1e-07)"]
  page = _page(tmp_path, pages.Table(["share"], [[x] for x in lopsided]))
  assert "| ---: |" in page and all(f"| {x} |" in page for x in lopsided)
  page = _page(
    tmp_path, pages.Table(["what"], [["2.5 (x)"], ["1. y"], ["3) z"]])
  )
  assert "| 2.5 (x) |" in page and "| 1\\. y |" in page
  assert "| 3\\) z |" in page and "| --- |" in page
  with pytest.raises(UserError, match="section 'One'.*row 0 has 1 cells"):
    _page(tmp_path, pages.Table(header, [["x"]]))


def test_samples_are_quoted_cut_and_escaped(tmp_path):
  samples = pages.Samples([("Hi\nthere", {"m|1": NASTY, "m2": "x" * 40})], 600)
  page = _page(tmp_path, samples)
  body = page.split("**m\\|1**\n\n")[1].split("\n\n**m2**")[0]
  assert all(line.startswith(">") for line in body.splitlines())
  assert len(body.splitlines()) == len(NASTY.splitlines())
  assert "> \\# not a heading" in body and "1\\. not a list" in body
  assert "more)" not in page
  cut = _page(tmp_path, pages.Samples([("p", {"m": "x" * 1500})], 30))
  assert f"> {'x' * 30} … *(1,470 characters more)*" in cut
  assert "*(empty)*" in _page(tmp_path, pages.Samples([("p", {"m": ""})]))


def test_a_markdown_renderer_gives_the_very_text_back(tmp_path):
  markdown_it = pytest.importorskip("markdown_it")
  render = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).render
  content = [
    pages.Samples([("p", {"m": NASTY})]),
    pages.Table(["k|", "v"], [["a|b", "<i>"]]),
  ]
  page = render(_page(tmp_path, content))
  quote = page.split("<blockquote>")[2].split("</blockquote>")[0]
  tags = set(re.findall(r"<(\w+)", quote))
  assert tags == {"p", "br", "code"}
  text = html.unescape(re.sub("<[^>]*>", "", quote)).replace("\xa0", " ")
  lines = [line.rstrip() for line in text.strip().splitlines()]
  assert [x for x in lines if x] == [x for x in NASTY.splitlines() if x]
  assert "<td>a|b</td>" in page and "<td>&lt;i&gt;</td>" in page
  assert "<th>k|</th>" in page


def test_marks_of_chats_are_code_that_reads_as_it_is(tmp_path):
  prompt = "<|im_start|>user\n\\<s>[INST] a_b <b> [/INST]\n`<|x|><|y|>"
  page = _page(tmp_path, pages.Samples([(prompt, {"m": "[a]</s>"})]))
  assert "> `<|im_start|>`user  \n" in page
  assert "> \\\\`<s>[INST]` a\\_b \\<b\\> `[/INST]`  \n" in page
  assert "> \\``<|x|><|y|>`  \n" in page
  assert "> \\[a\\]`</s>`" in page
  markdown_it = pytest.importorskip("markdown_it")
  render = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).render
  quote = render(page).split("<blockquote>")[1].split("</blockquote>")[0]
  text = html.unescape(re.sub("<[^>]*>", "", quote)).strip()
  assert text == prompt


def test_figures_are_linked_from_within_the_folder(tmp_path):
  series = {"a": ([1, 2], [3, 4])}
  folder = tmp_path / "report"
  inside = pages.plot_curves(
    series, folder / "plots" / "in side.png", xlabel="x", ylabel="y"
  )
  outside = pages.plot_curves(
    series, tmp_path / "o.png", xlabel="x", ylabel="y"
  )
  figures = [pages.Figure(inside, "Its *caption*"), pages.Figure(outside)]
  page = _page(folder, figures)
  assert "![Its \\*caption\\*](<plots/in side.png>)\n\n*Its \\*caption" in page
  assert "![](<plots/o.png>)" in page
  assert (folder / "plots" / "o.png").read_bytes() == outside.read_bytes()
  assert _page(folder, figures) == page  # written again over the old page
  outside.write_bytes(b"another")
  with pytest.raises(UserError, match="another picture"):
    _page(folder, figures)
  with pytest.raises(UserError, match="no picture"):
    _page(folder, pages.Figure(tmp_path / "none.png"))


def test_text_summary_and_kinds(tmp_path):
  path = pages.write_report(
    tmp_path,
    title="T",
    summary="**Found**: nothing.",
    sections=[pages.Section("A", "*text*\n"), pages.Section("B", ("x", "y"))],
  )
  assert path == tmp_path / "report.md"
  assert path.read_text() == (
    "# T\n\n**Found**: nothing.\n\n## A\n\n*text*\n\n## B\n\nx\n\ny\n"
  )
  with pytest.raises(UserError, match="section 'One': a float"):
    _page(tmp_path, [1.5])
