"""float64 twins of jalign.losses.pairwise, from the papers' formulas.

Each twin takes one pair, in the paper's own form: with probabilities and odds
where the paper has them, and not rearranged for stability. A
`<loss>_coefficients` is derived by hand: d_w = -dl/d log pi(y_w) and
d_l = +dl/d log pi(y_l). Defaults are the papers'.
"""

from tests.oracles.pairwise.beside import *  # noqa: F403
from tests.oracles.pairwise.iterated import *  # noqa: F403
from tests.oracles.pairwise.margins import *  # noqa: F403
from tests.oracles.pairwise.rewards import *  # noqa: F403
from tests.oracles.pairwise.sorts import *  # noqa: F403
