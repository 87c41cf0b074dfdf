"""The table of online algorithms: rows by name."""

from jalign.online.algorithm import Algorithm
from jalign.online.rows import games, iterated, pairs

ALGORITHMS: dict[str, Algorithm] = {
  **pairs.ROWS,
  **games.ROWS,
  **iterated.ROWS,
}
