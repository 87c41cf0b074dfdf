"""float64 twins of jalign.losses.listwise, from the papers' formulas.

Each takes one list at a time, its valid responses only, in the paper's own
form: sorted where the paper sorts, no algebra for stability. A
`<loss>_gradient` in the log-probs is derived by hand.
"""

from tests.oracles.listwise.averages import *  # noqa: F403
from tests.oracles.listwise.rewards import *  # noqa: F403
