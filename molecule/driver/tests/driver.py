"""The role as an operator runs it, and what it leaves on the host."""

from __future__ import annotations

import re

import ansible_playbook
from host import Host

PLAYBOOK = "playbooks/driver.yml"


def apply(**variables: object) -> str:
    """Run the role with these variables, which must succeed, and return what it printed."""
    done = ansible_playbook.run(PLAYBOOK, variables)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def check(**variables: object) -> str:
    """Run the role in check mode, which must succeed, and return what it printed."""
    done = ansible_playbook.run(PLAYBOOK, variables, ["--check"])
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def refused(**variables: object) -> str:
    """Run the role, which must refuse, and return what it printed with its lines joined."""
    done = ansible_playbook.run(PLAYBOOK, variables)
    assert done.returncode != 0, done.stdout[-4000:]
    return re.sub(r"\s+", " ", done.stdout.replace("\\n", " "))


def changed(output: str) -> int:
    """Return how many tasks changed the host, from the recap."""
    (count,) = re.findall(r"^driver1 .*changed=(\d+)", output, re.MULTILINE)
    return int(count)


def installed(host: Host) -> dict[str, str]:
    """Return the version of every package of the driver that is wholly installed."""
    form = "${Package} ${Version} ${db:Status-Abbrev}\n"
    names = "'nvidia-*' 'libnvidia-*' 'firmware-nvidia-*' libcuda1"
    lines = host.run(f"dpkg-query --show --showformat='{form}' {names}", check=False)
    fields = (line.split() for line in lines.splitlines())
    return {field[0]: field[1] for field in fields if len(field) == 3 and field[2].endswith("i")}


def version(host: Host) -> str:
    """Return the version of the installed driver, without the revision of its package."""
    return installed(host)["nvidia-smi"].partition("-")[0]


def kernels(host: Host) -> list[str]:
    """Return the releases of the installed kernels."""
    return host.run("ls /boot | sed -n s/^vmlinuz-//p").split()
