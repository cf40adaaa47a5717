"""What GCP refuses, as the five errors of the fleet.

Codes: Compute Engine "Troubleshooting resource availability errors" and "Resource usage quotas".
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

from covey.fleet.errors import Capacity, Denied, Permanent, ProviderError, Quota, Temporary
from covey.fleet.providers.groups.calls import translated

__all__ = ["failure_kind", "mapped", "translate"]

_QUOTA_REASONS = ("quota_exceeded", "quotaexceeded", "limitexceeded")
_RATE_REASONS = ("ratelimitexceeded", "userratelimitexceeded", "rate_limit_exceeded")


def failure_kind(code: str) -> Literal["capacity", "quota"] | None:
    """What the error of a managed instance group is about, by its code."""
    code = code.upper()
    if "RESOURCE_POOL_EXHAUSTED" in code or code in {"RESOURCE_NOT_READY", "STOCKOUT", "UNSUPPORTED_OPERATION"}:
        return "capacity"
    if "QUOTA" in code or code in {"LIMIT_EXCEEDED", "IP_SPACE_EXHAUSTED"}:
        return "quota"
    return None


def translate(error: Exception, *, doing: str) -> ProviderError:
    """One error of the SDK in the fleet's words. `doing` completes "could not ..."; the pool adds scope and shape."""
    from google.api_core import exceptions
    from google.auth import exceptions as auth

    if isinstance(error, auth.DefaultCredentialsError | auth.RefreshError):
        return Denied(f"could not {doing}: {error}", next_step="gcloud auth application-default login")
    if not isinstance(error, exceptions.GoogleAPICallError):
        # The transport's own (requests.ConnectionError, RetryError): it is not known whether the call took effect.
        return Temporary(f"could not {doing}: GCP does not answer ({type(error).__name__})", after=5.0)
    said = str(error.message)[:500]
    reasons = " ".join(str(each) for each in (*error.errors, said)).lower()
    message = f"could not {doing}: {said}"
    status = int(error.code or 0)
    if "resource_pool_exhausted" in reasons or "does not have enough resources" in reasons:
        return Capacity(message, scope="", shape="")
    if status == 429 or any(word in reasons for word in _RATE_REASONS):
        return Temporary(message, after=5.0)
    if any(word in reasons for word in _QUOTA_REASONS):
        return Quota(message, scope="", next_step="ask GCP for a higher quota, or set max_agents")
    if status in {401, 403}:
        return Denied(message, next_step="grant the rights in docs/fleet/clouds.md, then: covey fleet check")
    if status in {408, 409, 412} or status >= 500 or "resourcenotready" in reasons:
        return Temporary(message, after=5.0)
    return Permanent(message)


def mapped(doing: str) -> AbstractContextManager[None]:
    """Let nothing but the fleet's errors out."""
    return translated(translate, doing)
