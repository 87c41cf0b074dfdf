"""The table of online algorithms: rows by name."""

from jalign.online.algorithm import Algorithm
from jalign.online.rows import pairs

ALGORITHMS: dict[str, Algorithm] = {**pairs.ROWS}
