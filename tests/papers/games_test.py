"""Claims on games, on fewer sizes and rest points than in the scripts."""

import jax
import pytest

from experiments.papers import ipo_md, mirror_prox
from jalign import losses


def _ipo_md(monkeypatch):
  """Claims with three of the reference's eight weights."""
  chosen = [0, 4, 7]
  for name in ("WEIGHTS", "TABLE"):
    values = getattr(ipo_md, name)
    monkeypatch.setattr(ipo_md, name, tuple(values[i] for i in chosen))
  return ipo_md.claims()


def _mirror_prox(monkeypatch):
  """Claims without the game of 10,000 actions."""
  monkeypatch.setattr(mirror_prox, "SIZES", (10, 100, 1000))
  return mirror_prox.claims()


@pytest.mark.parametrize("claims", [_ipo_md, _mirror_prox])
def test_claims_hold(monkeypatch, claims):
  rows = claims(monkeypatch)
  assert len(rows) >= 5
  assert not [claim for claim in rows if not claim.holds]


def test_a_wrong_sign_breaks_the_claims_of_ipo_md(monkeypatch):
  right = losses.ipo_soft
  monkeypatch.setattr(
    losses, "ipo_soft", lambda *a, tau: right(*a[:4], 1 - a[4], tau=tau)
  )
  with jax.enable_x64(True):
    claims = [*ipo_md._gradients(), ipo_md._offline()]
  assert not any(claim.holds for claim in claims)


def test_another_solver_breaks_the_claims_of_mirror_prox(monkeypatch):
  other = dict(mirror_prox.RIVALS)
  other["Nash Mirror Prox"] = other["mirror descent"]
  monkeypatch.setattr(mirror_prox, "RIVALS", other)
  rows = _mirror_prox(monkeypatch)
  assert sum(not claim.holds for claim in rows) >= 2
