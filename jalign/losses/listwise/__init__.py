"""Losses on lists of responses to one prompt."""

from jalign.losses.listwise.calibration import (
  aft,
  aft_boundary,
  aft_detached,
  rrhf,
)
from jalign.losses.listwise.ordered_pairs import (
  lipo_lambda,
  lipo_lambda_rax,
  pair_hinge,
  pair_logistic,
)
from jalign.losses.listwise.orders import (
  list_mle,
  pro,
)
from jalign.losses.listwise.points import (
  point_mse,
  point_sigmoid,
)
from jalign.losses.listwise.soft_labels import (
  exo_list,
  info_nca,
  list_net,
  nca_list,
)

__all__ = [
  "aft",
  "aft_boundary",
  "aft_detached",
  "exo_list",
  "info_nca",
  "lipo_lambda",
  "lipo_lambda_rax",
  "list_mle",
  "list_net",
  "nca_list",
  "pair_hinge",
  "pair_logistic",
  "point_mse",
  "point_sigmoid",
  "pro",
  "rrhf",
]
