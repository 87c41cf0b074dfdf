"""Attained speed of decoding against the machine's limits, as a plot.

A step multiplies every weight (the head's table included) once by each row,
which is 2 B FLOP a weight, and reads each weight once. Attention and the cache
are left out of both numbers. The limits are those measured in the points' runs.
"""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from jalign.pages.style import PALETTE, STYLE

_BYTES = {"float32": 4, "bfloat16": 2}
_SHAPES = {"s": "o", "m": "s"}


def placed(record: dict[str, Any]) -> dict[str, tuple[float, float]]:
  """Contestant -> (FLOP per byte of weights, GFLOP/s) of a decoding point."""
  size = _BYTES[record["dtype"]]
  flop = 2 * record["batch"] * record["weight_bytes"] / size
  seconds = record["seconds"].items()
  return {
    name: (
      flop / record["weight_bytes"],
      flop * record["new_tokens"] / x[0] / 1e9,
    )
    for name, x in seconds
  }


def draw(records: list[dict[str, Any]], path: str) -> None:
  """Writes the plot, with one panel for each dtype."""
  points = [r for r in records if r.get("floors") and "weight_bytes" in r]
  kinds = [d for d in _BYTES if any(r["dtype"] == d for r in points)]
  names = sorted({name for r in points for name in r["seconds"]})
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(5 * max(len(kinds), 1), 4.2), layout="constrained")
    axes = figure.subplots(1, max(len(kinds), 1), sharey=True, squeeze=False)
    for axis, dtype in zip(axes[0], kinds):
      mine = [r for r in points if r["dtype"] == dtype]
      _limits(axis, mine, dtype)
      for i, name in enumerate(names):
        for size, shape in _SHAPES.items():
          at = [
            placed(r)[name]
            for r in mine
            if r["size"] == size and name in r["seconds"]
          ]
          if at:
            axis.plot(
              *zip(*sorted(at)),
              marker=shape,
              markersize=6,
              color=PALETTE[i],
              label=f"{name}, {size}",
              linewidth=1,
              linestyle="-" if shape == "o" else "--",
            )
      axis.set(xscale="log", yscale="log", title=f"Decoding, {dtype}")
      for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter("{x:g}")
      axis.set_xlabel("FLOP per byte of weights")
      axis.legend(loc="lower right", frameon=False, fontsize="small")
    axes[0][0].set_ylabel("GFLOP/s")
    figure.savefig(path, dpi=150)


def _limits(axis, points, dtype):
  read = np.median([r["floors"]["read_gb_s"] for r in points])
  key = f"gemm_{dtype}_gflop_s"
  most = np.median([r["floors"][key] for r in points])
  # Leaves a little room on both sides of the batches and of the ridge.
  ridge = most / read
  batches = [placed(r)["jalign"][0] for r in points]
  x = np.geomspace(min(batches) / 2, max(*batches, ridge) * 3, 200)
  axis.plot(x, np.minimum(read * x, most), color="#4D4D4D", linewidth=2)
  note = dict(fontsize="small", color="#4D4D4D")
  axis.annotate(
    f"{read:.0f} GB/s read",
    (ridge / 3, read * ridge / 3),
    xytext=(-6, 6),
    textcoords="offset points",
    ha="right",
    **note,
  )
  axis.annotate(
    f"{most:.0f} GFLOP/s of products",
    (x[-1], most),
    xytext=(0, 5),
    textcoords="offset points",
    ha="right",
    **note,
  )
