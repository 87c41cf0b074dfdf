"""The web page is complete in one file, and shows data unchanged."""

import base64
import html.parser
import re

import pytest

from jalign import pages
from jalign.errors import UserError
from jalign.pages import webpage

VOID = ("meta", "img", "br", "hr")
EVIL = "</td></style><script>alert(1)</script><img src=x onerror='f()'>\"&amp;"


class _Page(html.parser.HTMLParser):
  """Reads a page's elements, its text by tag, and whether tags are closed."""

  def __init__(self, text):
    super().__init__()
    self.elements, self.open, self.texts = [], [], []
    self.feed(text)
    self.close()
    assert self.open == []

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))
    if tag not in VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.texts.append((tuple(self.open), data))

  def all(self, tag):
    return [attrs for name, attrs in self.elements if name == tag]

  def text(self, tag):
    return [data for tags, data in self.texts if tag in tags and data.strip()]


def _write(tmp_path, content, title="T", section="One", summary=""):
  path = pages.write_report(
    tmp_path,
    title=title,
    sections=[pages.Section(section, content)],
    summary=summary,
  )
  return _Page((path.parent / "report.html").read_text(encoding="utf-8"))


def _png(path):
  return pages.plot_bars_with_intervals({"a": (1, 0, 2)}, path, xlabel="x")


