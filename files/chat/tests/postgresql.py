"""A PostgreSQL server of its own, on a port of 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from free_port import free_port

# Debian keeps the programs of each version apart.
_DEBIAN = Path("/usr/lib/postgresql")
PASSWORD = "of-the-tests"


class PostgreSQL:
    """A fresh cluster in a temporary directory."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="postgresql-"))
        self._programs = _programs()
        self.port = free_port()
        self.url = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Make the cluster, if it is new, and run it."""
        data = self._directory / "data"
        if not data.exists():
            password = self._directory / "password"
            password.write_text(PASSWORD, encoding="utf-8")
            if os.geteuid() == 0:
                # The server refuses to run as root.
                for path in (self._directory, password):
                    shutil.chown(path, "postgres")
            arguments = ["--auth=scram-sha-256", "--username=postgres", f"--pwfile={password}"]
            self._run("initdb", f"--pgdata={data}", "--no-sync", "--encoding=UTF8", *arguments)
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self._directory} -F"
        log = self._directory / "log"
        self._run("pg_ctl", "-D", str(data), "-l", str(log), "-w", "-o", options, "start")

    def stop(self) -> None:
        """Stop it at once."""
        self._run("pg_ctl", "-D", str(self._directory / "data"), "-m", "immediate", "stop")

    def remove(self) -> None:
        """Stop it if it runs, and take all away."""
        if (self._directory / "data" / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._directory)

    def _run(self, program: str, *arguments: str) -> None:
        user = "postgres" if os.geteuid() == 0 else None
        subprocess.run(
            [str(self._programs / program), *arguments],
            check=True,
            user=user,
            group=user,
            extra_groups=[] if user else None,
            cwd="/",
            stdout=subprocess.DEVNULL,
        )


def _programs() -> Path:
    found = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    program = shutil.which("initdb")
    if program is None:
        raise RuntimeError("there is no PostgreSQL server here; install it: apt install postgresql")
    return Path(program).parent
