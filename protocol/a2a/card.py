"""The agent's card: its bindings, our extension, and every variant as a skill."""

from __future__ import annotations

from collections.abc import Sequence

from a2a.types.a2a_pb2 import (
    AgentCapabilities,
    AgentCard,
    AgentExtension,
    AgentInterface,
    AgentSkill,
    HTTPAuthSecurityScheme,
    SecurityRequirement,
    SecurityScheme,
    StringList,
)

from protocol.a2a.bindings import REST, RPC
from protocol.a2a.tasks import EXTENSION
from protocol.http.service import ModelVariant
from protocol.http.settings import ServerSettings


def agent_card(variants: Sequence[ModelVariant], settings: ServerSettings, url: str) -> AgentCard:
    """The card of a server that listens at ``url``; a message's metadata picks the skill."""
    url = (settings.public_url or url).rstrip("/")
    made = AgentCard(
        name="reason",
        description="Reasons in parallel threads, joins them, and checks the answer.",
        version=settings.version,
        supported_interfaces=[
            AgentInterface(url=f"{url}{path}", protocol_binding=binding, protocol_version="1.0")
            for path, binding in ((RPC, "JSONRPC"), (REST, "HTTP+JSON"))
        ],
        capabilities=AgentCapabilities(
            streaming=True,
            push_notifications=False,
            extended_agent_card=False,
            extensions=[
                AgentExtension(
                    uri=EXTENSION,
                    description=(
                        "In metadata, by this URI: a message's wishes (skill, n, seed, budget, "
                        "temperature, context, timeout), an event's number and branch, a task's "
                        "cost. A message that comes twice is one task; Last-Event-ID replays."
                    ),
                )
            ],
        ),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[
            AgentSkill(
                id=variant.id,
                name=variant.title,
                description=variant.description,
                tags=["reasoning"],
                examples=["Use 3, 10, 21 and 23 to make 50"],
            )
            for variant in variants
        ],
    )
    if settings.keys:
        scheme = HTTPAuthSecurityScheme(scheme="bearer")
        made.security_schemes["key"].CopyFrom(SecurityScheme(http_auth_security_scheme=scheme))
        made.security_requirements.append(SecurityRequirement(schemes={"key": StringList()}))
    return made
