"""The built wheel works from another directory."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_the_wheel_holds_the_whole_package(tmp_path):
  run = lambda *command, **kw: subprocess.run(
    command, check=True, capture_output=True, text=True, **kw
  )
  pip = (sys.executable, "-m", "pip", "--quiet")
  wheels, site = tmp_path / "wheels", tmp_path / "site"
  run(*pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(ROOT))
  (wheel,) = wheels.glob("jalign-*.whl")
  run(*pip, "install", "--no-deps", "--target", str(site), str(wheel))

  installed = {p.relative_to(site) for p in (site / "jalign").rglob("*.py")}
  sources = {p.relative_to(ROOT) for p in (ROOT / "jalign").rglob("*.py")}
  assert installed == sources
  for name in ("py.typed", "pages/report.css"):
    assert (site / "jalign" / name).exists()
  assert list((site / "jalign").rglob("report.html.jinja"))
  assert not (site / "tests").exists() and not (site / "experiments").exists()

  environment = os.environ | {"PYTHONPATH": str(site)}
  code = (
    "import jalign, jalign.cli as c; print(jalign.__file__); c.main(['-h'])"
  )
  said = run(
    sys.executable, "-c", code, cwd=str(tmp_path), env=environment
  ).stdout
  assert said.startswith(str(site)) and "usage: jalign" in said
