"""Bad inventories as data: each is refused once, at the right variable, in words that help."""

from __future__ import annotations

from typing import Any

import pytest
from sample_fleet import COMMIT, GPU, GROUPS, PRODUCTION, instance, lines, look

Case = tuple[dict[str, Any], str, list[str]]


def of_one(**changes: Any) -> dict[str, Any]:
    """Change the one instance."""
    return {"vllm_instances": [instance(**changes)]}


def two(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Two instances that would get along, but for these changes."""
    one = instance(name="one", port=8001, gpus=[0], **first)
    other = instance(**{"name": "two", "port": 8002, "gpus": [1], **second})
    return {"vllm_instances": [one, other]}


def clients(**keys: str) -> dict[str, Any]:
    """Clients of the API in place of the inventory's."""
    return {"nginx_api_clients": [{"name": name, "key": key} for name, key in keys.items()]}


def login(way: str, **more: Any) -> dict[str, Any]:
    """A way to log in to the chat, with what signs its sessions."""
    return {"chainlit_login": way, "chainlit_auth_secret": "secret-of-sessions-0123456789", **more}


USER = {"name": "anna", "hash": "$argon2id$v=19$m=65536,t=3,p=4$" + "a" * 22 + "$" + "b" * 43}
# An API without keys, as production must not have it.
OPEN = {"nginx_api_clients": [], "preflight_production": False}


# By name: what is changed, the variable that is named, words of problem and remedy.
CASES: dict[str, Case] = {
    # Names of variables.
    "unknown variable": (
        {"vllm_gate_deadline": 60},
        "vllm_gate_deadline",
        ["No role has this variable", "vllm_gate_deadline_seconds", "preflight_ignored_variables"],
    ),
    "variable with a typo in the role's name": (
        {"vlm_api_key": "x"},
        "vlm_api_key",
        ["Did you mean vllm_api_key?"],
    ),
    "unknown key of an instance": (
        of_one(servedmodelname="x"),
        "vllm_instances[qwen3].servedmodelname",
        ["not known", "served_model_name"],
    ),
    "unknown key of a source": (
        of_one(source={"type": "path", "path": "/m", "paths": "/m"}),
        "vllm_instances[qwen3].source.paths",
        ["not known", "Did you mean path?"],
    ),
    "a key that YAML reads as true": (
        of_one(source={"type": "path", "path": "/m", True: "control"}),
        "vllm_instances[qwen3].source.True",
        ["YAML reads this key as True", "path_on"],
    ),
    "unknown key of a canary": (
        of_one(canary={"prompt": "?", "expect": "!", "expects": "!"}),
        "vllm_instances[qwen3].canary.expects",
        ["Did you mean expect?"],
    ),
    # Types, choices, ranges.
    "number in quotes": (
        {"vllm_gate_deadline_seconds": "900"},
        "vllm_gate_deadline_seconds",
        ['"900", a text', "whole number", "Take the quotes away"],
    ),
    "true as a number": ({"vllm_watch_failures": True}, "vllm_watch_failures", ["whole number"]),
    "number as a text": (of_one(revision=2026), "vllm_instances[qwen3].revision", ["in quotes"]),
    "text as a list": ({"nginx_api_clients": "team"}, "nginx_api_clients", ["a list"]),
    "text as an instance": ({"vllm_instances": ["x"]}, "vllm_instances[0]", ["a dictionary"]),
    "nothing": ({"chainlit_title": ...}, "chainlit_title", ["It is empty", "Remove the line"]),
    "missing list": ({"vllm_instances": None}, "vllm_instances", ["missing", "a list"]),
    "missing key": (of_one(model=None), "vllm_instances[qwen3].model", ["missing", "a text"]),
    "bad choice": (
        {"vllm_variant": "gpuu"},
        "vllm_variant",
        ["must be one of gpu, cpu", "Did you mean gpu?"],
    ),
    "bad choice inside": (
        of_one(source={"type": "hubb"}),
        "vllm_instances[qwen3].source.type",
        ["must be one of hub, path, url"],
    ),
    "port of root": (of_one(port=80), "vllm_instances[qwen3].port", ["1024", "root"]),
    "port too high": ({"nginx_http_port": 70000}, "nginx_http_port", ["from 1 to 65535"]),
    "no failures": ({"vllm_watch_failures": 0}, "vllm_watch_failures", ["from 1 to 100"]),
    "no attempts": ({"vllm_restart_attempts": 0}, "vllm_restart_attempts", ["attempt"]),
    "no release kept": (
        {"vllm_releases_kept": 0},
        "vllm_releases_kept",
        ["from 1", "2 or more, to be able to roll back"],
    ),
    "no release of the chat kept": (
        {"chainlit_releases_kept": 0},
        "chainlit_releases_kept",
        ["2 or more, to be able to roll back"],
    ),
    # Alerts.
    "alert to no URL": (
        {"alerting_urls": ["wecombot://key", "secret of the robot"]},
        "alerting_urls[1]",
        ["no URL of apprise", "mailtos://"],
    ),
    "alert to nothing": ({"alerting_urls": [""]}, "alerting_urls[0]", ["no URL"]),
    "alert to a mistyped service": (
        {"alerting_urls": ["dingtak://secret@token"]},
        "alerting_urls[0]",
        ["Did you mean dingtalk?"],
    ),
    "alert to a placeholder": (
        {"alerting_urls": ["wecombot://REPLACE_WITH_A_KEY"]},
        "alerting_urls[0]",
        ["still a placeholder"],
    ),
    "alerts through no proxy": (
        {"alerting_proxy": "proxy.example.com"},
        "alerting_proxy",
        ["no address of a proxy"],
    ),
    "alerts kept for no day": ({"alerting_keep_days": 0}, "alerting_keep_days", ["from 1 to 365"]),
    # Placeholders.
    "placeholder for a commit": (
        of_one(revision="REPLACE_WITH_A_COMMIT"),
        "vllm_instances[qwen3].revision",
        ["still a placeholder: REPLACE_WITH_A_COMMIT"],
    ),
    "placeholder in brackets": (
        of_one(revision="<commit>"),
        "vllm_instances[qwen3].revision",
        ["placeholder"],
    ),
    "placeholder in an address": (
        {"model_hub_endpoint": "https://<mirror>/models"},
        "model_hub_endpoint",
        ["placeholder"],
    ),
    "placeholder for a secret": (
        clients(chat="{{ chainlit_api_key }}", team="changeme-changeme-changeme"),
        "nginx_api_clients[team].key",
        ["still a placeholder."],
    ),
    # Instances.
    "same name": (
        two({}, {"name": "one"}),
        "vllm_instances[one].name",
        ["2 instances", "a name of its own"],
    ),
    "taken name": (of_one(name="chainlit"), "vllm_instances[chainlit].name", ["another name"]),
    "bad name": (of_one(name="Qwen 3"), "vllm_instances[Qwen 3].name", ["small letters"]),
    "same port": (
        two({}, {"port": 8001, "health_port": 9002}),
        "vllm_instances[two].port",
        ["Port 8001 belongs to vllm_instances[one].port"],
    ),
    "port of another's guard": (
        two({}, {"port": 9001}),
        "vllm_instances[two].port",
        ["vllm_instances[one].health_port", "port + 1000"],
    ),
    "port of the chat": (of_one(port=7860), "chainlit_port", ["vllm_instances[qwen3].port"]),
    "port of nginx": (
        {"nginx_https_port": 8000},
        "nginx_https_port",
        ["vllm_instances[qwen3].port"],
    ),
    "no room for the health port": (
        of_one(port=65000),
        "vllm_instances[qwen3].health_port",
        ["66000", "Set health_port"],
    ),
    "same GPU": (
        two({}, {"gpus": [0, 1]}),
        "vllm_instances[two].gpus",
        ["GPU 0 belongs to vllm_instances[one]"],
    ),
    "no GPU named": (two({}, {"gpus": None}), "vllm_instances[two].gpus", ["would take all"]),
    "a GPU twice": (of_one(gpus=[1, 1]), "vllm_instances[qwen3].gpus", ["stands twice"]),
    "model without organisation": (
        of_one(model="Qwen3"),
        "vllm_instances[qwen3].model",
        ["'Qwen3'", "organisation/name"],
    ),
    "branch as revision": (
        of_one(revision="main"),
        "vllm_instances[qwen3].revision",
        ["not a commit", "40 hex digits"],
    ),
    "source without its path": (
        of_one(source={"type": "path"}),
        "vllm_instances[qwen3].source.path",
        ["missing", "type path"],
    ),
    "source without its hash": (
        of_one(source={"type": "url", "url": "https://files.company.net/m.tar"}),
        "vllm_instances[qwen3].source.sha256",
        ["missing"],
    ),
    "source with a bad hash": (
        of_one(source={"type": "url", "url": "https://files.company.net/m.tar", "sha256": "12"}),
        "vllm_instances[qwen3].source.sha256",
        ["64 hex digits"],
    ),
    "source of another type": (
        of_one(source={"type": "hub", "path": "/m"}),
        "vllm_instances[qwen3].source.path",
        ["type hub does not use it"],
    ),
    "source with a relative path": (
        of_one(source={"type": "path", "path": "models/m"}, revision="r1"),
        "vllm_instances[qwen3].source.path",
        ["not an absolute path"],
    ),
    "source that is not on the control node": (
        of_one(source={"type": "path", "path": "/nowhere", "path_on": "control"}, revision="r1"),
        "vllm_instances[qwen3].source.path",
        ["no directory /nowhere on the control node"],
    ),
    "pattern of a canary": (
        of_one(canary={"prompt": "?", "expect": "(Paris"}),
        "vllm_instances[qwen3].canary.expect",
        ["not a regular expression", "backslash"],
    ),
    "address of an instance": (
        of_one(host="gpu-host"),
        "vllm_instances[qwen3].host",
        ["not an address to listen on"],
    ),
    "name of an environment variable": (
        of_one(environment={"A-B": "1"}),
        "vllm_instances[qwen3].environment.A-B",
        ["letters, digits and _"],
    ),
    "value of an environment variable": (
        {"vllm_environment": {"VLLM_X": True}},
        "vllm_environment.VLLM_X",
        ["in quotes"],
    ),
    # Options of vLLM.
    "misspelt option": (
        of_one(options={"max_modellen": 4096}),
        "vllm_instances[qwen3].options.max_modellen",
        ["has no such option", "Did you mean max_model_len?"],
    ),
    "option that is gone": (
        {"vllm_options": {"disable_log_requests": True}},
        "vllm_options.disable_log_requests",
        ["has no such option", "write enable_log_requests: false"],
    ),
    "option of the role": (
        of_one(options={"port": 8001}),
        "vllm_instances[qwen3].options.port",
        ["must not stand in options", "vllm_api_key"],
    ),
    "time that the guard must know": (
        {"vllm_options": {"shutdown_timeout": 300}},
        "vllm_options.shutdown_timeout",
        ["must not stand in options", "vllm_shutdown_timeout_seconds"],
    ),
    "value of a flag": (
        {"vllm_options": {"enforce-eager": "yes"}},
        "vllm_options.enforce-eager",
        ["true or false"],
    ),
    "flag for a value": (
        {"vllm_options": {"max_model_len": True}},
        "vllm_options.max_model_len",
        ["takes a value"],
    ),
    "bad choice of an option": (
        {"vllm_options": {"dtype": "bf16"}},
        "vllm_options.dtype",
        ["one of auto, bfloat16", "Did you mean bfloat16?"],
    ),
    "option that blinds the guard": (
        {"vllm_options": {"disable_log_stats": True}},
        "vllm_options.disable_log_stats",
        ["busy engine from a hung one"],
    ),
    # Secrets.
    "short key": (
        {"chainlit_api_key": "short", **OPEN},
        "chainlit_api_key",
        ["only 5 characters", "openssl rand -hex 24"],
    ),
    "key with a space": (
        {"vllm_api_key": "key of vllm 0123456789"},
        "vllm_api_key",
        ["a header or a file of nginx cannot carry"],
    ),
    "one secret for two purposes": (
        {"vllm_api_key": "key-of-the-team-0123456789"},
        "nginx_api_clients[team].key",
        ["same secret as nginx_vllm_api_key"],
    ),
    "secret in an environment": (
        of_one(environment={"HF_TOKEN": "hf_0123456789"}),
        "vllm_instances[qwen3].environment.HF_TOKEN",
        ["looks like a secret", "model_hub_token_file"],
    ),
    "secret in an option": (
        {"vllm_options": {"hf_token": "hf_0123456789"}},
        "vllm_options.hf_token",
        ["looks like a secret"],
    ),
    "undefined secret": (
        {"chainlit_api_key": "{{ vault_chat_key }}", **OPEN},
        "chainlit_api_key",
        ["Missing or unreadable secret: vault_chat_key is not defined", "--vault-password-file"],
    ),
    "undefined variable": (
        {"chainlit_title": "{{ company }} chat"},
        "chainlit_title",
        ["needs company, which is not defined"],
    ),
    "broken template": (
        {"chainlit_title": "{{ 1 / 0 }}"},
        "chainlit_title",
        ["template cannot be evaluated", "division by zero"],
    ),
    "template that needs itself": (
        {"chainlit_title": "{{ chainlit_title }}"},
        "chainlit_title",
        ["template cannot be evaluated"],
    ),
    # Times.
    "start limit of more than a day": (
        {"vllm_gate_deadline_seconds": 43200},
        "vllm_restart_attempts",
        ["a day or more", "must stay below 86400"],
    ),
    "start limit that never trips": (
        {"vllm_restart_interval_seconds": 300},
        "vllm_restart_interval_seconds",
        ["never give up", "Set it to 0, which computes it, or to 3153 or more"],
    ),
    # What the sandbox hides.
    "models at home": (
        {"model_root": "/home/models"},
        "model_root",
        ["below /home", "its sandbox hides it", "/srv"],
    ),
    "environments in a directory for a while": (
        {"python_release_directory": "/var/tmp"},
        "python_release_directory",
        ["below /var/tmp"],
    ),
    "hang found late": (
        {"vllm_watch_failures": 50},
        "vllm_watch_failures",
        ["after 1000 s", "900 s"],
    ),
    # The chat.
    "title": ({"chainlit_title": "<b>Chat</b>"}, "chainlit_title", ["one printable line"]),
    "colour": ({"chainlit_primary_color": "teal"}, "chainlit_primary_color", ["#0f766e"]),
    "logo": (
        {"chainlit_logo_path": "/nowhere/logo.svg"},
        "chainlit_logo_path",
        ["/nowhere/logo.svg cannot be read", "SVG or PNG"],
    ),
    "theme": ({"chainlit_theme": "night"}, "chainlit_theme", ["system, light, dark"]),
    "login without what signs its sessions": (
        {"chainlit_login": "password", "chainlit_users": [USER]},
        "chainlit_auth_secret",
        ["It is empty, and chainlit_login is password", "openssl rand -hex 24"],
    ),
    "login with a weak secret": (
        login("password", chainlit_users=[USER], chainlit_auth_secret="short"),
        "chainlit_auth_secret",
        ["only 5 characters"],
    ),
    "password login without users": (
        login("password"),
        "chainlit_users",
        ["nobody could log in", "--hash-password"],
    ),
    "user whose hash is none": (
        login("password", chainlit_users=[{"name": "anna", "hash": "plain-password"}]),
        "chainlit_users[anna].hash",
        ["no argon2id hash", "--hash-password"],
    ),
    "user whose hash is of another kind": (
        login("password", chainlit_users=[{"name": "anna", "hash": "$2b$12$" + "a" * 53}]),
        "chainlit_users[anna].hash",
        ["no argon2id hash"],
    ),
    "user with a name that a header cannot carry": (
        login("password", chainlit_users=[{**USER, "name": "an na"}]),
        "chainlit_users[an na].name",
        ["letters, digits"],
    ),
    "two users of one name": (
        login("password", chainlit_users=[USER, {**USER, "name": "ANNA"}]),
        "chainlit_users[ANNA].name",
        ["but for its case", "Rename one"],
    ),
    "header login without secret": (
        login("header"),
        "chainlit_login_secret",
        ["It is empty, and chainlit_login is header", "openssl rand -hex 24"],
    ),
    "header login with one header for both": (
        login(
            "header",
            chainlit_login_secret="s" * 32,
            chainlit_login_secret_header="x-forwarded-user",
        ),
        "chainlit_login_secret_header",
        ["a header of its own"],
    ),
    "header login by a name that nginx drops": (
        login("header", chainlit_login_secret="s" * 32, chainlit_login_header="remote_user"),
        "chainlit_login_header",
        ["letters, digits and dashes"],
    ),
    "oauth without a provider": (
        login("oauth", chainlit_login_oauth_allowed=["*"]),
        "chainlit_oauth_environment",
        ["names no provider", "OAUTH_GITHUB_CLIENT_ID"],
    ),
    "oauth with another variable": (
        login(
            "oauth",
            chainlit_login_oauth_allowed=["*"],
            chainlit_oauth_environment={"OAUTH_X": "y", "PATH": "/"},
        ),
        "chainlit_oauth_environment.PATH",
        ["OAUTH_ variables and CHAINLIT_URL only"],
    ),
    "oauth by a form of another site": (
        login(
            "oauth",
            chainlit_login_oauth_allowed=["*"],
            chainlit_oauth_environment={
                "OAUTH_AZURE_AD_CLIENT_ID": "x",
                "OAUTH_AZURE_AD_HYBRID_CLIENT_ID": "y",
            },
        ),
        "chainlit_oauth_environment.OAUTH_AZURE_AD_HYBRID_CLIENT_ID",
        ["Nobody could log in", "OAUTH_AZURE_AD_*"],
    ),
    "oauth for nobody": (
        login("oauth", chainlit_oauth_environment={"OAUTH_X": "y"}),
        "chainlit_login_oauth_allowed",
        ["nobody could log in", '"@example.com"'],
    ),
    "way to log in that there is not": (
        {"chainlit_login": "ldap"},
        "chainlit_login",
        ["password"],
    ),
    "temperature": ({"chainlit_temperature": "hot"}, "chainlit_temperature", ["0 or more"]),
    "address of the API": (
        {"chainlit_upstream_url": "gateway/v1"},
        "chainlit_upstream_url",
        ["http://gateway.example.com/v1"],
    ),
    "address of the history": (
        {"chainlit_database_url": "mysql://chat:hush@db/chat"},
        "chainlit_database_url",
        ["no address of a PostgreSQL database", "postgresql://USER"],
    ),
    # The gateway.
    "certificate without key": (
        {"nginx_tls_certificate_key": ""},
        "nginx_tls_certificate_key",
        ["set both, or neither"],
    ),
    "key without certificate": (
        {"nginx_tls_certificate": "", "preflight_allow_plain_http": True},
        "nginx_tls_certificate",
        ["set both, or neither"],
    ),
    "certificate that the sandbox hides": (
        {"nginx_tls_certificate": "/root/cert.pem"},
        "nginx_tls_certificate",
        ["/root/cert.pem", "/etc/ssl"],
    ),
    "no name for TLS": (
        {"nginx_server_name": "_", "chainlit_upstream_url": "https://llm.company.net/v1"},
        "nginx_server_name",
        ["name in the certificate"],
    ),
    "no time for streams": (
        {"nginx_stream_timeout_seconds": 1},
        "nginx_stream_timeout_seconds",
        ["from 2", "longest generation"],
    ),
    "size of a body": ({"nginx_max_body_size": "plenty"}, "nginx_max_body_size", ["32m"]),
    "TLS for a pattern of names": (
        {
            "nginx_server_name": "*.company.net",
            "chainlit_upstream_url": "https://llm.company.net/v1",
        },
        "nginx_server_name",
        ["a pattern", "llm.company.net"],
    ),
    "two names": ({"nginx_server_name": "a b"}, "nginx_server_name", ["one name"]),
    "origin with a slash": (
        {"nginx_allowed_origins": ["https://portal.company.net/"]},
        "nginx_allowed_origins",
        ["without a path or a slash"],
    ),
    # Production.
    "no key for vLLM": (
        {"vllm_api_key": ""},
        "vllm_api_key",
        ["The secret is missing", "openssl rand"],
    ),
    "open API": ({"nginx_api_clients": []}, "nginx_api_clients", ["open to everyone"]),
    "plain HTTP": (
        {"nginx_tls_certificate": "", "nginx_tls_certificate_key": ""},
        "nginx_tls_certificate",
        ["could be read", "preflight_allow_plain_http"],
    ),
    "no canary": (of_one(canary=None), "vllm_instances[qwen3].canary", ["expect: Paris"]),
    "name of the example": (
        {"nginx_server_name": "llm.example.com"},
        "nginx_server_name",
        ["a name for examples"],
    ),
    "no secret for the chat": (
        {"chainlit_api_key": "", **clients(team="key-of-the-team-0123456789")},
        "chainlit_api_key",
        ["Chainlit's secret is missing", "gpu1 would refuse the chat", "nginx_api_clients"],
    ),
    "another secret for the chat": (
        clients(team="key-of-the-team-0123456789"),
        "chainlit_api_key",
        ["none of the keys in nginx_api_clients"],
    ),
}


def test_nothing_is_wrong_with_the_inventory_that_the_cases_change() -> None:
    assert lines(look()) == []


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str) -> None:
    changes, variable, words = CASES[case]
    findings = look(**changes)
    told = [f for f in findings if f.variable == variable]
    assert told, lines(findings)
    for finding in told:
        assert finding.host == GPU
    text = " ".join(f"{finding.problem} {finding.remedy}" for finding in told)
    for word in words:
        assert word in text


