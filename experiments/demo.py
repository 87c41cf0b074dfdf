"""`make demo`: an alignment from data to report in a few minutes.

python experiments/demo.py --workdir=runs/demo
"""

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def main() -> None:
  """Runs `jalign train` on the demo's config from the repository's root."""
  os.chdir(ROOT)
  sys.path.insert(0, str(ROOT))
  from jalign import cli

  cli.main(["train", "--config=experiments/configs/demo.py", *sys.argv[1:]])


if __name__ == "__main__":
  main()
