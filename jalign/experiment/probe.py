"""Probes: diagnostics of a stage, always on the same held-out pairs."""

import io
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jalign import diagnostics, losses
from jalign.errors import UserError
from jalign.evaluation.likelihood import PairScores
from jalign.experiment.config.settings import StageSettings
from jalign.experiment.data.dataset import Dataset
from jalign.experiment.data.prepare import Prepared
from jalign.experiment.loss import BoundLoss, beta_of
from jalign.files import write_whole
from jalign.glossary import in_section
from jalign.hosts import once, say
from jalign.logprobs import sequence_logprobs, token_kl
from jalign.sharding import fetch, place
from jalign.training import loop
from jalign.training.kinds import PAIRS, unread
from jalign.training.objective import Objective
from jalign.training.state import TrainState
from jalign.training.trainable import Trainable
from jalign.types import Model, Params

PAIRS_FILE = "probe_pairs.npz"


def probe_data(prepared: Prepared, stage: StageSettings) -> Dataset:
  """The data whose pairs a stage's probe looks at: the stage's, or the run's.

  Raises:
    UserError: neither holds pairs.
  """
  datasets = prepared.stages[stage.name], prepared.main
  for dataset in datasets:
    if dataset.serves(PAIRS) and dataset.held_out:
      return dataset
  raise UserError(
    "the probe needs held-out pairs, and the data has"
    f" {' and '.join(dict.fromkeys(d.kind for d in datasets))}.",
    where=f"config.{stage.name}.diagnostics",
    remedy="Let config.data name preference pairs, and the stage's data what it"
    " is trained on.",
  )


class _Before(NamedTuple):
  """Measurements taken just before the step `step`."""

  step: int
  logps: np.ndarray
  products: diagnostics.Products
  forecasts: dict[str, diagnostics.Forecast] | None