# The gateway has the same key, and says so too.
TWICE = {"key with a space"}


@pytest.mark.parametrize("case", sorted(set(CASES) - TWICE))
def test_one_mistake_is_one_finding(case: str) -> None:
    findings = look(**CASES[case][0])
    assert len(set(findings)) == 1, lines(findings)


FINE: dict[str, dict[str, Any]] = {
    "no production": dict.fromkeys(set(PRODUCTION) - {"vllm_instances"}),
    "plain HTTP, said explicitly": {
        "nginx_tls_certificate": "",
        "nginx_tls_certificate_key": "",
        "preflight_allow_plain_http": True,
    },
    "replicas of one model": two({}, {}),
    "a variable of others": {
        "model_zoo": "x",
        "logging_inputs": [],
        "preflight_ignored_variables": ["model_zoo", "logging_*"],
    },
    "what our roles register": {
        "vllm_release": {},
        "chainlit_release": {},
        "python_release_uv": {},
        "python_release_result": {},
        "model_result": {},
    },
    "a variable of nobody": {"company": "x", "service_title": "y"},
    "GPUs of the CPU build": {"vllm_variant": "cpu", **two({}, {"gpus": [0]})},
    "names of thinking tokens": {"vllm_options": {"reasoning_config": {"start": "<think>"}}},
    "a pattern with a name in brackets": of_one(canary={"prompt": "?", "expect": "(?P<a>x)"}),
    "a tag of ModelScope": {"model_hub": "modelscope", **of_one(revision="v1.0")},
    "a directory on the host": of_one(source={"type": "path", "path": "/srv/m"}, revision="r1"),
    "options with dashes and dots": {
        "vllm_options": {"max-num-seqs": 8, "compilation_config.level": 3, "enforce_eager": True}
    },
    "environment variables of other kinds": {
        "vllm_environment": {"TOKENIZERS_PARALLELISM": "false", "VLLM_CPU_KVCACHE_SPACE": 1}
    },
}


