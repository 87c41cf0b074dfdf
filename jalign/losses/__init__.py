"""Losses: functions from arrays to per-example arrays.

They see no model, config, tokenizer or reduction. A loss's positional
parameters are arrays, with names that its kind of batch gives (see
`jalign.training.kinds`); its keyword-only parameters are hyperparameters.

Every loss of the CATALOGUE is a name of this package, `jalign.losses.dpo` for
example. Nothing has to be added here for a new loss.
"""
# ruff: noqa: F403

from typing import TYPE_CHECKING

from jalign.losses import advantages as advantages
from jalign.losses import kl as kl
from jalign.losses import reward_transforms as reward_transforms
from jalign.losses.catalogue import CATALOGUE as CATALOGUE
from jalign.losses.catalogue import Entry as Entry
from jalign.losses.catalogue import entry_of as entry_of
from jalign.losses.compose import Term as Term
from jalign.losses.compose import WeightedSum as WeightedSum
from jalign.losses.compose import terms_of as terms_of
from jalign.losses.compose import weighted_sum as weighted_sum
from jalign.losses.likelihood.unlikelihood import (
  previous_token_candidates as previous_token_candidates,
)
from jalign.losses.likelihood.unlikelihood import (
  repeated_ngrams as repeated_ngrams,
)
from jalign.losses.pairwise.anchored import bco_shift_update as bco_shift_update
from jalign.losses.pairwise.tokenwise import shared_logps as shared_logps
from jalign.losses.pairwise.tokenwise import wpo_weights as wpo_weights
from jalign.losses.presets import PRESETS as PRESETS
from jalign.losses.presets import cpo_sft as cpo_sft
from jalign.losses.presets import mpo as mpo
from jalign.losses.presets import ppo as ppo
from jalign.losses.presets import resolve as resolve
from jalign.losses.presets import rpo as rpo
from jalign.losses.presets import rpo_code as rpo_code
from jalign.losses.rewards.contrastive import (
  both_differences as both_differences,
)
from jalign.losses.rewards.contrastive import both_responses as both_responses
from jalign.losses.rewards.contrastive import sinkhorn_codes as sinkhorn_codes
from jalign.losses.rewards.contrastive import swapped_codes as swapped_codes
from jalign.losses.rewards.contrastive import view_matching as view_matching
from jalign.losses.rewards.critique import (
  centred_token_scores as centred_token_scores,
)
from jalign.losses.rewards.critique import (
  divergence_scores as divergence_scores,
)
from jalign.losses.rewards.ensemble import (
  preference_strength as preference_strength,
)
from jalign.losses.rewards.ensemble import relabelled as relabelled
from jalign.losses.rewards.ensemble import score_spread as score_spread
from jalign.losses.rewards.min_norm import min_norm_of_two as min_norm_of_two
from jalign.losses.rewards.min_norm import min_norm_weights as min_norm_weights
from jalign.losses.rewards.more import (
  objective_gradients as objective_gradients,
)
from jalign.losses.rewards.more import objective_weights as objective_weights
from jalign.losses.rewards.preference_model import (
  general_preference_score as general_preference_score,
)
from jalign.losses.rewards.preference_model import order_gap as order_gap
from jalign.losses.rewards.raters import cyclical_cosine as cyclical_cosine
from jalign.losses.rewards.raters import latent_kl as latent_kl
from jalign.losses.rewards.verdicts import elo as elo
from jalign.losses.rewards.verdicts import (
  verdict_probability as verdict_probability,
)
from jalign.losses.rewards.verdicts import verdict_rewards as verdict_rewards
from jalign.losses.signature import array_parameters as array_parameters
from jalign.losses.signature import formula_of as formula_of
from jalign.losses.signature import hyperparameters as hyperparameters
from jalign.losses.signature import name_of as name_of
from jalign.losses.trajectory import (
  deterministic_regret as deterministic_regret,
)
from jalign.losses.unpaired import (
  bco_unpaired_shift_update as bco_unpaired_shift_update,
)
from jalign.losses.unpaired import kto_reference_point as kto_reference_point
from jalign.losses.unpaired import matching_weights as matching_weights

if TYPE_CHECKING:  # where type checkers and editors find the losses
  from jalign.losses.diffusion import *
  from jalign.losses.distillation import *
  from jalign.losses.likelihood.advantage import *
  from jalign.losses.likelihood.contrast import *
  from jalign.losses.likelihood.sft import *
  from jalign.losses.likelihood.unlikelihood import *
  from jalign.losses.listwise.calibration import *
  from jalign.losses.listwise.ordered_pairs import *
  from jalign.losses.listwise.orders import *
  from jalign.losses.listwise.points import *
  from jalign.losses.listwise.soft_labels import *
  from jalign.losses.pairwise.anchored import *
  from jalign.losses.pairwise.divergence import *
  from jalign.losses.pairwise.iterated import *
  from jalign.losses.pairwise.margin import *
  from jalign.losses.pairwise.objectives import *
  from jalign.losses.pairwise.odds import *
  from jalign.losses.pairwise.offset import *
  from jalign.losses.pairwise.optimal_transport import *
  from jalign.losses.pairwise.reward import *
  from jalign.losses.pairwise.sigmoid import *
  from jalign.losses.pairwise.squared import *
  from jalign.losses.pairwise.third import *
  from jalign.losses.pairwise.tokenwise import *
  from jalign.losses.policy_gradient.distributional import *
  from jalign.losses.policy_gradient.group_relative import *
  from jalign.losses.policy_gradient.ppo import *
  from jalign.losses.policy_gradient.preference_game import *
  from jalign.losses.policy_gradient.score_function import *
  from jalign.losses.policy_gradient.two_samples import *
  from jalign.losses.rewards.contrastive import *
  from jalign.losses.rewards.critique import *
  from jalign.losses.rewards.more import *
  from jalign.losses.rewards.objectives import *
  from jalign.losses.rewards.preference_model import *
  from jalign.losses.rewards.raters import *
  from jalign.losses.rewards.scalar import *
  from jalign.losses.trajectory import *
  from jalign.losses.unpaired import *

globals().update((name, entry.function) for name, entry in CATALOGUE.items())
