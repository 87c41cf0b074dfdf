"""Installing: uv gets the settings of pip's configuration, or pip installs."""

import pathlib
import runpy
import subprocess

import pytest

PATH = pathlib.Path(__file__).resolve().parents[1] / ".ci" / "install.py"
install = runpy.run_path(str(PATH))

LISTING = r"""
:env:.find-links='/opt/wheels'
:env:.default-timeout='180'
download.no-index='1'
global.find-links='/elsewhere'
global.index-url='https://user:a=b@mirror.example/simple'
global.extra-index-url='\nfile:///one\nfile:///two'
global.constraint='/etc/old.txt'
install.constraint='/etc/constraints.txt'
"""


def test_settings_of_pip_become_flags_of_uv():
  values = install["settings"](LISTING)
  flags = install["uv_flags"](values)
  pairs = set(zip(flags[::2], flags[1::2]))
  assert pairs == {
    ("--index-strategy", "unsafe-best-match"),
    ("--find-links", "/opt/wheels"),
    ("--default-index", "https://user:a=b@mirror.example/simple"),
    ("--index", "file:///one"),
    ("--index", "file:///two"),
    ("--constraint", "/etc/constraints.txt"),
  }


@pytest.mark.parametrize(
  "listing,uv_works,by",
  [
    (LISTING, True, "uv"),
    ("", True, "uv"),
    ("global.no-binary='numpy'", True, "pip"),
    (LISTING, False, "pip"),
  ],
)
def test_who_installs(monkeypatch, listing, uv_works, by):
  commands = []

  def call(command, env=None):
    commands.append(command)
    return 0 if uv_works or "uv" not in command else 2

  printed = lambda command, **_: subprocess.CompletedProcess(
    command, 0, listing
  )
  monkeypatch.setattr(subprocess, "call", call)
  monkeypatch.setattr(subprocess, "run", printed)
  install["main"](".[test]")
  assert commands[-1][2] == by
  assert commands[-1][-2:] == ["--editable", ".[test]"]


def test_a_failure_of_pip_is_a_failure(monkeypatch):
  monkeypatch.setattr(subprocess, "call", lambda command, env=None: 3)
  with pytest.raises(SystemExit, match="3"):
    install["main"](".")
