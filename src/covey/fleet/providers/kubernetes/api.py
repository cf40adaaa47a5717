"""The few requests that we make to one API server, and what its refusals mean.

`lightkube` reads the kubeconfig and makes the connection (certificates, tokens, plug-ins that fetch tokens); what is
sent and read is plain JSON, so that one code serves every version from 1.20 on and an answer is checked before it is
believed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import msgspec

from covey.base.errors import UsageError
from covey.fleet.errors import Denied, Permanent, ProviderError, Quota, Temporary
from covey.fleet.providers.kubernetes.objects import Listed, Status

__all__ = ["ALL", "DISRUPTED", "Api", "Conflict", "Gone", "Refused", "connect", "within"]

T = TypeVar("T")

ALL: Final = "*"
"""Instead of a namespace: all of them."""
MOST_BYTES: Final = 64 << 20
"""Of one answer; a page of 500 pods is about 5 MiB."""
PAGE: Final = 500
MOST_PAGES: Final = 200
CONNECT_SECONDS: Final = 3.0
READ_SECONDS: Final = 10.0
_EXTRA: Final = "pip install 'covey[kubernetes]'"


class Gone(Permanent):
    """There is no such object (404)."""

    default_code = "gone"


class Conflict(Temporary):
    """Somebody else changed it meanwhile (409): look again, then decide again."""

    default_code = "conflict"


class Refused(Temporary):
    """A disruption budget does not let this pod go now (429)."""

    default_code = "disruption-budget"


DISRUPTED: Final = "DisruptionBudget"


def connect(*, kubeconfig: str, context: str, namespace: str, pool: str) -> Api:
    """Reads the kubeconfig; contacts nobody. Raises UsageError: the extra is missing, no such file or context."""
    try:
        from lightkube.config import client_adapter
        from lightkube.config import kubeconfig as files
        from lightkube.core.exceptions import ConfigError
    except ImportError as error:
        raise UsageError(f"pool {pool} needs lightkube, which is not installed", next_step=_EXTRA) from error
    import httpx2
    import yaml

    try:
        found = files.KubeConfig.from_file(kubeconfig) if kubeconfig else files.KubeConfig.from_env()
        config = found.get(context or None)
        if config is None:
            raise ConfigError("it has no current context")
        if config.user is None:
            raise ConfigError(f"context {config.context_name} names no user")
        timeout = httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
        # trust_env: behind a proxy a private API server is reached as HTTPS_PROXY and NO_PROXY say, as kubectl does.
        client = client_adapter.AsyncClient(config, client_adapter.ConnectionParams(timeout=timeout))
    # AttributeError to TypeError: what lightkube falls over in a file of another shape, which it does not check.
    except (ConfigError, OSError, ValueError, AttributeError, LookupError, TypeError, yaml.YAMLError) as error:
        raise UsageError(
            f"pool {pool}: the kubeconfig {kubeconfig or 'of KUBECONFIG or ~/.kube/config'} does not give "
            f"{f'the context {context}' if context else 'a current context'}: {error}",
            next_step="kubectl config get-contexts",
        ) from error
    return Api(client, namespace or config.namespace, pool)


class Api:
    """One API server. Every call raises one of `covey.fleet.errors` and nothing else."""

    def __init__(self, client: Any, namespace: str, pool: str) -> None:
        self.namespace = namespace
        self._client = client
        self._pool = pool
        self._budgets = ""

    async def close(self) -> None:
        await self._client.aclose()

    # --- paths -----------------------------------------------------------------------------------------------------

    def path(self, group: str, plural: str, name: str = "", sub: str = "", *, namespace: str | None = None) -> str:
        """`group` with its version (`v1`, `apps/v1`); `namespace`: ours unless given, "" for what has none."""
        place = self.namespace if namespace is None else namespace
        parts = ["api" if group == "v1" else "apis", group]
        parts += ["namespaces", place] if place not in ("", ALL) else []
        return "/".join(["", *parts, plural, *([name] if name else []), *([sub] if sub else [])])

    async def budgets_group(self) -> str:
        """`policy/v1` from 1.21 on, `policy/v1beta1` before; asked once."""
        if not self._budgets:
            groups = await self.get("/apis/policy", dict[str, Any])
            versions = {each.get("groupVersion") for each in groups.get("versions", ()) if isinstance(each, dict)}
            self._budgets = "policy/v1" if "policy/v1" in versions else "policy/v1beta1"
        return self._budgets

    # --- requests --------------------------------------------------------------------------------------------------

    async def get(self, path: str, kind: type[T], **params: str) -> T:
        return self._parse(await self._send("GET", path, params=params), kind)

    async def list(self, path: str, kind: type[T], **params: str) -> list[T]:
        """All of them, page by page."""
        found: list[T] = []
        params = {**params, "limit": str(PAGE)}
        for _ in range(MOST_PAGES):
            page = await self.get(path, Listed[kind], **params)  # type: ignore[valid-type]
            found += page.items or ()
            if not page.metadata.next:
                return found
            params["continue"] = page.metadata.next
        raise Permanent(f"{self._pool}: {path} lists more than {PAGE * MOST_PAGES} objects")

    async def create(self, path: str, body: object, kind: type[T], **params: str) -> T:
        return self._parse(await self._send("POST", path, body, params=params), kind)

    async def merge(self, path: str, body: object, kind: type[T], **params: str) -> T:
        """A JSON merge patch. With `metadata.resourceVersion` in it it fails with Conflict if anybody was faster."""
        sent = await self._send("PATCH", path, body, params=params, content="application/merge-patch+json")
        return self._parse(sent, kind)

    async def delete(self, path: str, body: object, **params: str) -> None:
        await self._send("DELETE", path, body, params=params)

    async def _send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, str],
        content: str = "application/json",
    ) -> bytes:
        import httpx2
        from lightkube.core.exceptions import ConfigError

        headers = {"Accept": "application/json", **({"Content-Type": content} if body is not None else {})}
        data = None if body is None else msgspec.json.encode(body)
        try:
            async with self._client.stream(method, path, params=dict(params), content=data, headers=headers) as answer:
                pieces, size = [], 0
                async for piece in answer.aiter_bytes():
                    pieces.append(piece)
                    size += len(piece)
                    if size > MOST_BYTES:
                        raise Permanent(f"{self._pool}: the answer to {path} is larger than {MOST_BYTES >> 20} MiB")
                if answer.status_code >= 300:
                    raise self._refusal(answer.status_code, answer.headers, b"".join(pieces), path)
                return b"".join(pieces)
        except httpx2.TimeoutException as error:
            raise Temporary(f"{self._pool}: the API server did not answer in time", after=2.0) from error
        except FileNotFoundError as error:
            raise Denied(
                f"{self._pool}: the kubeconfig's command for credentials is not here: {error}",
                next_step="install what users[].user.exec names",
            ) from error
        except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, OSError) as error:
            if _is_distrusted(error):
                raise Denied(
                    f"{self._pool}: the API server's certificate is not the one of the kubeconfig: {error}",
                    next_step="check certificate-authority of the cluster in the kubeconfig",
                ) from error
            raise Temporary(f"{self._pool}: the API server is not reached: {error}", after=2.0) from error
        except ConfigError as error:
            raise Denied(
                f"{self._pool}: no credentials: {error}", next_step="run the command of users[].user.exec by hand"
            ) from error

    def _refusal(self, code: int, headers: Mapping[str, str], body: bytes, path: str) -> ProviderError:
        """The error that a status stands for (Kubernetes API conventions, "HTTP status codes")."""
        status = Status()
        with suppress(msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            status = msgspec.json.decode(body, type=Status)
        said = f"{self._pool}: {status.message[:500] or f'{path} answered {code}'}"
        after = _seconds(headers.get("Retry-After", "")) or float(status.details.retry_after_seconds)
        causes = {each.reason for each in status.details.causes}
        if code == 403 and "exceeded quota" in status.message:
            return Quota(said, scope=self._pool, next_step=f"kubectl -n {self.namespace} describe resourcequota")
        if code in (401, 403):
            if "NamespaceTerminating" in causes:
                return Permanent(
                    said, next_step=f"wait until the namespace {self.namespace} is gone, then make it again"
                )
            return Denied(said, next_step=f"covey fleet check {self._pool}")
        if code == 404:
            return Gone(said)
        if code == 409:
            return Conflict(said, after=0.2)
        if code == 429:
            return Refused(said, after=max(after, 5.0)) if DISRUPTED in causes else Temporary(said, after=after or 1.0)
        if code >= 500:
            return Temporary(said, after=after or 2.0)
        return Permanent(said)

    def _parse(self, body: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise Permanent(f"{self._pool}: the API server answered something else than was asked: {error}") from error


def _is_distrusted(error: BaseException) -> bool:
    seen: Sequence[BaseException | None] = (error, error.__cause__, error.__context__)
    return any(isinstance(each, ssl.SSLCertVerificationError) for each in seen) or "CERTIFICATE_VERIFY" in str(error)


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0


async def within(seconds: float, pool: str, call: Awaitable[T]) -> T:
    """What `call` gives, or Temporary if that takes longer."""
    try:
        return await asyncio.wait_for(call, seconds)
    except TimeoutError as error:
        raise Temporary(f"{pool}: no answer within {seconds:g} s", after=2.0) from error
