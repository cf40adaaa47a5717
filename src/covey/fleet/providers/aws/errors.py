"""What AWS refuses, as the five errors of the fleet, and what its scaling activities fail for.

Codes: EC2 API Reference "Error codes", Auto Scaling API Reference "Common errors"; the capacity codes are those after
which Karpenter takes an offering as unavailable.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from typing import Literal

from covey.fleet.errors import Capacity, Denied, Permanent, ProviderError, Quota, Temporary
from covey.fleet.providers.groups.calls import translated

__all__ = ["failure_kind", "mapped", "translate"]

CAPACITY = frozenset({
    "InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientReservedInstanceCapacity",
    "InsufficientCapacity", "InsufficientCapacityOnHost", "UnfulfillableCapacity", "Unsupported",
    "ReservationCapacityExceeded", "SpotMaxPriceTooLow",
})  # fmt: skip
QUOTA = frozenset({
    "VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded", "MaxFleetCountExceeded",
    "InsufficientFreeAddressesInSubnet", "VolumeLimitExceeded", "LimitExceeded", "ServiceQuotaExceededException",
})  # fmt: skip
DENIED = frozenset({
    "AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthFailure", "ExpiredToken",
    "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch",
    "OptInRequired", "MissingAuthenticationToken", "PendingVerification",
})  # fmt: skip
TEMPORARY = {
    "Throttling": 5.0, "ThrottlingException": 5.0, "RequestLimitExceeded": 5.0, "TooManyRequestsException": 5.0,
    "RequestThrottled": 5.0, "ScalingActivityInProgress": 10.0, "ResourceContention": 10.0, "ResourceInUse": 10.0,
    "ServiceUnavailable": 5.0, "Unavailable": 5.0, "InternalFailure": 5.0, "InternalError": 5.0, "RequestTimeout": 5.0,
}  # fmt: skip
"""By code: seconds before the same call is worth another try."""

_WORD = re.compile(r"[A-Za-z]{6,60}")


def failure_kind(status: str) -> Literal["capacity", "quota"] | None:
    """What a scaling activity's `StatusMessage` is about; None when it is neither (a wrong image, a missing role).

    The message carries the code of EC2 or only its sentence: "We currently do not have sufficient m5.large capacity in
    the Availability Zone you requested", "You have requested more vCPU capacity than your current vCPU limit".
    """
    words = set(_WORD.findall(status[:2000]))
    lowered = status[:2000].lower()
    if words & QUOTA or ("than your current" in lowered and "limit" in lowered) or "quota" in lowered:
        return "quota"
    if words & CAPACITY or ("sufficient" in lowered and "capacity" in lowered) or "no spot capacity" in lowered:
        return "capacity"
    return None


def translate(error: Exception, *, doing: str) -> ProviderError:
    """One error of boto3 in the fleet's words. `doing` completes "could not ..."; scope and shape name what was
    wanted."""
    from botocore import exceptions

    if not isinstance(error, exceptions.ClientError):
        if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
            return Denied(f"could not {doing}: no AWS credentials", next_step="aws configure, or set AWS_PROFILE")
        if isinstance(error, exceptions.ParamValidationError | exceptions.NoRegionError):
            return Permanent(f"could not {doing}: {error}")
        return Temporary(f"could not {doing}: AWS does not answer ({type(error).__name__})", after=5.0)
    code = str(error.response.get("Error", {}).get("Code", ""))
    said = str(error.response.get("Error", {}).get("Message", ""))[:500]
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    message = f"could not {doing}: {code}: {said}"
    if code in CAPACITY:
        return Capacity(message, scope="", shape="")
    if code in QUOTA:
        return Quota(message, scope="", next_step="ask AWS for a higher limit (Service Quotas), or set max_agents")
    if code in DENIED:
        return Denied(message, next_step="grant the rights in docs/fleet/clouds.md, then: covey fleet check")
    if code in TEMPORARY or status >= 500 or status == 429:
        return Temporary(message, after=TEMPORARY.get(code, 5.0))
    return Permanent(message)


def mapped(doing: str) -> AbstractContextManager[None]:
    """Let nothing but the fleet's errors out."""
    return translated(translate, doing)
