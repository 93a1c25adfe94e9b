"""Secrets that a hub puts into calls of devices' tools; whoever asks for a call never has them."""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from orchestrator.errors import InvalidValue, UnknownName
from protocol.errors import RemoteFailure
from protocol.wire.checked import first_problem

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w./-]{0,199}$")]


class Secret(BaseModel):
    """A value, the parameter that it is for, and the devices that may be told it.

    Attributes:
        value: Its text; in no ``repr`` and no error.
        parameter: The name of the tools' parameter.
        devices: Their ids at the hub.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    value: Annotated[str, Field(min_length=8, max_length=10_000)] = Field(repr=False)
    parameter: Label
    devices: frozenset[Label] = Field(min_length=1)


_file: TypeAdapter[dict[Label, Secret]] = TypeAdapter(
    dict[Label, Secret], config=ConfigDict(hide_input_in_errors=True)
)


class SecretStore:
    """Secrets by name, in a file that only its owner can read, or in memory.

    The file is read at each use, so that what is set or removed counts from the next call on.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Use a file; it need not be there yet."""
        self.path = path
        self._secrets: dict[str, Secret] = {}

    def all(self) -> dict[str, Secret]:
        """Every secret, by name.

        Raises:
            InvalidValue: the file can be read by others, or can't be used.
        """
        if self.path is None:
            return self._secrets
        try:
            with self.path.open(encoding="utf-8") as file:
                mode = os.fstat(file.fileno()).st_mode
                if mode & (stat.S_IRWXG | stat.S_IRWXO):
                    raise InvalidValue(f"secrets: others may use {self.path}; chmod 600 it")
                return _file.validate_json(file.read())
        except FileNotFoundError:
            return {}
        except ValidationError as error:
            raise InvalidValue(
                f"secrets: {self.path} is damaged ({first_problem(error)}); set them anew"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidValue(f"secrets: {self.path} can't be used ({error}); mend it") from error

    def set(self, name: str, value: str, *, parameter: str, devices: frozenset[str]) -> None:
        """Keep a secret, in place of an earlier one of its name.

        Raises:
            InvalidValue: something of it can't be used.
        """
        try:
            secret = Secret(value=value, parameter=parameter, devices=devices)
            found = _file.validate_python(self.all() | {name: secret})
        except ValidationError as error:
            raise InvalidValue(f"secret: {first_problem(error)}") from None
        self._write(found)

    def remove(self, name: str) -> None:
        """Forget a secret.

        Raises:
            UnknownName: there is none of this name.
        """
        found = dict(self.all())
        if name not in found:
            raise UnknownName(f"secret {name!r} does not exist; see reason secret list")
        del found[name]
        self._write(found)

    def _write(self, found: dict[str, Secret]) -> None:
        self._secrets = found
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            new = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}")
            number = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(number, "wb") as file:
                file.write(_file.dump_json(found))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
        except OSError as error:
            raise InvalidValue(f"secrets: {self.path} can't be used ({error})") from error


class DeviceSecrets:
    """What a hub does with the secrets of one device's calls."""

    def __init__(self, store: SecretStore, device: str) -> None:
        self._store = store
        self._device = device

    def hide(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """A tool's schema without the parameters that are filled in."""
        hidden = self._own()
        shown = dict(schema)
        if isinstance(shown.get("properties"), dict):
            shown["properties"] = {k: v for k, v in shown["properties"].items() if k not in hidden}
        if isinstance(shown.get("required"), list):
            shown["required"] = [name for name in shown["required"] if name not in hidden]
        return shown

    def fill(
        self, tool: str, schema: Mapping[str, Any], given: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The parameters of a call with the secrets that its tool takes.

        Raises:
            RemoteFailure: whoever asks gives such a parameter himself.
        """
        takes = schema.get("properties")
        own = {
            parameter: secret.value
            for parameter, secret in self._own().items()
            if isinstance(takes, dict) and parameter in takes
        }
        for parameter in own.keys() & given.keys():
            why = f"{tool}: {parameter} is a secret, which the hub fills in; leave it out"
            raise RemoteFailure("bad-arguments", "", why)
        return {**given, **own}

    def redact(self, value: Any) -> Any:
        """JSON values of the device's, with names in place of secrets that it repeats.

        A device that wants to tell its key finds a form that nobody looks for.
        """
        known = {
            secret.value: name
            for name, secret in self._store.all().items()
            if self._device in secret.devices
        }
        return _redacted(value, known) if known else value

    def _own(self) -> dict[str, Secret]:
        """The device's secrets by their parameters."""
        return {
            secret.parameter: secret
            for secret in self._store.all().values()
            if self._device in secret.devices
        }


def _redacted(value: Any, known: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for text, name in known.items():
            for form in (text, json.dumps(text)[1:-1], repr(text)[1:-1], quote(text)):
                value = value.replace(form, f"[secret {name}]")
        return value
    if isinstance(value, list):
        return [_redacted(item, known) for item in value]
    if isinstance(value, dict):
        return {_redacted(key, known): _redacted(item, known) for key, item in value.items()}
    return value
