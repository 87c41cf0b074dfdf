"""Every loss by name; the README, the CLI and the property tests read this."""

import difflib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from jalign.errors import UserError
from jalign.losses import likelihood, listwise, pairwise
from jalign.losses.signature import hyperparameters
from jalign.types import Array


class Entry(NamedTuple):
  """A row of the catalogue.

  Attributes:
    function: arrays in, per-example losses out.
    batch: kind of batch, a key of VOCABULARY.
    paper: arXiv id.
    denominator: what a batch's sum is divided by, "examples" or "tokens".
    coupled: whether an example's loss depends on the rest of its batch.
    monotone: whether, with its defaults, the loss never rises with the log-prob
      of a good response nor falls with that of a bad one.
    detached: whether it holds something constant that the policy decides: its
      gradient isn't that of its values.
  """

  function: Callable[..., Array]
  batch: str
  paper: str
  denominator: str = "examples"
  coupled: bool = False
  monotone: bool = True
  detached: bool = False


CATALOGUE: dict[str, Entry] = {
  # ------------------------------------------------------------------ pairs
  "dpo": Entry(pairwise.dpo, "pairs", "2305.18290"),
  "robust_dpo": Entry(pairwise.robust_dpo, "pairs", "2403.00409"),
  "ipo": Entry(pairwise.ipo, "pairs", "2310.12036", monotone=False),
  "ipo_avg": Entry(pairwise.ipo_avg, "pairs", "2310.12036", monotone=False),
  "ipo_soft": Entry(pairwise.ipo_soft, "pairs", "2403.08635", monotone=False),
  "dpop": Entry(pairwise.dpop, "pairs", "2402.13228"),
  "slic_hf": Entry(pairwise.slic_hf, "pairs", "2305.10425"),
  "simpo": Entry(pairwise.simpo, "pairs", "2405.14734"),
  "cpo": Entry(pairwise.cpo, "pairs", "2401.08417"),
  "orpo": Entry(pairwise.orpo, "pairs", "2403.07691"),
  "dpo_soft": Entry(pairwise.dpo_soft, "pairs", "2305.18290", monotone=False),
  "f_dpo_forward_kl": Entry(pairwise.f_dpo_forward_kl, "pairs", "2309.16240"),
  "f_dpo_js": Entry(pairwise.f_dpo_js, "pairs", "2309.16240"),
  "f_dpo_alpha": Entry(pairwise.f_dpo_alpha, "pairs", "2309.16240"),
  "r_dpo": Entry(pairwise.r_dpo, "pairs", "2403.19159"),
  "dpo_length_normalized": Entry(
    pairwise.dpo_length_normalized, "pairs", "2411.15124"
  ),
  "odpo": Entry(pairwise.odpo, "pairs", "2402.10571"),
  "aot_paired": Entry(pairwise.aot_paired, "pairs", "2406.05882", coupled=True),
  "exo": Entry(pairwise.exo, "pairs", "2402.00856", monotone=False),
  "discopop": Entry(pairwise.discopop, "pairs", "2406.08414", monotone=False),
  "nca": Entry(pairwise.nca, "pairs", "2402.05369", monotone=False),
  "apo_zero": Entry(pairwise.apo_zero, "pairs", "2408.06266"),
  "apo_down": Entry(pairwise.apo_down, "pairs", "2408.06266", monotone=False),
  "sppo": Entry(pairwise.sppo, "pairs", "2405.00675", monotone=False),
  "sppo_soft": Entry(pairwise.sppo_soft, "pairs", "2405.00675", monotone=False),
  "slic_ratio": Entry(pairwise.slic_ratio, "pairs", "2309.06657"),
  "alpha_po": Entry(pairwise.alpha_po, "pairs", "2501.03884"),
  "asft": Entry(pairwise.asft, "pairs", "2409.10571"),
  # -------------------------------------------------------------- sequences
  "sft": Entry(likelihood.sft, "sequences", "2203.02155", "tokens"),
  "sft_avg": Entry(likelihood.sft_avg, "sequences", "2203.02155"),
  # ----------------------------------------------------------------- tokens
  # ------------------------------------------------------------------ lists
  "pair_logistic": Entry(listwise.pair_logistic, "lists", "2402.01878"),
  "pair_hinge": Entry(listwise.pair_hinge, "lists", "2402.01878"),
  "list_mle": Entry(listwise.list_mle, "lists", "2402.01878"),
  "list_net": Entry(listwise.list_net, "lists", "2402.01878", monotone=False),
  "lipo_lambda": Entry(
    listwise.lipo_lambda, "lists", "2402.01878", monotone=False
  ),
  "lipo_lambda_rax": Entry(
    listwise.lipo_lambda_rax, "lists", "2402.01878", monotone=False
  ),
  "point_mse": Entry(listwise.point_mse, "lists", "2402.01878", monotone=False),
  "point_sigmoid": Entry(
    listwise.point_sigmoid, "lists", "2402.01878", monotone=False
  ),
  "info_nca": Entry(listwise.info_nca, "lists", "2402.05369", monotone=False),
  "nca_list": Entry(listwise.nca_list, "lists", "2402.05369", monotone=False),
  "exo_list": Entry(listwise.exo_list, "lists", "2402.00856", monotone=False),
  "pro": Entry(listwise.pro, "lists", "2306.17492"),
  "rrhf": Entry(listwise.rrhf, "lists", "2304.05302"),
  "aft": Entry(listwise.aft, "lists", "2309.02144"),
  "aft_detached": Entry(
    listwise.aft_detached, "lists", "2309.02144", detached=True
  ),
  "aft_boundary": Entry(
    listwise.aft_boundary,
    "lists",
    "2309.02144",
    monotone=False,
    detached=True,
  ),
  "rloo": Entry(listwise.rloo, "lists", "2402.14740", detached=True),
  # --------------------------------------------------------------- unpaired
  # --------------------------------------------------------------- segments
  # --------------------------------------------------------------- rollouts
  # ----------------------------------------------------------------- scores
  # ---------------------------------------------- distributions and errors
  # ----------------------------------------------------------- experimental
}


def resolve(name: str, **settings: Any) -> tuple[Callable[..., Array], Entry]:
  """A loss by name, with its hyperparameters bound.

  Raises:
    UserError: the name is unknown, or the loss takes no such hyperparameter.
  """
  if name not in CATALOGUE:
    near = difflib.get_close_matches(name, CATALOGUE, n=1)
    raise UserError(
      f"unknown loss {name!r}."
      + (f" Did you mean {near[0]!r}?" if near else ""),
      where="loss.name",
      remedy=f"Known: {', '.join(CATALOGUE)}.",
    )
  entry = CATALOGUE[name]
  known = hyperparameters(entry.function)
  for key in settings:
    if key not in known:
      takes = ", ".join(f"{k}={v}" for k, v in known.items()) or "none"
      raise UserError(
        f"{name} has no hyperparameter {key!r}.",
        where=f"loss.{key}",
        remedy=f"It has: {takes}.",
      )
  return functools.partial(entry.function, **settings), entry


def entry_of(loss: Callable[..., Array]) -> Entry:
  """The catalogue's row of a loss, through functools.partial.

  A loss that isn't in the catalogue counts as one on pairs, divided by
  examples and not coupled.
  """
  function = loss
  while isinstance(function, functools.partial):
    function = function.func
  for entry in CATALOGUE.values():
    if entry.function is function:
      return entry
  return Entry(loss, "pairs", paper="")
