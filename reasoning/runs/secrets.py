"""What must not be kept: keys, headers, and who may log in where."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

HIDDEN = "[hidden]"
LEAST = 6
"""Characters of a secret; a shorter value, such as ``none``, may stand anywhere by chance."""

_SECRET_NAME = r"[\w.-]*(?:api[_-]?key|key[_-]?file|secret|passw(?:or)?d|credential|authori[sz]ation|cookie|bearer|header|token(?!s|i[sz])|\bkey)[\w-]*"  # noqa: E501
_NAME = re.compile(_SECRET_NAME, re.I)
_PAIR = re.compile(rf"({_SECRET_NAME}[\"']?\s*[=:]\s*)([\"']?)([^\"',;&\s}}]+)", re.I)
_LOGIN = re.compile(r"(\b[a-z][a-z0-9+.-]*://)([^/?#\s@]+)@", re.I)
_SHAPES = re.compile(
    r"\b(?:sk|rk|pk|hf|gsk|ghp|gho|ghs|github_pat|glpat|xox[abp]|AKIA|AIza)[-_]?[A-Za-z0-9_-]{16,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+"
    r"|(?<=[Bb]earer )[\w.~+/=-]{8,}"
)
"""What keys of well-known services, and tokens, look like."""
_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH", re.I)


def hidden_settings(settings: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Settings without secrets, and the secrets that stood in them or in the environment."""
    found = {
        value
        for name, value in os.environ.items()
        if _VARIABLE.search(name) and len(value) >= LEAST and not value.startswith(("/", "~"))
    }
    shown = {name: _setting(name, value, found) for name, value in settings.items()}
    return shown, found


def _setting(name: str, value: Any, found: set[str]) -> Any:
    """A setting as it may be kept; its secrets are added to those ``found``."""
    if _NAME.fullmatch(name) and value is not None:
        found |= {one for one in _texts(value) if len(one) >= LEAST}
        return HIDDEN
    if isinstance(value, Mapping):
        return {str(key): _setting(str(key), inner, found) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_setting("", inner, found) for inner in value]
    if isinstance(value, str):
        found |= {one[3] for one in _PAIR.finditer(value) if len(one[3]) >= LEAST}
        return _PAIR.sub(rf"\1\2{HIDDEN}", hide(value, found))
    return value if isinstance(value, int | float | None) else str(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = value.values()
    if isinstance(value, str):
        yield value
    elif not isinstance(value, int | float | None):
        for one in value:
            yield from _texts(one)


def hide(text: str, secrets: set[str]) -> str:
    """A text without ``secrets``, users and passwords of addresses, and what looks like a key.

    Half characters, which no file may hold, are replaced as well.
    """
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    text = _SHAPES.sub(HIDDEN, _LOGIN.sub(rf"\1{HIDDEN}@", text))
    return text.encode(errors="replace").decode()


def hidden(value: Any, secrets: set[str]) -> Any:
    """`hide` in every text of a value of JSON."""
    if isinstance(value, str):
        return hide(value, secrets)
    if isinstance(value, Mapping):
        return {hide(str(key), secrets): hidden(one, secrets) for key, one in value.items()}
    return [hidden(one, secrets) for one in value] if isinstance(value, list | tuple) else value
