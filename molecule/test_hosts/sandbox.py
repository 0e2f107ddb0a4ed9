"""Sees the sandbox of a unit act: runs sandbox_probe.py in the place of the unit's own program.

The unit that runs it is a copy of the real one, drop-ins included, in which only the commands
differ. Outside of any sandbox the same probe shows what its attempts are worth: root can do all of
it, and an ordinary user all that no user's rights forbid.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

from sandbox_probe import ATTEMPTS

PROBE = "/usr/local/lib/sandbox_probe.py"
REPORT = "/run/sandbox-probe.json"
# What the kernel refuses to ordinary users by itself.
ROOT_ONLY = {
    "write to /etc",
    "write to /usr",
    "write to /var/log",
    "write to the releases",
    "write to the models",
    "read the home of root",
    "read a stored credential",
    "read a credential of another service",
    "open memory",
    "open the kernel's log",
    "make a device node",
    "read the kernel's log",
    "change a tunable of the kernel",
    "change an object of the kernel",
    "make a control group",
    "set the host's name",
    "make a mount namespace",
    "enter the host's namespace",
    "mount",
    "change the root directory",
    "become root",
    "open a raw socket",
    "open a packet socket",
    "reach systemd's own socket",
    "read the environment of process 1",
}
# Errors that say: this kernel has no such thing.
NOT_IN_KERNEL = {"ENXIO", "ENOSYS", "EAFNOSUPPORT"}

LAY_OUT = """
set -e
mkdir -p /opt/gpufleet /var/lib/gpufleet/models /var/cache/gpufleet /home/sandbox-probe
mkdir -p -m 0700 /etc/gpufleet/credentials
install -d -m 0777 /srv/sandbox-probe
install -d -o USER -m 0700 /var/cache/gpufleet/sandbox-probe
for letter in /home/sandbox-probe/letter /root/sandbox-probe /tmp/sandbox-probe-letter; do
  echo "not yours" >$letter
  chmod 0644 $letter
done
(umask 077; echo "not yours" >/etc/gpufleet/credentials/sandbox-probe)
rm -f /dev/sandbox-probe-*
mknod -m 0666 /dev/sandbox-probe-memory c 1 1
mknod -m 0666 /dev/sandbox-probe-block b 7 0
mknod -m 0666 /dev/sandbox-probe-fuse c 10 229
install -m 4755 /usr/bin/id /usr/local/bin/sandbox-probe-id
systemctl stop sandbox-probe-peer sandbox-probe-other 2>/dev/null || true
systemd-run --quiet --unit=sandbox-probe-peer --uid=USER sleep infinity
systemd-run --quiet --unit=sandbox-probe-other --uid=daemon \
  --property=LoadCredential=key:/etc/gpufleet/credentials/sandbox-probe sleep infinity
"""
CLEAR = f"""
systemctl stop sandbox-probe-peer sandbox-probe-other
rm -rf /home/sandbox-probe /root/sandbox-probe /tmp/sandbox-probe-letter /srv/sandbox-probe \
  /etc/gpufleet/credentials/sandbox-probe /dev/sandbox-probe-* /usr/local/bin/sandbox-probe-id \
  /var/cache/gpufleet/sandbox-probe {PROBE} {REPORT} \
  /run/gpufleet/probe /var/cache/gpufleet/probe \
  /run/systemd/system/UNIT /run/systemd/system/UNIT.d
systemctl daemon-reload
"""
PLACE = """
systemctl cat UNIT >/run/systemd/system/COPY
mkdir -p /run/systemd/system/COPY.d
cat >/run/systemd/system/COPY.d/probe.conf <<'SETTINGS'
[Service]
Type=oneshot
Restart=no
PIDFile=
ExecStartPre=
ExecStart=
ExecStart=COMMAND
ExecStartPost=
ExecReload=
ExecStop=
ExecStopPost=
StandardOutput=truncate:REPORT
# It may be the directory of the service that runs.
RuntimeDirectoryPreserve=yes
MORE
SETTINGS
systemctl daemon-reload
systemctl start COPY
cat REPORT
"""


class Sandbox:
    """The sandbox of one unit, on a host where `run` runs a shell line as root.

    `run` raises when the line fails.
    """

    def __init__(self, run: Callable[[str], str], unit: str, user: str) -> None:
        """Lay out on the host what the probe goes for; some of it is `user`'s own."""
        self.run = run
        self.unit = unit
        name, instance, _ = unit.removesuffix(".service").partition("@")
        self.copy = f"{name}@probe.service" if instance else f"{name}-probe.service"
        text = Path(__file__).with_name("sandbox_probe.py").read_bytes()
        run(f"echo {base64.b64encode(text).decode()} | base64 --decode >{PROBE}")
        run(LAY_OUT.replace("USER", user))
        peer = run("systemctl show --property=MainPID --value sandbox-probe-peer").strip()
        self.command = f"/usr/bin/python3 {PROBE} {peer}"

    def clear(self) -> None:
        """Remove all of it from the host."""
        self.run(CLEAR.replace("UNIT", self.copy))

    def inside(self, *directories: str, settings: str = "") -> dict[str, str]:
        """Return what the probe reports in the unit's place, as sandbox_probe.py describes.

        The copy of the unit is an instance named "probe", or has "-probe" in its name: that counts
        for `directories` of its own. `settings` are lines that its section [Service] gets on top.
        """
        words = {
            "UNIT": self.unit,
            "COPY": self.copy,
            "COMMAND": " ".join([self.command, *directories]),
            "REPORT": REPORT,
            "MORE": settings,
        }
        lines = PLACE
        for word, value in words.items():
            lines = lines.replace(word, value)
        return self._parse(self.run(lines))

    def outside(self, user: str) -> dict[str, str]:
        """Return what the probe reports when `user` runs it in no sandbox."""
        command = f"systemd-run --quiet --wait --pipe --uid={user} {self.command}"
        return self._parse(self.run(command))

    @staticmethod
    def _parse(text: str) -> dict[str, str]:
        report = dict(json.loads(text))
        assert set(ATTEMPTS) <= set(report)
        assert "broken" not in report.values(), report
        return report