@pytest.mark.parametrize("case", FINE)
def test_not_refused(case: str) -> None:
    assert lines(look(**FINE[case])) == []


# Several hosts: their groups, changes for all, changes for one, then as above, with the host.
FLEETS: dict[str, tuple[dict[str, tuple[str, ...]], dict[str, Any], str, str, list[str]]] = {
    "host in no group": (
        {GPU: GROUPS, "lost": ()},
        {},
        "lost",
        "groups",
        ["none of the groups", "inference, chat, gateway, monitoring"],
    ),
    "misspelt group": (
        {GPU: GROUPS, "gpu2": ("inferense",)},
        {},
        "the inventory",
        "group inferense",
        ["Did you mean inference?"],
    ),
    "no model": ({"web": ("chat", "gateway")}, {}, "the inventory", "group inference", ["GPUs"]),
    "no gateway": (
        {GPU: ("inference",)},
        {},
        "the inventory",
        "group gateway",
        ["nobody could reach"],
    ),
    "different models": (
        {GPU: GROUPS, "gpu2": ("inference",)},
        {"gpu2": of_one(served_model_name="other")},
        "the inventory",
        "vllm_instances[].served_model_name",
        ["cannot route by model yet", "an inventory of its own"],
    ),
    "one name for different models": (
        {GPU: GROUPS, "gpu2": ("inference",)},
        {"gpu2": of_one(model="Other/Model")},
        "the inventory",
        "vllm_instances[].served_model_name",
        ["different models: Other/Model, Qwen/Qwen3-0.6B-FP8"],
    ),
    "keys that differ": (
        {GPU: GROUPS, "gpu2": ("inference",)},
        {"gpu2": {"vllm_api_key": "another-key-0123456789"}},
        GPU,
        "nginx_vllm_api_key",
        ["not the vllm_api_key of gpu2"],
    ),
    "key of an instance that a client has": (
        {GPU: GROUPS, "gpu2": ("inference",)},
        {
            "gpu2": {"vllm_api_key": "key-of-the-team-0123456789"},
            GPU: {
                "nginx_vllm_upstreams": [{"name": "a", "address": "b", "port": 1, "health_port": 2}]
            },
        },
        "gpu2",
        "vllm_api_key",
        ["same secret as nginx_api_clients[team].key"],
    ),
    "instances that the gateway cannot reach": (
        {"web": ("chat", "gateway"), "gpu2": ("inference",)},
        {"gpu2": {"vllm_listen_address": "127.0.0.1"}},
        "gpu2",
        "vllm_listen_address",
        ["web cannot reach it"],
    ),
    "one instance that the gateway cannot reach": (
        {"web": ("chat", "gateway"), "gpu2": ("inference",)},
        {"gpu2": of_one(host="localhost")},
        "gpu2",
        "vllm_instances[qwen3].host",
        ["web cannot reach it"],
    ),
    "a chat that the gateway cannot reach": (
        {GPU: ("inference", "gateway"), "web": ("chat",)},
        {"web": {"chainlit_listen_address": "127.0.0.1"}},
        "web",
        "chainlit_listen_address",
        ["gpu1 cannot reach it"],
    ),
    "a chat that does not know of TLS": (
        {GPU: ("inference", "gateway"), "web": ("chat",)},
        {"web": {"nginx_tls_certificate": None}},
        "web",
        "chainlit_upstream_url",
        ["http://gpu1:80/v1, and gpu1 speaks TLS", "for all hosts"],
    ),
}


