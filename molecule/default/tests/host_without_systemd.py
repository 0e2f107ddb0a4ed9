"""A host like the others, only that its first process is not systemd."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from podman import podman

NAME, ADDRESS = "default-nosystemd", "10.89.87.16"


@contextmanager
def host_without_systemd(folder: Path) -> Iterator[Path]:
    """Boot it; yields an inventory that adds it to the group gateway, which needs the least."""
    # As molecule/test_hosts/tasks/host.yml, without systemd.
    limits = ["--privileged", "--ulimit=nofile=20000:20000", "--ulimit=nproc=10000:10000"]
    cache = Path(os.environ["TEST_SSH_KEY"]).parents[1]
    authorities = "/usr/local/share/ca-certificates"
    limits += [
        f"--volume={cache}/wheels:/srv/wheels:ro",
        f"--volume={authorities}:{authorities}:ro",
    ]
    place = ["--network=gpufleet-test", f"--ip={ADDRESS}", f"--name=gpufleet-{NAME}", *limits]
    start = "update-ca-certificates && mkdir -p /run/sshd && exec /usr/sbin/sshd -D"
    image = "localhost/gpufleet-test/debian12"
    podman("--runtime=runc", "run", "--detach", "--replace", *place, image, "sh", "-c", start)
    try:
        key = Path(os.environ["TEST_SSH_KEY"]).with_suffix(".pub").read_text()
        trust = "umask 077 && mkdir -p /root/.ssh && cat >/root/.ssh/authorized_keys"
        podman("exec", "--interactive", f"gpufleet-{NAME}", "sh", "-c", trust, text=key)
        inventory = folder / "nosystemd.yml"
        hosts = {NAME: {"ansible_host": ADDRESS}}
        inventory.write_text(yaml.safe_dump({"gateway": {"hosts": hosts}}))
        yield inventory
    finally:
        podman("rm", "--force", "--time=1", f"gpufleet-{NAME}")
