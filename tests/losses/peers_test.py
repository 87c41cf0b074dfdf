"""Losses equal the values of other libraries' functions on the same numbers.

If a library's convention differs, the row converts the arguments.
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jalign import losses


def _load(shared):
  golden = json.loads((shared / "golden" / "losses_peers.json").read_text())
  as_arrays = lambda record: {
    key: jnp.asarray(x, jnp.float64)
    for key, x in record.items()
    if isinstance(x, list)
  }
  sums = as_arrays(golden["inputs"])
  averages = as_arrays(golden["inputs_avg"])
  values = {key: row["values"] for key, row in golden["losses"].items()}
  return sums, averages, values


def _referenced(loss, **hyperparameters):
  """A loss of four sums, in the order that all libraries share."""
  return lambda c, r, rc, rr: loss(c, r, rc, rr, **hyperparameters)


def _reference_free(loss, **hyperparameters):
  """A loss with a reference of log-prob 0 for every response."""
  return lambda c, r, rc, rr: loss(c, r, 0 * c, 0 * r, **hyperparameters)


def _ratios(loss, scale, **hyperparameters):
  """A loss of two log-probs, on log-ratios times the library's beta."""
  return lambda c, r, rc, rr: loss(
    scale * (c - rc), scale * (r - rr), **hyperparameters
  )


def _sorted(loss, key, **hyperparameters):
  """A loss with its values in the margins' order, like the library's."""

  def ours(*x):
    valid = jnp.ones(x[0].shape, bool)
    order = jnp.argsort(key(*x))
    return loss(*x, valid, beta=0.1, **hyperparameters)[order]

  return ours


DPO = functools.partial(losses.dpo, beta=0.1)
ROBUST = functools.partial(losses.robust_dpo, beta=0.1)
HINGE = functools.partial(losses.slic_hf, delta=1.0, lam=0.0)
ON_SUMS = {
  "trl028/sigmoid": _referenced(DPO),
  "trl028/sigmoid/ls=0.1": _referenced(DPO, label_smoothing=0.1),
  "trl028/sigmoid/reference_free": _reference_free(DPO),
  "trl028/robust": _referenced(ROBUST, label_smoothing=0.0),
  "trl028/robust/ls=0.1": _referenced(ROBUST, label_smoothing=0.1),
  # SLiC on log-ratios times beta, with a margin of 1, in two ways.
  "trl028/hinge": _ratios(HINGE, 0.1),
  # Their beta is tau. The function was given sums, though TRL feeds averages.
  "trl028/ipo": _referenced(losses.ipo, tau=0.1),
  "em/dpo": _referenced(DPO),
  "em/cdpo/ls=0.1": _referenced(DPO, label_smoothing=0.1),
  "em/ipo": _referenced(losses.ipo, tau=0.1),
  # DPOP, with its authors' lambda, which is fixed in their code.
  "humainlab/pdpo": _referenced(losses.dpop, beta=0.1, lam=50.0),
  # Two segments with alpha = beta and no bias: DPO without a reference.
  "cpl/logits/bias=1.0": _reference_free(DPO),
  "trl028/exo_pair/ls=0.1": _referenced(
    losses.exo, beta=0.1, label_smoothing=0.1
  ),
  "trl028/nca_pair": _referenced(losses.nca, beta=0.1),
  "nca/pair": _referenced(losses.nca, beta=0.1),
  "trl028/sppo_hard": _referenced(losses.sppo, beta=0.1),
  # The library halves the sum of squares.
  "humainlab/sppo": lambda *x: losses.sppo(*x, beta=0.1) / 2,
  "sppo/single/p=0.8": lambda *x: (
    losses.sppo_soft(*x, 0 * x[0] + 0.8, beta=0.01) / 2
  ),
  "trl028/apo_zero": _referenced(losses.apo_zero, beta=0.1),
  "trl028/apo_down": _referenced(losses.apo_down, beta=0.1),
  "trl028/discopop": _referenced(losses.discopop, beta=0.1, tau=0.05),
  "trl028/sigmoid/js_divergence": _referenced(losses.f_dpo_js, beta=0.1),
  # The library's coefficient is the paper's alpha in this version.
  "trl028/sigmoid/alpha_divergence": _referenced(
    losses.f_dpo_alpha, beta=0.1, alpha=0.5
  ),
  "fdiv/forward_dpo_loss": _referenced(losses.f_dpo_forward_kl, beta=0.1),
  "fdiv/js_dpo_loss": _referenced(losses.f_dpo_js, beta=0.1),
  "fdiv/alpha_dpo_loss/alpha=0.5": _referenced(
    losses.f_dpo_alpha, beta=0.1, alpha=0.5
  ),
  "fdiv/alpha_dpo_loss/alpha=0.3": _referenced(
    losses.f_dpo_alpha, beta=0.1, alpha=0.3
  ),
  # The file of values has the lengths and scores, too.
  "humainlab/rdpo": lambda *x: losses.r_dpo(
    *x,
    jnp.array([5.0, 3, 5, 3]),
    jnp.array([3.0, 4, 3, 4]),
    beta=0.1,
    alpha=0.2,
  ),
  "odpo/alpha=0.5": lambda *x: losses.odpo(
    *x, jnp.array([3.0, 2, 5, 1.5]), jnp.ones(4), beta=0.1, alpha=0.5
  ),
  "trl028/aot": _sorted(losses.aot_paired, lambda c, r, rc, rr: c - r),
  "trl028/aot/ls=0.1": _sorted(
    losses.aot_paired, lambda c, r, rc, rr: c - r, label_smoothing=0.1
  ),
  "trl028/aot_unpaired": _sorted(
    losses.aot_unpaired, lambda c, r, rc, rr: c - rc
  ),
  "trl028/aot_unpaired/ls=0.1": _sorted(
    losses.aot_unpaired, lambda c, r, rc, rr: c - rc, label_smoothing=0.1
  ),
  # The library's running mean is 0.
  "trl028/bco_pair": _referenced(losses.bco, beta=0.1),
  # The library's old response is half a nat above the chosen one.
  "selm/alpha=0.005": lambda c, r, rc, rr: losses.selm(
    c, r, rc, rr, c + 0.5, rc, beta=0.1, alpha=0.005
  ),
  # Four chosen responses, then four rejected.
  "trl_bco/delta=0.05": lambda c, r, rc, rr: losses.bco_unpaired(
    jnp.concatenate([c, r]),
    jnp.concatenate([rc, rr]),
    jnp.arange(8) < 4,
    beta=0.1,
    shift=0.05,
  ),
}

