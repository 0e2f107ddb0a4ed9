"""Gives ansible-test's virtual environments their pip without its own download site.

ansible-test calls this as it would call get-pip.py: with the packages to install, and options.
"""

from __future__ import annotations

import subprocess
import sys

packages = [word for word in sys.argv[1:] if not word.startswith("-")]
# In a process of its own: ensurepip turns off the settings of pip for all that follows.
subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
subprocess.run(
    [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *packages],
    check=True,
)
