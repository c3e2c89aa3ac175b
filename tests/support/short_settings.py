"""Settings of a gateway or a worker in the test's own process, with short times."""

from pathlib import Path
from typing import Any

from shared.config.settings import Settings


def redis_url_of(settings: Settings) -> str:
    """Return the address of the queue's Redis."""
    assert settings.redis_url is not None
    return settings.redis_url.get_secret_value()


def stream_redis_url_of(settings: Settings) -> str:
    """Return the address of the jobs' Redis, which is configured."""
    assert settings.stream_redis_url is not None
    return settings.stream_redis_url.get_secret_value()


def short_settings(redis_url: str, key_prefix: str, data_dir: Path, **changes: Any) -> Settings:
    """Settings that read no environment. `changes` replace or add fields."""
    fields: dict[str, Any] = {
        "redis_url": redis_url,
        "key_prefix": key_prefix,
        "port": 0,
        "api_keys": ("sk-alice:alice", "sk-bob:bob", "sk-root:root:admin"),
        "secret": "a secret for tests only",
        "upstream_url": "scripted:",
        "lease_s": 2.0,
        "drain_s": 1.0,
        "timeout_s": 30.0,
        "max_attempts": 1,  # retries have tests of their own
        "first_token_timeout_s": 5.0,
        "gap_timeout_s": 5.0,
        "retention_s": 60.0,
        "disconnect_grace_s": 0.2,
        "heartbeat_s": 1.0,
        "headers_hold_s": 1.0,
        "redis_patience_s": 2.0,
        "send_timeout_s": 5.0,
        "tail_check_s": 1.0,
        "data_dir": str(data_dir),
        "log_level": "warning",
    }
    return Settings(**{**fields, **changes})


def with_steps_apart(settings: Settings) -> Settings:
    """Name the server twice: queue and jobs then have steps of their own, as on two servers."""
    return settings.model_copy(update={"stream_redis_url": settings.redis_url})


def with_long_holds(settings: Settings, **changes: Any) -> Settings:
    """Hold headers for longer than any test takes; a test that wants them earlier sets it."""
    return settings.model_copy(update={"headers_hold_s": 60.0, "heartbeat_s": 60.0, **changes})
