"""What Azure refuses, as the five errors of the fleet.

Codes: Azure Resource Manager "Common deployment errors", Virtual Machines "Allocation failures" and "Error codes".
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

from covey.fleet.errors import Capacity, Denied, Permanent, ProviderError, Quota, Temporary
from covey.fleet.providers.groups.calls import translated

__all__ = ["code_of", "failure_kind", "mapped", "said", "translate"]

CAPACITY = frozenset({
    "AllocationFailed", "ZonalAllocationFailed", "OverconstrainedAllocationRequest", "SkuNotAvailable",
    "OverconstrainedZonalAllocationRequest", "SpotCapacityNotAvailable", "LowPriorityCapacityNotAvailable",
})  # fmt: skip
QUOTA = frozenset({"QuotaExceeded", "ResourceQuotaExceeded", "MaxStorageAccountsCountPerSubscriptionExceeded"})
DENIED = frozenset({
    "AuthorizationFailed", "AuthenticationFailed", "InvalidAuthenticationToken", "ExpiredAuthenticationToken",
    "LinkedAuthorizationFailed", "SubscriptionNotFound", "SubscriptionNotRegistered", "RequestDisallowedByPolicy",
})  # fmt: skip
TEMPORARY = frozenset({
    "TooManyRequests", "OperationNotAllowedOnVMScaleSetDueToOngoingOperation", "Conflict", "RetryableError",
    "ServerTimeout", "InternalServerError", "InternalExecutionError", "ServiceUnavailable", "PreconditionFailed",
    "OperationPreempted", "AnotherOperationInProgress",
})  # fmt: skip


def code_of(error: Exception) -> str:
    """The code of Resource Manager; the innermost one, for a failed operation wraps its cause."""
    found = getattr(error, "error", None)
    code = ""
    for _ in range(5):
        if found is None:
            break
        code = str(getattr(found, "code", "") or code)
        details = getattr(found, "details", None)
        found = details[0] if details else None
    return code


def said(error: Exception) -> str:
    """The first line of what Azure says; the SDK adds code and message again on lines of their own."""
    return str(getattr(error, "message", error)).partition("\n")[0][:500]


def failure_kind(code: str, message: str) -> Literal["capacity", "quota"] | None:
    """What a failed allocation is about. `OperationNotAllowed` is quota if its sentence speaks of quota."""
    if code in CAPACITY:
        return "capacity"
    if code in QUOTA or (code == "OperationNotAllowed" and "quota" in message.lower()):
        return "quota"
    return None


def translate(error: Exception, *, doing: str) -> ProviderError:
    """One error of the SDK in the fleet's words. `doing` completes "could not ..."; the pool adds scope and shape."""
    from azure.core import exceptions

    if isinstance(error, exceptions.ClientAuthenticationError):
        return Denied(f"could not {doing}: {error.message[:300]}", next_step="az login, or set AZURE_CLIENT_ID...")
    if not isinstance(error, exceptions.HttpResponseError):
        if isinstance(error, exceptions.AzureError):
            return Temporary(f"could not {doing}: Azure does not answer ({type(error).__name__})", after=5.0)
        return Permanent(f"could not {doing}: {error}")
    code, status = code_of(error), error.status_code or 0
    message = f"could not {doing}: {code or status}: {said(error)}"
    kind = failure_kind(code, message)
    if kind == "capacity":
        return Capacity(message, scope="", shape="")
    if kind == "quota":
        return Quota(message, scope="", next_step="ask Azure for a higher quota, or set max_agents")
    if code in DENIED or status in {401, 403}:
        return Denied(message, next_step="grant the rights in docs/fleet/clouds.md, then: covey fleet check")
    if code in TEMPORARY or status in {408, 409, 412, 429} or status >= 500:
        after = str(getattr(error.response, "headers", {}).get("Retry-After", ""))
        return Temporary(message, after=min(300.0, float(after)) if after.isdigit() else 5.0)
    return Permanent(message)


def mapped(doing: str) -> AbstractContextManager[None]:
    """Let nothing but the fleet's errors out."""
    return translated(translate, doing)
