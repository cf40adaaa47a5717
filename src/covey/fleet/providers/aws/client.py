"""Clients of AWS: short time-outs, one try (its own retries hide throttling from the loop), lazily imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from covey.fleet.errors import Permanent
from covey.fleet.providers.aws.errors import mapped

__all__ = ["client"]


def client(service: str, settings: Mapping[str, Any], *, region: str = "") -> Any:
    """boto3's client of `service`. Settings: `region` (else `region`, else AWS' own configuration), `profile`,
    `endpoint`.

    Raises `Permanent` without boto3 or a region, `Denied` without credentials.
    """
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise Permanent(f"{service} needs boto3", next_step="pip install 'covey[aws]'") from error
    config = Config(
        connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1}, user_agent_extra="covey-fleet"
    )
    with mapped(f"open a session with {service}"):
        session = boto3.session.Session(
            region_name=str(settings.get("region") or region) or None, profile_name=settings.get("profile")
        )
        return session.client(service, endpoint_url=settings.get("endpoint"), config=config)
