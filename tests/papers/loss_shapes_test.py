"""The page of shapes: every pairwise loss is on it, with its curves."""

import pathlib
import runpy

import numpy as np
import pytest

from jalign import losses
from jalign.training.kinds import vocabulary

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "experiments" / "papers" / "loss_shapes.py"))
PAIRWISE = [n for n, e in losses.CATALOGUE.items() if e.batch == "pairs"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
  """The page as SVG, in which text can be searched."""
  path = tmp_path_factory.mktemp("shapes") / "made" / "page.svg"
  SCRIPT["main"]([f"--out={path}"])
  return path.read_text()


@pytest.fixture(scope="module")
def panels():
  return {panel.name: panel for panel in SCRIPT["panels"](H)}


H = np.linspace(-40, 40, 81, dtype=np.float32)


def test_the_page_has_every_pairwise_loss(page):
  for name in PAIRWISE:
    assert page.count(f">{name}</text>") == 1, name  # its panel's title
  assert f"The shapes of {len(PAIRWISE)} losses" in page


def test_families_are_together(panels):
  families = [panel.family for panel in panels.values()]
  changes = sum(a != b for a, b in zip(families, families[1:]))
  assert changes + 1 == len(set(families)) < len(PAIRWISE)
  assert sorted(panels) == sorted(PAIRWISE)


@pytest.mark.parametrize("name", PAIRWISE)
def test_curves_are_finite_and_seen(name, panels):
  panel = panels[name]
  curves = [panel.values, *panel.slopes]
  assert all(c.shape == H.shape and np.isfinite(c).all() for c in curves)
  for shown in ([panel.values], list(panel.slopes)):
    low, high = SCRIPT["limits"](H, shown)
    assert low < 0 < high
    inside = [np.mean((c >= low) & (c <= high)) for c in shown]
    assert min(inside) > 0.5


def test_dpo_and_ipo_by_hand(panels):
  z = 0.1 * H.astype(np.float64)
  dpo, ipo = panels["dpo"], panels["ipo"]
  np.testing.assert_allclose(dpo.values, np.log1p(np.exp(-z)), rtol=1e-5)
  for d in dpo.slopes:
    np.testing.assert_allclose(d, 0.1 / (1 + np.exp(z)), rtol=1e-4)
  target = 1 / (2 * SCRIPT["SETTINGS"]["ipo"]["tau"])
  np.testing.assert_allclose(ipo.values, (H - target) ** 2, atol=1e-3)
  for d in ipo.slopes:
    np.testing.assert_allclose(d, 2 * (target - H), atol=1e-4)


def test_settings_are_hyperparameters():
  for name, settings in SCRIPT["SETTINGS"].items():
    losses.resolve(name, **settings)
  assert set(SCRIPT["ARRAYS"]) <= set(vocabulary("pairs"))


def test_limits():
  limits, line = SCRIPT["limits"], H.astype(np.float64)
  assert limits(H, [line**2]) == pytest.approx((-1.04 * 60, 1.04 * 2000))
  assert limits(H, [line]) == pytest.approx((-1.04 * 50, 1.04 * 50))
  assert limits(H, [np.exp(-line)]) == pytest.approx(
    (-1.04 * 900, 1.04 * 30_000)
  )


def test_another_kind_of_file_is_refused(capsys):
  with pytest.raises(SystemExit) as caught:
    SCRIPT["main"](["--out=page.txt"])
  assert caught.value.code == 2 and ".png" in capsys.readouterr().err