class PairProbe:
  """Measures a state on the first held-out pairs.

  Args:
    dataset: the data that has the pairs.
    mesh: the mesh that everything lies on.
    model: the policy's functions.
    objective: objective of the stage's loss.
    loss: the stage's loss, for its kind of batch and its beta.
    part: which part of the policy is trained.
    frozen: the policy's other parameters.
    reference: parameters that the stage starts from.
    stage: the stage's settings.
    folder: the stage's folder, for the numbers of each pair.

  Attributes:
    sources: where the pairs come from.
  """

  def __init__(
    self,
    dataset: Dataset,
    mesh: jax.sharding.Mesh,
    model: Model,
    objective: Objective,
    loss: BoundLoss,
    part: Trainable,
    frozen: Params,
    reference: Params,
    stage: StageSettings,
    folder: pathlib.Path,
  ):
    settings = stage.diagnostics
    self._settings, self._path = settings, folder / PAIRS_FILE
    self._exact = settings.entanglement in ("probe", "both")
    self._beta = beta_of(loss)
    self._frozen, self._start = frozen, reference
    record, self.sources = dataset.first(PAIRS, settings.pairs)
    self._lengths = np.asarray(record.sequences.mask).sum(-1).reshape(-1, 2)
    self._mask = np.asarray(record.sequences.mask)[::2, 1:]
    self._rows = place(record, mesh).sequences
    self._record, alone = None, False
    if _pulls_are_known(dataset, loss):
      self._record = place(dataset.first(loss.batch, settings.pairs)[0], mesh)
      alone = dataset.reading(loss.batch).chosen_alone
    self._before: _Before | None = None
    logps = lambda p, frozen_params, rows: sequence_logprobs(
      model, part.join(p, frozen_params), rows
    )
    groups = dict(diagnostics.ALL) | {name: (name,) for name in settings.groups}
    self._scores = jax.jit(logps)
    self._products = jax.jit(
      lambda p, frozen_params, rows: diagnostics.gradient_products(
        lambda p, rows: logps(p, frozen_params, rows), p, rows, groups
      )
    )

    self._pulls = jax.jit(
      lambda p, frozen_params, data, ref_params: diagnostics.pulls(
        objective,
        part.join(p, frozen_params),
        data,
        ref_params,
        chosen_alone=alone,
      )
    )

    def indicators(p, frozen_params, rows, ref_params):
      policy = part.join(p, frozen_params)
      chosen = jax.tree.map(lambda x: x[::2], rows.replace(packed=None))
      states = lambda params: model.forward(params, chosen.tokens)[:, :-1]
      hidden, head = states(policy), model.head(policy)
      mask = chosen.mask[:, 1:]
      top = diagnostics.top_k(hidden, head, settings.top_k, mask=mask)
      ref = states(ref_params), model.head(ref_params)
      return top, jnp.where(mask, token_kl(hidden, head, *ref), 0.0)

    self._indicators = jax.jit(indicators)
    whole = lambda params, rows: sequence_logprobs(model, params, rows)
    self._reference = self._pair_scores(jax.jit(whole)(reference, self._rows))

  def before(self, step: int, state: TrainState) -> None:
    """Forecasts what the step `step` will do to the state, just before it."""
    if self._exact:
      self._before = _Before(
        step, self._logps(state), *self._entanglement(state)
      )

  def __call__(self, step: int, state: TrainState) -> dict[str, float]:
    """Measures the state after the step `step`."""
    settings, logps = self._settings, self._logps(state)
    scores = self._pair_scores(logps)
    measured: dict[str, float] = {}
    arrays: dict[str, Any] = {"step": step, "sources": self.sources}
    for prefix, which in (("", scores), ("ref_", self._reference)):
      arrays[f"{prefix}chosen_logps_nats"] = which.chosen
      arrays[f"{prefix}rejected_logps_nats"] = which.rejected
    arrays["chosen_tokens"], arrays["rejected_tokens"] = self._lengths.T
    if settings.likelihood:
      panel = diagnostics.likelihood_panel(scores, self._reference, self._beta)
      measured |= in_section("likelihood", panel)
    if settings.policy:
      top, kl = fetch(
        self._indicators(state.params, self._frozen, self._rows, self._start)
      )
      panel = diagnostics.policy_panel(top, kl, self._mask)
      measured |= in_section("policy", panel)
    if self._exact:
      values, more = self._realised(step, state, logps)
      measured |= values
      arrays |= more
    _store(self._path, arrays)
    return measured

  def _logps(self, state) -> np.ndarray:
    """[2P] log-probs of the responses."""
    logps = self._scores(state.params, self._frozen, self._rows)
    return np.asarray(fetch(logps), np.float64)

  def _pair_scores(self, logps) -> PairScores:
    x = np.asarray(fetch(logps), np.float64).reshape(-1, 2)
    n = self._lengths
    return PairScores(x[:, 0], x[:, 1], n[:, 0], n[:, 1], self.sources)

  def _entanglement(self, state):
    """(products, forecasts by group, or None) of the pairs in a state."""
    now = state.params, self._frozen
    products = fetch(self._products(*now, self._rows))
    if self._record is None:
      return products, None
    d_w, d_l = self._pulls(*now, self._record, self._start)
    return products, {
      name: fetch(
        diagnostics.forecast(
          products.chosen[name],
          products.rejected[name],
          products.inner[name],
          d_w,
          d_l,
        )
      )
      for name in products.inner
    }

  def _realised(self, step, state, logps):
    """(metrics, arrays by pair) on the last step and on the state before it."""
    before = self._before
    if before is None or before.step != step:  # no step has been taken yet
      before = None
      products, forecasts = self._entanglement(state)
    else:
      products, forecasts = before.products, before.forecasts
    values = in_section(
      "entanglement", diagnostics.entanglement_panel(products, forecasts)
    )
    arrays: dict[str, Any] = {"cosine": products.cosine()}
    if forecasts is not None:
      arrays["cosine_threshold"] = forecasts["all"].cosine_threshold
      arrays["case"] = forecasts["all"].case
    if before is not None:
      up, down = (logps - before.logps).reshape(-1, 2).T
      arrays["chosen_change_nats"], arrays["rejected_change_nats"] = up, down
      panel = diagnostics.realised_panel(up, down, arrays.get("case"))
      values |= in_section("realised", panel)
    return values, arrays


def _pulls_are_known(dataset: Dataset, loss: BoundLoss) -> bool:
  """Whether a batch of the probe's pairs gives all that the loss takes."""
  if not dataset.serves(loss.batch):
    return False
  names = losses.array_parameters(loss.function)
  lacks = dataset.reading(loss.batch).lacks
  return not (unread(loss.batch, names) or set(names) & set(lacks))


@once
def _store(path: pathlib.Path, arrays) -> None:
  file = io.BytesIO()
  np.savez(file, **arrays)
  write_whole(path, file.getvalue())


def make_probes(
  dataset: Dataset | None,
  samples: Callable[[Params], dict[str, float]] | None,
  policy: Callable[[Params], Params],
  stage: StageSettings,
  steps: int,
  **parts: Any,
) -> list[loop.Probe]:
  """The probes that a stage asks for.

  Args:
    dataset: the data whose pairs a probe looks at; None if none is asked for.
    samples: `parameters -> measurements of samples`; None for none.
    policy: `trained parameters -> the policy's parameters`.
    stage: the stage's settings.
    steps: number of steps of the stage.
    **parts: the other arguments of PairProbe.
  """
  every = stage.diagnostics.every or stage.eval_every or steps
  probes = []
  if dataset is not None:
    probe = PairProbe(dataset, stage=stage, **parts)
    say(f"[{stage.name}] probe of {len(probe.sources)} held-out pairs")
    probes.append(loop.Probe(every, probe, probe.before))
  if samples is not None:
    measure = lambda step, state: samples(policy(state.params))
    probes.append(loop.Probe(every, measure))
  return probes