def test_nothing_from_data_becomes_markup_and_nothing_is_loaded(tmp_path):
  picture = _png(tmp_path / "a.png")
  contents = [
    f"Text {EVIL} [link](javascript:alert(1)) ![i](https://example.com/i.png)",
    pages.Table([EVIL], [[EVIL]]),
    pages.Figure(picture, EVIL),
    pages.Samples([(EVIL, {EVIL: EVIL}), ("p", {"m": EVIL * 20})], 900),
    pages.Details(EVIL, [EVIL, pages.Table(["x"], [[EVIL]])]),
  ]
  page = _write(tmp_path / "r", contents, EVIL, EVIL, EVIL)
  tags = {tag for tag, _ in page.elements}
  assert not tags & {"script", "iframe", "object", "embed", "link", "base"}
  for tag, attrs in page.elements:
    assert not [name for name in attrs if name.startswith("on")], (tag, attrs)
    assert attrs.get("src", "data:image/png;").startswith("data:image/png;")
    allowed = attrs.get("href", "#").startswith(("#", "https://example.com"))
    assert allowed, attrs
  assert len(page.all("img")) == 1 and page.all("img")[0]["alt"] == EVIL
  (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
  assert "default-src 'none'" in policy and "script-src" not in policy
  (style,) = page.text("style")
  assert "url(" not in style and "@import" not in style
  assert page.text("title") == page.text("h1") == [EVIL]
  assert page.text("td") == [EVIL, EVIL] and page.text("figcaption") == [EVIL]
  assert EVIL in page.text("article")


def test_pictures_are_inside_with_their_size(tmp_path):
  picture = _png(tmp_path / "a.png")
  (image,) = _write(tmp_path / "r", pages.Figure(picture)).all("img")
  data = base64.b64decode(image["src"].split(",")[1])
  assert data == picture.read_bytes()
  assert image["width"] == "1050" and image["alt"] == ""
  other = tmp_path / "b.png"
  other.write_bytes(b"GIF89a")
  with pytest.raises(UserError, match="section 'One'.*no PNG"):
    _write(tmp_path / "q", pages.Figure(other))
  assert not list((tmp_path / "q").glob("report.*"))


def test_tables_set_numbers_to_the_right_on_both_pages(tmp_path):
  rows = [["a", 0.5, "65.1 ± 2.3 %", "", "1e-5"], ["b", None, "–", "", "2 s"]]
  page = _write(tmp_path, pages.Table(["n", "x", "w", "none", "t"], rows))
  numbers = [cell.get("class") == "number" for cell in page.all("th")]
  assert numbers == [False, True, True, False, False]
  assert page.text("td")[:4] == ["a", "0.5", "65.1 ± 2.3 %", "1e-5"]
  rule = (tmp_path / "report.md").read_text().splitlines()[5]
  assert rule == "| --- | ---: | ---: | --- | --- |"
  assert [x for x in page.all("div") if x.get("class") == "scroll"]


def test_sections_have_unique_anchors_that_the_contents_link(tmp_path):
  titles = ["Held-out results!", "Held out: results", "???", "été"]
  pages.write_report(
    tmp_path, title="T", sections=[pages.Section(t, "x") for t in titles]
  )
  page = _Page((tmp_path / "report.html").read_text(encoding="utf-8"))
  anchors = [section["id"] for section in page.all("section")]
  assert anchors == [
    "held-out-results",
    "held-out-results-2",
    "section",
    "été",
  ]
  links = [a["href"] for a in page.all("a") if "class" not in a]
  assert links == [f"#{anchor}" for anchor in anchors]
  assert [x for x in page.text("nav") if x != "Contents"] == titles
  assert _write(tmp_path, "one section").all("nav") == []


def test_markdown_is_rendered(tmp_path):
  text = "*it*\n\n- a\n- b\n\n| k | v |\n|---|--:|\n| c | 1 |\n\n~~no~~ `x<y`"
  page = _write(tmp_path, text, summary="**Found**")
  tags = [tag for tag, _ in page.elements]
  assert {"em", "li", "table", "s", "code"} <= set(tags)
  assert page.text("strong") == ["Found"] and page.text("code") == ["x<y"]


def test_long_samples_are_folded_and_keep_their_text(tmp_path):
  words = " ".join(f"word{i}" for i in range(120))
  lines = "\n".join("abcdefghijklmnop")
  samples = pages.Samples(
    [
      (
        "  short\n  prompt",
        {"m": words, "l": lines, "none": "", "cut": "x" * 9},
      )
    ]
  )
  page = _write(tmp_path, samples)
  assert len(page.all("details")) == 2
  shown = page.text("article")
  assert "  short\n  prompt" in shown and words in shown and lines in shown
  preview = page.text("summary")[0].removesuffix(" …")
  assert words.startswith(preview + " ") and len(preview) > 200
  assert "(empty)" in shown
  page = _write(tmp_path, samples._replace(max_chars=100))
  assert f"({len(words) - 100} characters more)" in page.text("em")
  assert words not in page.text("article")
  assert f"{words[:100]} … " in page.text("article")


def test_details_fold_on_the_page_and_are_headed_in_markdown(tmp_path):
  inner = pages.Details("In*ner*", pages.Table(["x"], [[1]]))
  page = _write(tmp_path, ["before", pages.Details("Outer", ["text", inner])])
  assert [d.get("class") for d in page.all("details")] == ["fold", "fold"]
  assert not [d for d in page.all("details") if "open" in d]
  assert page.text("summary") == ["Outer", "In*ner*"]
  assert (tmp_path / "report.md").read_text() == (
    "# T\n\n## One\n\nbefore\n\n### Outer\n\ntext\n\n#### In\\*ner\\*\n\n"
    "| x |\n| ---: |\n| 1 |\n"
  )
  with pytest.raises(UserError, match="section 'One': a int cannot"):
    _write(tmp_path, pages.Details("d", [3]))


def test_a_table_is_not_cut():
  """On a screen it wraps and then scrolls; on paper it can't scroll."""
  style = webpage._resource("report.css")
  screen, paper = style.split("@media print")
  assert re.search(r"\.scroll \{[^}]*overflow-x: auto", screen)
  numbers = re.search(r"\.data \.number \{([^}]*)\}", screen)
  assert "nowrap" not in numbers[1]
  assert re.search(r"\.scroll[^}]*\{[^}]*overflow: visible", paper)


def test_the_style_knows_the_dark_and_narrow_screens():
  style = webpage._resource("report.css")
  light, dark = (
    set(re.findall(r"(--\w+):", part))
    for part in style.split("prefers-color-scheme: dark")
  )
  assert light == dark - {"--width"} and "max-width: 40rem" in style
