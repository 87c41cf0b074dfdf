"""float64 twins of jalign.losses.pairwise, from the papers' formulas.

Each takes one pair at a time, in the paper's own form: probabilities and odds
where the paper has them, no algebra for stability. A `<loss>_coefficients` is
derived by hand: d_w = -dl/d log pi(y_w) and d_l = +dl/d log pi(y_l). Defaults
are the papers'.
"""

from tests.oracles.pairwise.beside import *  # noqa: F403
from tests.oracles.pairwise.margins import *  # noqa: F403
from tests.oracles.pairwise.rewards import *  # noqa: F403
from tests.oracles.pairwise.sorts import *  # noqa: F403
