"""Every loss by name: exports, site, command line and tests read this table."""

import functools
from collections.abc import Callable
from typing import Any

from jalign.errors import UserError, meant
from jalign.losses import diffusion, distillation, trajectory, unpaired
from jalign.losses.entry import Entry as Entry
from jalign.losses.likelihood import advantage, contrast, sft, unlikelihood
from jalign.losses.listwise import (
  calibration,
  ordered_pairs,
  orders,
  points,
  soft_labels,
)
from jalign.losses.pairwise import (
  anchored,
  divergence,
  iterated,
  margin,
  objectives,
  odds,
  offset,
  optimal_transport,
  reward,
  sigmoid,
  squared,
  third,
  tokenwise,
)
from jalign.losses.policy_gradient import (
  distributional,
  group_relative,
  ppo,
  preference_game,
  score_function,
  two_samples,
)
from jalign.losses.rewards.rows import REWARD_MODELS
from jalign.losses.signature import check_settings
from jalign.types import Array

CATALOGUE: dict[str, Entry] = {
  # ------------------------------------------------------------------ pairs
  "dpo": Entry(sigmoid.dpo, "pairs", "2305.18290"),
  "robust_dpo": Entry(sigmoid.robust_dpo, "pairs", "2403.00409"),
  "ipo": Entry(squared.ipo, "pairs", "2310.12036", monotone=False),
  "ipo_avg": Entry(squared.ipo_avg, "pairs", "2310.12036", monotone=False),
  "ipo_soft": Entry(squared.ipo_soft, "pairs", "2403.08635", monotone=False),
  "dpop": Entry(sigmoid.dpop, "pairs", "2402.13228"),
  "slic_hf": Entry(margin.slic_hf, "pairs", "2305.10425"),
  "simpo": Entry(sigmoid.simpo, "pairs", "2405.14734"),
  "cpo": Entry(sigmoid.cpo, "pairs", "2401.08417"),
  "orpo": Entry(odds.orpo, "pairs", "2403.07691"),
  "dpo_soft": Entry(sigmoid.dpo_soft, "pairs", "2305.18290", monotone=False),
  "f_dpo_forward_kl": Entry(divergence.f_dpo_forward_kl, "pairs", "2309.16240"),
  "f_dpo_js": Entry(divergence.f_dpo_js, "pairs", "2309.16240"),
  "f_dpo_alpha": Entry(divergence.f_dpo_alpha, "pairs", "2309.16240"),
  "r_dpo": Entry(offset.r_dpo, "pairs", "2403.19159"),
  "dpo_length_normalized": Entry(
    offset.dpo_length_normalized, "pairs", "2411.15124"
  ),
  "odpo": Entry(offset.odpo, "pairs", "2402.10571"),
  "aot_paired": Entry(
    optimal_transport.aot_paired, "pairs", "2406.05882", coupled=True
  ),
  "exo": Entry(reward.exo, "pairs", "2402.00856", monotone=False),
  "discopop": Entry(reward.discopop, "pairs", "2406.08414", monotone=False),
  "nca": Entry(reward.nca, "pairs", "2402.05369", monotone=False),
  "apo_zero": Entry(reward.apo_zero, "pairs", "2408.06266"),
  "apo_down": Entry(reward.apo_down, "pairs", "2408.06266", monotone=False),
  "sppo": Entry(squared.sppo, "pairs", "2405.00675", monotone=False),
  "sppo_soft": Entry(squared.sppo_soft, "pairs", "2405.00675", monotone=False),
  "slic_ratio": Entry(margin.slic_ratio, "pairs", "2309.06657"),
  "alpha_po": Entry(divergence.alpha_po, "pairs", "2501.03884"),
  "asft": Entry(odds.asft, "pairs", "2409.10571"),
  "bco": Entry(anchored.bco, "pairs", "2404.04656"),
  "aot_unpaired": Entry(
    optimal_transport.aot_unpaired, "pairs", "2406.05882", coupled=True
  ),
  "modpo": Entry(objectives.modpo, "pairs", "2310.03708"),
  "mm_dpo": Entry(objectives.mm_dpo, "pairs", "2502.10391"),
  "flex_dpo": Entry(objectives.flex_dpo, "pairs", "2406.07327"),
  "selm": Entry(third.selm, "pairs", "2405.19332"),
  "rationale_dpo": Entry(third.rationale_dpo, "pairs", "2407.14477"),
  "rationale_dpo_logsigmoid": Entry(
    third.rationale_dpo_logsigmoid, "pairs", "2407.14477"
  ),
  "tpo": Entry(third.tpo, "pairs", "2405.16681"),
  "tpo_l": Entry(third.tpo_l, "pairs", "2405.16681"),
  "ld_dpo": Entry(tokenwise.ld_dpo, "pairs", "2409.06411"),
  "wpo": Entry(tokenwise.wpo, "pairs", "2406.11827", detached=True),
  "inpo": Entry(iterated.inpo, "pairs", "2407.00617", monotone=False),
  "xpo": Entry(iterated.xpo, "pairs", "2405.21046", monotone=False),
  "p3o": Entry(two_samples.p3o, "pairs", "2310.00212", monotone=False),
  "p3o_joint": Entry(
    two_samples.p3o_joint, "pairs", "2310.00212", monotone=False, detached=True
  ),
  # -------------------------------------------------------------- sequences
  "sft": Entry(sft.sft, "sequences", "2203.02155", "tokens"),
  "sft_sum": Entry(sft.sft_sum, "sequences", "2203.02155"),
  "sft_avg": Entry(sft.sft_avg, "sequences", "2203.02155"),
  "poft": Entry(contrast.poft, "sequences", "2412.12865"),
  "a_lol": Entry(advantage.a_lol, "sequences", "2305.14718", detached=True),
  "a_lol_ref_free": Entry(advantage.a_lol_ref_free, "sequences", "2305.14718"),
  "a_lol_kl": Entry(
    advantage.a_lol_kl, "sequences", "2305.14718", monotone=False
  ),
  "r_lol": Entry(
    advantage.r_lol, "sequences", "2305.14718", monotone=False, detached=True
  ),
  "remax": Entry(
    score_function.remax, "sequences", "2310.10505", monotone=False
  ),
  "sppo_win_rate": Entry(
    preference_game.sppo_win_rate, "sequences", "2405.00675", monotone=False
  ),
  "f_dpg_reverse_kl": Entry(
    distributional.f_dpg_reverse_kl,
    "sequences",
    "2302.08215",
    monotone=False,
    detached=True,
  ),
  "f_dpg_forward_kl": Entry(
    distributional.f_dpg_forward_kl,
    "sequences",
    "2302.08215",
    monotone=False,
    detached=True,
  ),
  "f_dpg_js": Entry(
    distributional.f_dpg_js,
    "sequences",
    "2302.08215",
    monotone=False,
    detached=True,
  ),
  "f_dpg_tv": Entry(
    distributional.f_dpg_tv,
    "sequences",
    "2302.08215",
    monotone=False,
    detached=True,
  ),
  "f_dpg_forward_chi2": Entry(
    distributional.f_dpg_forward_chi2,
    "sequences",
    "2302.08215",
    monotone=False,
    detached=True,
  ),
  "f_dpg_reverse_chi2": Entry(
    distributional.f_dpg_reverse_chi2,
    "sequences",
    "2302.08215",
    monotone=False,
    detached=True,
  ),
  # ----------------------------------------------------------------- tokens
  "unlikelihood": Entry(
    unlikelihood.unlikelihood, "tokens", "1908.04319", "tokens"
  ),
  "unlikelihood_sequence": Entry(
    unlikelihood.unlikelihood_sequence, "tokens", "1908.04319", "tokens"
  ),
  "cut": Entry(contrast.cut, "tokens", "2312.14591", detached=True),
  "a_lol_seq": Entry(
    advantage.a_lol_seq, "tokens", "2305.14718", detached=True
  ),
  "reinforce": Entry(
    score_function.reinforce, "tokens", "2402.14740", "tokens"
  ),
  "ppo_clip": Entry(ppo.ppo_clip, "tokens", "1707.06347", "tokens"),
  "value_clip": Entry(ppo.value_clip, "tokens", "2307.04964", "tokens"),
  "nash_md": Entry(
    preference_game.nash_md, "tokens", "2312.00886", detached=True
  ),
  "nash_md_token_kl": Entry(
    preference_game.nash_md_token_kl, "tokens", "2312.00886", detached=True
  ),
  "nash_prox": Entry(
    preference_game.nash_prox, "tokens", "2505.19731", detached=True
  ),
  # ------------------------------------------------------------------ lists
  "pair_logistic": Entry(ordered_pairs.pair_logistic, "lists", "2402.01878"),
  "pair_hinge": Entry(ordered_pairs.pair_hinge, "lists", "2402.01878"),
  "list_mle": Entry(orders.list_mle, "lists", "2402.01878"),
  "list_net": Entry(
    soft_labels.list_net, "lists", "2402.01878", monotone=False
  ),
  "lipo_lambda": Entry(
    ordered_pairs.lipo_lambda, "lists", "2402.01878", monotone=False
  ),
  "lipo_lambda_rax": Entry(
    ordered_pairs.lipo_lambda_rax, "lists", "2402.01878", monotone=False
  ),
  "point_mse": Entry(points.point_mse, "lists", "2402.01878", monotone=False),
  "point_sigmoid": Entry(
    points.point_sigmoid, "lists", "2402.01878", monotone=False
  ),
  "info_nca": Entry(
    soft_labels.info_nca, "lists", "2402.05369", monotone=False
  ),
  "nca_list": Entry(
    soft_labels.nca_list, "lists", "2402.05369", monotone=False
  ),
  "exo_list": Entry(
    soft_labels.exo_list, "lists", "2402.00856", monotone=False
  ),
  "pro": Entry(orders.pro, "lists", "2306.17492"),
  "rrhf": Entry(calibration.rrhf, "lists", "2304.05302"),
  "aft": Entry(calibration.aft, "lists", "2309.02144"),
  "aft_detached": Entry(
    calibration.aft_detached, "lists", "2309.02144", detached=True
  ),
  "aft_boundary": Entry(
    calibration.aft_boundary,
    "lists",
    "2309.02144",
    monotone=False,
    detached=True,
  ),
  "rloo": Entry(group_relative.rloo, "lists", "2402.14740", detached=True),
  # --------------------------------------------------------------- unpaired
  "kto": Entry(
    unpaired.kto, "unpaired", "2402.01306", coupled=True, detached=True
  ),
  "bco_unpaired": Entry(unpaired.bco_unpaired, "unpaired", "2404.04656"),
  "bco_unpaired_matched": Entry(
    unpaired.bco_unpaired_matched, "unpaired", "2404.04656"
  ),
  "apo_zero_unpaired": Entry(
    unpaired.apo_zero_unpaired, "unpaired", "2408.06266"
  ),
  # --------------------------------------------------------------- segments
  "cpl": Entry(trajectory.cpl, "segments", "2310.13639"),
  "cpl_kl": Entry(trajectory.cpl_kl, "segments", "2310.13639"),
  "cpl_ranked": Entry(trajectory.cpl_ranked, "ranked_segments", "2310.13639"),
  "regret_preference": Entry(
    trajectory.regret_preference, "segments", "2206.02231"
  ),
  "partial_return_preference": Entry(
    trajectory.partial_return_preference, "segments", "2206.02231"
  ),
  # --------------------------------------------------------------- rollouts
  "grpo": Entry(group_relative.grpo, "rollouts", "2402.03300"),
  "dr_grpo": Entry(group_relative.dr_grpo, "rollouts", "2503.20783"),
  # ------------------------------------------------------- reward models
  **REWARD_MODELS,
  # ---------------------------------------------- distributions and errors
  "align_distil": Entry(
    distillation.align_distil, "distributions", "2503.02832"
  ),
  "token_distillation": Entry(
    distillation.token_distillation, "distributions", "2503.02832", "tokens"
  ),
  "context_distillation": Entry(
    distillation.context_distillation, "distributions", "2112.00861", "tokens"
  ),
  "top_k_distillation": Entry(
    distillation.top_k_distillation, "distributions", "2112.00861", "tokens"
  ),
  "diffusion_dpo": Entry(diffusion.diffusion_dpo, "errors", "2311.12908"),
  "mapo": Entry(diffusion.mapo, "errors", "2406.06424"),
}


