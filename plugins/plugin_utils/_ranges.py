# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between which numbers every number of the inventory must lie."""

from __future__ import annotations

from ansible_collections.gpufleet.llm.plugins.plugin_utils._names import generic

_DAY = 86400
_PORT = (1, 65535)
# vLLM, guard and chat run as users who may not open the ports below.
_USERS_PORT = (1024, 65535)

RANGES: dict[str, tuple[int, int]] = {
    "vllm_instances[].port": _USERS_PORT,
    "vllm_instances[].health_port": _USERS_PORT,
    "vllm_instances[].gpus[]": (0, 255),
    "vllm_instances[].canary.max_tokens": (1, 4096),
    "vllm_gate_deadline_seconds": (1, _DAY),
    "vllm_watch_interval_seconds": (1, 3600),
    "vllm_watch_probe_timeout_seconds": (1, 3600),
    "vllm_watch_failures": (1, 100),
    "vllm_canary_every_minutes": (0, 7 * 1440),
    "vllm_restart_attempts": (1, 1000),
    "vllm_restart_interval_seconds": (0, _DAY),
    "vllm_restart_delay_seconds": (0, _DAY),
    "vllm_restart_max_delay_seconds": (0, _DAY),
    "vllm_second_chance_minutes": (0, 1440),
    "vllm_shutdown_timeout_seconds": (0, _DAY),
    "vllm_releases_kept": (1, 1000),
    "chainlit_port": _USERS_PORT,
    "chainlit_max_tokens": (1, 10_000_000),
    "chainlit_upload_max_mib": (0, 1000),
    "chainlit_message_max_chars": (1000, 1_000_000),
    "chainlit_request_timeout_seconds": (1, _DAY),
    "chainlit_recovery_wait_seconds": (0, _DAY),
    "chainlit_drain_seconds": (0, _DAY),
    "chainlit_messages_per_minute": (0, 1_000_000),
    "chainlit_concurrent_answers": (1, 1_000_000),
    "chainlit_queue_length": (0, 10_000),
    "chainlit_questions_per_person": (1, 10_000),
    "chainlit_login_session_hours": (1, 8760),
    "chainlit_history_days": (0, 36_500),
    "chainlit_releases_kept": (1, 1000),
    "nginx_http_port": _PORT,
    "nginx_https_port": _PORT,
    "nginx_vllm_upstreams[].port": _PORT,
    "nginx_vllm_upstreams[].health_port": _PORT,
    "nginx_chat_upstreams[].port": _PORT,
    "nginx_client_requests_per_second": (1, 1_000_000),
    "nginx_client_requests_burst": (1, 1_000_000),
    "nginx_stream_timeout_seconds": (2, _DAY),
    "logging_journal_max_size_mib": (1, 1_000_000_000),
    "logging_journal_max_age_days": (1, 36_500),
    "logging_journal_max_lines_per_30_seconds": (1, 1_000_000_000),
    "logging_files_kept": (1, 36_500),
    "alerting_restarts_every_minutes": (0, 10_080),
    "alerting_log_lines": (0, 100),
    "alerting_keep_days": (1, 365),
    "preflight_clock_tolerance_seconds": (1, 3600),
    "nvidia_driver_branch": (450, 9999),
}
_WHY = {
    "vllm_restart_attempts": "Set it to 1 or more: without an attempt nothing would ever start.",
    "vllm_releases_kept": "Set it to 2 or more, to be able to roll back: what runs is one.",
    "chainlit_releases_kept": "Set it to 2 or more, to be able to roll back: what runs is one.",
    "nginx_stream_timeout_seconds": "Set it to the seconds of the longest generation, 1800 if you "
    "do not know it; sooner, answers are cut.",
}
_WHY_OF_PORTS = "Ports below 1024 are root's, and this service does not run as root."


def range_problem(path: str, value: object) -> tuple[str, str] | None:
    """Problem and remedy of the number at `path`, or None where it may be as it is."""
    limits = RANGES.get(generic(path))
    if limits is None or not isinstance(value, int) or limits[0] <= value <= limits[1]:
        return None
    low, high = limits
    why = _WHY_OF_PORTS if limits == _USERS_PORT and 0 < value < low else ""
    remedy = _WHY.get(generic(path)) or why or f"Set it to a number from {low} to {high}."
    return f"It is {value}: it must be from {low} to {high}.", remedy
