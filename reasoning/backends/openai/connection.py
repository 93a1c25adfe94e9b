"""How a server is reached: its client, the key, proxies, and why it can't be reached."""

from __future__ import annotations

import ipaddress
import os
import ssl
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio

from orchestrator.errors import InvalidValue, importing
from reasoning.backends.openai.settings import OpenaiSettings

HANDSHAKE_S = 2.0
SPEAKS_HTTPS = "speaks https, not http; write https:// in --base-url"


@asynccontextmanager
async def connect(url: str, settings: OpenaiSettings) -> AsyncIterator[Any]:
    """A client of the ``openai`` library for one server, which never retries by itself.

    Raises:
        ExtraMissing: the library is not installed.
        InvalidValue: the key or the proxy can't be used.
    """
    with importing("server", "the openai backend"):
        import httpx2
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient
    most = settings.max_connections
    key = _key(settings.api_key_env)
    try:
        http = DefaultAsyncHttpxClient(
            limits=httpx2.Limits(max_connections=most, max_keepalive_connections=most),
            timeout=httpx2.Timeout(None, connect=settings.connect_timeout),
            proxy=settings.proxy,
            trust_env=not is_loopback(url),
        )
    except (ImportError, ValueError) as error:  # one that needs more packages, or is no address
        proxy = settings.proxy or _proxy_of_environment(url)
        raise InvalidValue(
            f"the proxy {proxy} can't be used ({error}); set --engine proxy=URL, or NO_PROXY"
        ) from error
    async with AsyncOpenAI(base_url=url, api_key=key, http_client=http, max_retries=0) as client:
        yield client


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip().strip("\ufeff") or "none"
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidValue(
            f"the key in {variable} has characters that no key has; copy it once more"
        )
    return key


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own, which no proxy reaches better."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _proxy_of_environment(url: str) -> str | None:
    """The proxy that the environment names for this address."""
    if is_loopback(url) or urllib.request.proxy_bypass(urlsplit(url).hostname or ""):
        return None
    found = urllib.request.getproxies()
    return found.get(urlsplit(url).scheme) or found.get("all")


async def unreachable(url: str, error: BaseException, settings: OpenaiSettings) -> str:
    """Why a server can't be reached, and what to do, to be said after its address."""
    said = " ".join(str(one) for one in _chain(error)).lower()
    if "certificate" in said:
        return "has a certificate that is not trusted; name its authority in SSL_CERT_FILE"
    if url.startswith("https:") and ("wrong_version" in said or "wrong version" in said):
        return "speaks http, not https; write http:// in --base-url"
    if url.startswith("http:") and await _speaks_tls(url):
        return SPEAKS_HTTPS
    proxy = settings.proxy or _proxy_of_environment(url)
    if proxy is not None:
        return f"can't be reached by the proxy {proxy}; mend --base-url, or set NO_PROXY"
    return "can't be reached; start the server or mend --base-url"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


async def _speaks_tls(url: str) -> bool:
    """Whether a server that was asked in plain http answers a handshake."""
    at = urlsplit(url)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with anyio.move_on_after(HANDSHAKE_S):
        try:
            stream = await anyio.connect_tcp(
                at.hostname or "", at.port or 80, ssl_context=context, tls_standard_compatible=False
            )
        except (OSError, ValueError, anyio.BrokenResourceError, anyio.EndOfStream):
            return False
        await stream.aclose()
        return True
    return False