@pytest.mark.parametrize("case", FLEETS)
def test_refused_in_a_fleet(case: str) -> None:
    hosts, each, host, variable, words = FLEETS[case]
    findings = look(hosts, each)
    assert [(f.host, f.variable) for f in findings] == [(host, variable)], lines(findings)
    for word in words:
        assert word in f"{findings[0].problem} {findings[0].remedy}"


FINE_FLEETS: dict[str, tuple[dict[str, tuple[str, ...]], dict[str, dict[str, Any]]]] = {
    "every role on a host of its own": (
        {
            "gpu1": ("inference",),
            "gpu2": ("inference",),
            "web": ("gateway",),
            "app": ("chat",),
            "watch": ("monitoring",),
        },
        {},
    ),
    "groups that contain ours": ({GPU: (*GROUPS, "gateways", "linux")}, {}),
    "a gateway for instances elsewhere": (
        {"web": ("gateway",)},
        {
            "web": {
                "nginx_vllm_upstreams": [{"name": "a", "address": "b", "port": 1, "health_port": 2}]
            }
        },
    ),
}


@pytest.mark.parametrize("case", FINE_FLEETS)
def test_fleet_not_refused(case: str) -> None:
    assert lines(look(*FINE_FLEETS[case])) == []


def test_a_history_for_each_of_several_chats_is_a_warning() -> None:
    """They serve, and a fleet that has them must not be stopped by it."""
    fleet = {GPU: GROUPS, "app": ("chat",)}
    people = login("password", chainlit_users=[USER])
    findings = look(fleet, **people)
    told = [(finding.host, finding.variable, finding.severity) for finding in findings]
    assert sorted(told) == [(host, "chainlit_database_url", "warning") for host in ("app", GPU)]
    assert "people log in to 2 chats" in findings[0].problem
    assert look(fleet, **people, chainlit_database_url="postgresql://chat:hush@db/chat") == []
    assert look(fleet) == look(**people) == []


def test_all_findings_come_at_once() -> None:
    changes = {"vllm_watch_failures": 0, "vllm_apikey": "x", **of_one(revision="main", port=80)}
    assert {finding.variable for finding in look(**changes)} == {
        "vllm_watch_failures",
        "vllm_apikey",
        "vllm_instances[qwen3].revision",
        "vllm_instances[qwen3].port",
    }


def test_wrong_parts_do_not_hide_what_is_wrong_beside_them() -> None:
    wrong = instance(port="8000", revision="main")
    findings = look(vllm_instances=["text", wrong, instance(name="other", revision=COMMIT)])
    variables = {finding.variable for finding in findings}
    assert {"vllm_instances[0]", "vllm_instances[qwen3].port"} < variables
    assert {"vllm_instances[qwen3].revision", "vllm_instances[other].gpus"} < variables