# With one token per response the sum is the average.
ONE = lambda x: jnp.ones_like(x)
ON_AVERAGES = {
  # The library's ratio of 0.25 is gamma / beta; jalign has gamma.
  "simpo/sigmoid": lambda c, r: losses.simpo(
    c, r, ONE(c), ONE(r), beta=2.0, gamma=0.5
  ),
  "simpo/hinge": lambda c, r: losses.slic_hf(2 * c, 2 * r, delta=1.5, lam=0.0),
  "trl_cpo/simpo": lambda c, r: losses.simpo(
    c, r, ONE(c), ONE(r), beta=2.0, gamma=0.5
  ),
  # This is the preference term only: the trainer adds the likelihood elsewhere.
  "trl_cpo/sigmoid": lambda c, r: losses.cpo(c, r, ONE(c), beta=2.0, alpha=0.0),
  "trl_cpo/hinge": lambda c, r: losses.slic_hf(
    2 * c, 2 * r, delta=1.0, lam=0.0
  ),
  "trl_cpo/ipo": lambda c, r: losses.ipo(c, r, 0 * c, 0 * r, tau=2.0),
}


@pytest.mark.parametrize("name", ON_SUMS)
def test_on_sums(shared, name):
  with jax.enable_x64(True):
    sums, _, values = _load(shared)
    ours = ON_SUMS[name](*sums.values())
    assert ours.dtype == jnp.float64
    np.testing.assert_allclose(ours, values[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ON_AVERAGES)
def test_on_averages(shared, name):
  with jax.enable_x64(True):
    _, averages, values = _load(shared)
    ours = ON_AVERAGES[name](*averages.values())
    assert ours.dtype == jnp.float64
    np.testing.assert_allclose(ours, values[name], rtol=0, atol=1e-9)


def test_averaged_ipo_at_ten_tokens(shared):
  """TRL's IPO gets averages: the same numbers at a tenth of the scale."""
  with jax.enable_x64(True):
    sums, _, values = _load(shared)
    ten = jnp.full(4, 10.0)
    ours = losses.ipo_avg(*(10 * x for x in sums.values()), ten, ten, tau=0.1)
    np.testing.assert_allclose(ours, values["trl028/ipo"], rtol=1e-9)


def test_odds_term(shared):
  """TRL returns the odds term without the likelihood, in float32."""
  with jax.enable_x64(True):
    _, averages, values = _load(shared)
    c, r = averages.values()
    ours = losses.orpo(c, r, ONE(c), ONE(r), lam=0.1) + c
    theirs = values["trl_orpo/minus_beta_logsigmoid(float32)"]
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
