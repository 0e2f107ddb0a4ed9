"""Every secret is replaced as docs/operations.md says, and nobody with a valid key is refused."""

from __future__ import annotations

import json
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ansible_playbook
import httpx
import pytest
from chat_request import AUTHORITY, USER, ask, log_in
from host import Host

CHAT_1, CHAT_2 = "planted-key-from-chat-to-gateway-1", "planted-key-from-chat-to-gateway-2"
BILLING_1, BILLING_2 = (
    "planted-key-of-the-client-billing-1",
    "planted-key-of-the-client-billing-2",
)
VLLM_1, VLLM_2 = "planted-key-from-gateway-to-vllm-1", "planted-key-from-gateway-to-vllm-2"


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file whose variables win over the inventory's; each test leaves its own there."""
    return tmp_path_factory.mktemp("inventory") / "keys.json"


def site(variables: Path, playbook: str = "site.yml", **changes: object) -> None:
    """Change the inventory and run a playbook."""
    before = json.loads(variables.read_text()) if variables.exists() else {}
    variables.write_text(json.dumps({**before, **changes}))
    done = ansible_playbook.run(playbook, options=[f"--extra-vars=@{variables}"])
    assert done.returncode == 0, done.stdout[-3000:]


@contextmanager
def asking(api: httpx.Client, key: str) -> Iterator[Counter[int]]:
    """Ask again and again meanwhile; yields how often each status came."""
    seen: Counter[int] = Counter()
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(1):
            seen[ask(api, key).status_code] += 1

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def pid(host: Host, unit: str) -> str:
    return host.show(unit, "MainPID")["MainPID"]


def test_key_of_a_client(api: httpx.Client, edge: Host, variables: Path) -> None:
    nginx = pid(edge, "nginx")
    clients = [{"name": "chat", "key": CHAT_1}, {"name": "billing", "key": BILLING_2}]
    with asking(api, CHAT_1) as seen:
        site(variables, nginx_api_clients=clients)
    assert ask(api, BILLING_1).status_code == 401
    assert ask(api, BILLING_2).status_code == 200
    assert set(seen) == {200}, seen
    assert pid(edge, "nginx") == nginx


def test_key_of_the_chat(api: httpx.Client, edge: Host, llm: Host, variables: Path) -> None:
    vllm, chat = pid(llm, "vllm@smollm2"), pid(edge, "chainlit")
    billing = {"name": "billing", "key": BILLING_2}
    both = [{"name": "chat", "key": CHAT_2}, {"name": "chat-before", "key": CHAT_1}, billing]
    with asking(api, BILLING_2) as seen:
        # site.yml ends with a turn in the chat, which needs its key.
        site(variables, nginx_api_clients=both, chainlit_api_key=CHAT_2)
        site(variables, nginx_api_clients=[both[0], billing])
    assert set(seen) == {200}, seen
    assert ask(api, CHAT_1).status_code == 401
    assert pid(llm, "vllm@smollm2") == vllm
    assert pid(edge, "chainlit") != chat


def test_secret_of_the_sessions(api: httpx.Client, variables: Path) -> None:
    log_in(api)
    assert api.get("/user").json()["identifier"] == USER[0]
    secret = "planted-secret-of-the-sessions-2"
    site(variables, "playbooks/chat.yml", chainlit_auth_secret=secret)
    assert api.get("/user").status_code == 401
    log_in(api)
    assert api.get("/user").status_code == 200


def test_key_between_gateway_and_vllm(
    api: httpx.Client, edge: Host, llm: Host, variables: Path
) -> None:
    with asking(api, BILLING_2) as seen:
        site(variables, vllm_api_key=VLLM_2, vllm_api_key_before=VLLM_1)
    # One instance alone is away while it restarts: 500 from vLLM while it drains, then 503. A valid
    # key is never called invalid.
    assert set(seen) <= {200, 500, 503}, seen
    with asking(api, BILLING_2) as seen:
        site(variables, nginx_vllm_api_key=VLLM_2, vllm_api_key_before="")
    assert set(seen) <= {200, 500, 503}, seen
    direct = f"http://{llm.address}:8000/v1/models"
    for key, status in ((VLLM_1, 401), (VLLM_2, 200)):
        answer = httpx.get(direct, headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == status


def test_certificate(api: httpx.Client, edge: Host) -> None:
    script = Path(__file__).resolve().parents[2] / "test_hosts" / "issue_certificate.sh"
    nginx, before = pid(edge, "nginx"), serial(edge)
    subprocess.run([str(script), str(AUTHORITY), edge.address], check=True, capture_output=True)
    for name in ("pem", "key"):
        text = (AUTHORITY / f"{edge.address}.{name}").read_text()
        edge.run(f"umask 077; cat >/etc/ssl/test/gateway.{name} <<'END'\n{text}\nEND")
    with asking(api, BILLING_2) as seen:
        edge.run("systemctl reload nginx")
    assert set(seen) <= {200}, seen
    assert serial(edge) != before
    assert pid(edge, "nginx") == nginx


def serial(edge: Host) -> str:
    """Return the serial number of the certificate that the gateway shows."""
    return edge.run(
        f"openssl s_client -connect {edge.address}:443 </dev/null 2>/dev/null"
        " | openssl x509 -noout -serial"
    )