def resolve(
  name: str, beside: tuple[str, ...] = (), **settings: Any
) -> tuple[Callable[..., Array], Entry]:
  """A loss of the CATALOGUE by name, with its hyperparameters bound.

  Args:
    name: a key of CATALOGUE.
    beside: more names for the error to list, after CATALOGUE's.
    **settings: hyperparameters.

  Returns:
    The loss and its `Entry`.

  Raises:
    UserError: the name is unknown, or the loss takes no such hyperparameter.
  """
  if name not in CATALOGUE:
    raise UserError(
      f"unknown loss {name!r}.",
      where="loss.name",
      remedy=f"{meant(name, (*CATALOGUE, *beside))}`python -m jalign.losses`"
      " lists all.",
    )
  entry = CATALOGUE[name]
  check_settings(name, entry.function, settings)
  return functools.partial(entry.function, **settings), entry


def entry_of(loss: Callable[..., Array]) -> Entry:
  """The `Entry` of a loss, or of the loss inside a functools.partial.

  A weighted sum has an entry of its own. A loss that isn't in the catalogue
  counts as an uncoupled loss on pairs, whose sum is divided by examples.
  """
  function = loss
  while isinstance(function, functools.partial):
    function = function.func
  if isinstance(own := getattr(function, "entry", None), Entry):
    return own
  for entry in CATALOGUE.values():
    if entry.function is function:
      return entry
  return Entry(loss, "pairs", paper="")
