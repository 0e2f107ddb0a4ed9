"""vLLM as a unit of its own, without the guard: what the guard is measured against."""

from __future__ import annotations

from host import Host

NAME = "vllm-bare"
PORT = 8100
_CURRENT = "/opt/gpufleet/vllm/current"
_CONFIG = "/run/vllm-bare.yaml"


def start_bare_unit(host: Host) -> None:
    """Start `vllm serve` with the configuration of the instance, on PORT of every address.

    With vLLM's own number of API servers: with several it ends with 1 when its engine dies.
    """
    changes = f"-e 's/^port: .*/port: {PORT}/' -e 's/^host: .*/host: 0.0.0.0/'"
    changes += " -e '/^api-server-count:/d'"
    host.run(f"sed {changes} {_CURRENT}/instances/smollm2.yaml >{_CONFIG}")
    environment = {
        "PYTHONPATH": "metadata",
        "HOME": f"/var/cache/{NAME}",
        "VLLM_CACHE_ROOT": f"/var/cache/{NAME}",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
    }
    host.run(
        f"systemd-run --quiet --unit={NAME} --property=User=vllm --property=Restart=on-failure "
        f"--property=CacheDirectory={NAME} --property=WorkingDirectory={_CURRENT} "
        + " ".join(f"--setenv={name}={value}" for name, value in environment.items())
        + f" {_CURRENT}/venv/bin/vllm serve --config {_CONFIG}"
    )


def stop_bare_unit(host: Host) -> None:
    """Stop it, whatever its state, and leave nothing of it."""
    host.run(f"systemctl stop {NAME}; rm -f {_CONFIG}", check=False)
    host.run(f"systemctl reset-failed {NAME}", check=False)
