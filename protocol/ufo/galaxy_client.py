"""A Galaxy client of UFO³, for whom the hub is a device's server: requests in, results out."""

from __future__ import annotations

import uuid

import pydantic_core
from anyio.abc import TaskGroup

from protocol.hub.hub import Hub
from protocol.hub.task_handles import TaskHandle
from protocol.ufo.connection import UfoConnection
from protocol.ufo.device import REQUEST, UfoDevice, request_to
from protocol.ufo.frames import ClientFrame, ServerFrame, Status, ended, failed, ok
from protocol.wire.messages import Cancelled


class GalaxyClient:
    """One connection of a Galaxy client; what it asked for is cancelled when it leaves.

    Its heartbeats name the role ``device``, so only the role of its registration counts.
    """

    def __init__(
        self, name: str, connection: UfoConnection, hub: Hub, devices: dict[str, UfoDevice]
    ) -> None:
        self._name = name
        self._connection = connection
        self._hub = hub
        self._devices = devices
        self._connection_id = uuid.uuid4().hex
        self._handles: dict[str, TaskHandle] = {}
        self._count = 0
        self._group: TaskGroup | None = None

    def work(self, group: TaskGroup) -> None:
        """Use ``group`` for its tasks from now on."""
        self._group = group

    def target(self, name: str) -> str | None:
        """The worker of that name, which may be a device's name for itself."""
        if name in self._devices or name in self._hub.workers:
            return name
        known = [device.id for device in self._devices.values() if device.client_id == name]
        return known[0] if len(known) == 1 else None

    def leave(self) -> None:
        """Cancel its tasks."""
        for handle in self._handles.values():
            handle.cancel()

    def hear(self, frame: ClientFrame) -> None:
        """Take a frame."""
        match frame.type:
            case "heartbeat":
                self._connection.say(ok())
            case "task":
                self._ask(frame)
            case "device_info_request":
                self._tell_info(frame)
            case "error" | "task_end":
                return
            case _:
                self._connection.say(failed(f"a constellation can't send {frame.type}"))

    def _tell_info(self, frame: ClientFrame) -> None:
        target = self.target(frame.target_id or "")
        info: dict[str, object] = {}
        error = None
        if target is None:
            error = f"Target device '{frame.target_id}' is not connected"
        elif target in self._devices:
            info = self._devices[target].info
        else:
            profile = self._hub.workers[target]
            tools = [offer.name for offer in profile.tools]
            info = {
                "device_id": target,
                "platform": profile.platform,
                "supported_features": sorted({*profile.tags, *tools}),
                "custom_metadata": dict(profile.resources),
            }
        status: Status = "ok" if error is None else "error"
        answer = ServerFrame(
            type="device_info_response", status=status, result=info or None, error=error
        )
        if frame.request_id is not None:
            answer = answer.model_copy(update={"response_id": frame.request_id})
        self._connection.say(answer)

    def _ask(self, frame: ClientFrame) -> None:
        session = frame.session_id or frame.request_id or "task"
        target = self.target(frame.target_id or "")
        if not frame.request:
            self._end(session, error="request: there is none; say what is to be done")
        elif target is None:
            self._end(session, error=f"Target device '{frame.target_id}' is not connected")
        elif not self._takes_requests(target):
            self._end(
                session, error=f"worker {target} has no tool named {REQUEST!r}; register one there"
            )
        else:
            self._connection.say(ok(session))
            self._submit(session, target, frame)

    def _takes_requests(self, target: str) -> bool:
        if target in self._devices:
            return True
        return any(offer.name == REQUEST for offer in self._hub.workers[target].tools)

    def _submit(self, session: str, target: str, frame: ClientFrame) -> None:
        """Begin the task of a session, unless the same task is still under way.

        Their client gives up by its own clock and tells nobody, and may then ask again under the
        same name.  With the same words that is the same task; with others it takes its place.
        """
        assert self._group is not None
        assert frame.request is not None
        asked = {"request": frame.request}
        if target in self._devices:
            asked["task_name"] = frame.task_name or ""
        arguments = pydantic_core.to_json(asked).decode()
        before = self._handles.get(session)
        if before is not None and before.request.arguments == arguments:
            return
        if before is not None:
            before.cancel()
        self._count += 1
        id = f"ufo/{self._connection_id}#{self._count}/{self._name}/{session}"[:400]
        request = request_to(target, id, arguments)
        handle = self._handles[session] = self._hub.submit(request)
        self._group.start_soon(self._wait, session, handle)

    async def _wait(self, session: str, handle: TaskHandle) -> None:
        end = await handle.ended()
        if self._handles.get(session) is not handle:
            return
        del self._handles[session]
        if isinstance(end, Cancelled):
            self._end(session, error="cancelled")
        elif end.failure is not None:
            self._end(session, error=end.failure.message)
        else:
            assert isinstance(end.value, str)
            self._end(session, result=pydantic_core.from_json(end.value))

    def _end(self, session: str, *, result: object = None, error: str | None = None) -> None:
        self._connection.say(ended(session, result=result, error=error))
