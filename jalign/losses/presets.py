"""Presets: weighted sums of losses that have a name of their own."""

from collections.abc import Callable
from typing import Any

from jalign.errors import UserError
from jalign.losses import catalogue
from jalign.losses.compose import WeightedSum, weighted_sum
from jalign.losses.signature import check_settings
from jalign.types import Array


def resolve(
  name: str, **settings: Any
) -> tuple[Callable[..., Array], catalogue.Entry]:
  """A loss of the CATALOGUE or a preset, with its hyperparameters bound.

  Args:
    name: a key of CATALOGUE or of PRESETS.
    **settings: hyperparameters.

  Returns:
    The loss and its `Entry`.

  Raises:
    UserError: the name is unknown, or the loss takes no such hyperparameter.
  """
  if name in PRESETS:
    check_settings(name, PRESETS[name], settings)
    loss = PRESETS[name](**settings)
    return loss, loss.entry
  return catalogue.resolve(name, tuple(PRESETS), **settings)


def rpo(*, beta: float = 0.5, eta: float = 0.2) -> WeightedSum:
  """RPO: DPO plus the chosen response's likelihood, in the paper's form.

  l = -log sigmoid(beta h) - eta beta log pi(y_w | x)

  h is DPO's margin of log-ratios. The log-likelihood is a sum over the
  response's tokens, and beta is a factor of its weight.

  Liu et al. 2024, "Provably Mitigating Overoptimization in RLHF: Your SFT Loss
  is Implicitly an Adversarial Regularizer", arXiv:2405.16436.

  Args:
    beta: strength of the KL regularisation, > 0; 0.5 is the authors' code's.
    eta: weight of the likelihood, >= 0; 0.2 is the authors' code's.
  """
  return weighted_sum({"dpo": 1.0, "sft_sum": eta * beta}, dpo={"beta": beta})


def rpo_code(*, beta: float = 0.5, eta: float = 0.2) -> WeightedSum:
  """RPO as its authors' code computes it: the likelihood is per token.

  l = -log sigmoid(beta h) - eta log pi(y_w | x) / |y_w|

  h is DPO's margin of log-ratios.

  Liu et al. 2024, arXiv:2405.16436.

  Args:
    beta: strength of the KL regularisation, > 0.
    eta: weight of the likelihood per token, >= 0.
  """
  return weighted_sum({"dpo": 1.0, "sft_avg": eta}, dpo={"beta": beta})


def mpo(*, beta: float = 0.1, shift: float = 0.0) -> WeightedSum:
  """Mixed preference optimisation: DPO, BCO and the chosen response's NLL.

  l = 0.8 dpo + 0.2 bco + sft

  dpo learns which response of a pair is better, bco whether each response is
  good by itself, sft the text of the chosen response. The weights and the three
  terms are those of public code, and sft is a mean over the batch's chosen
  tokens.

  Wang et al. 2024, "Enhancing the Reasoning Ability of Multimodal Large
  Language Models via Mixed Preference Optimization", arXiv:2411.10442.

  Args:
    beta: strength of the KL regularisation of dpo and bco, > 0.
    shift: reward shift of bco; see `bco_shift_update`.
  """
  return weighted_sum(
    {"dpo": 0.8, "bco": 0.2, "sft": 1.0},
    dpo={"beta": beta},
    bco={"beta": beta, "shift": shift},
  )


def cpo_sft(*, beta: float = 0.1, alpha: float = 1.0) -> WeightedSum:
  """CPO as its authors' code has it: the NLL is a mean over a batch's tokens.

  l = -log sigmoid(beta (log pi(y_w) - log pi(y_l))) + alpha sft(y_w)

  `cpo` takes the mean over each response's tokens instead.

  Xu et al. 2024, "Contrastive Preference Optimization: Pushing the Boundaries
  of LLM Performance in Machine Translation", arXiv:2401.08417.

  Args:
    beta: scale of the margin, > 0.
    alpha: weight of the likelihood, >= 0.
  """
  return weighted_sum(
    {"cpo": 1.0, "sft": alpha}, cpo={"beta": beta, "alpha": 0.0}
  )


def ppo(
  *,
  clip: float = 0.2,
  value_clip: float = 0.2,
  value_weight: float = 0.1,
) -> WeightedSum:
  """PPO's two losses: `ppo_clip` of the policy, `value_clip` of the critic.

  l = ppo_clip + value_weight value_clip

  The two are of separate networks, which are clipped separately by their
  gradients' norms: with Adam the weight hardly matters, and the critic's
  learning rate is what decides.

  Schulman et al. 2017, arXiv:1707.06347, eq. 9, without the entropy term.

  Args:
    clip: half-width of the policy's clipping range, > 0.
    value_clip: half-width of the values' clipping range, in the rewards'
      units, > 0.
    value_weight: weight of the critic's loss, > 0.

  Raises:
    UserError: the weight isn't positive.
  """
  if not value_weight > 0:
    raise UserError(
      f"{value_weight} must be > 0, or the critic learns nothing.",
      where="value_weight",
    )
  return weighted_sum(
    {"ppo_clip": 1.0, "value_clip": value_weight},
    ppo_clip={"clip": clip},
    value_clip={"clip": value_clip},
  )


PRESETS: dict[str, Callable[..., WeightedSum]] = {
  f.__name__: f for f in (rpo, rpo_code, mpo, cpo_sft, ppo)
}
