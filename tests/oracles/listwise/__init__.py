"""float64 twins of jalign.losses.listwise, from the papers' formulas.

Each twin takes the valid responses of one list, in the paper's own form: it
sorts where the paper sorts, and isn't rearranged for stability. A
`<loss>_gradient`, in the log-probs, is derived by hand.
"""

from tests.oracles.listwise.averages import *  # noqa: F403
from tests.oracles.listwise.rewards import *  # noqa: F403
