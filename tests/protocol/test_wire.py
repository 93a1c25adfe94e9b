"""The wire: what is documented is what is spoken, and no order of frames breaks it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import BadMessage, Congested
from protocol.wire import specification
from protocol.wire.channel import Channel
from protocol.wire.framing import Beat, UpFrame, from_worker
from protocol.wire.messages import INLINE, Code, Message, Payload, PayloadPart, Progress, TokenChunk
from protocol.wire.payloads import Payloads, pack, parts

DOCS = Path(__file__).parents[2] / "docs"


def test_the_schema_in_the_documents_is_that_of_the_code() -> None:
    """``python -m protocol.wire.specification docs/protocol.schema.json`` writes it."""
    assert (DOCS / "protocol.schema.json").read_text() == specification.text()


def test_the_page_names_every_message_and_every_code() -> None:
    page = (DOCS / "protocol.md").read_text()
    named = set(re.findall(r"`([\w-]+)`", page))
    types = {get_args(kind.model_fields["type"].annotation)[0] for kind in get_args(Message)}
    types |= {"hello", "welcome", "refused", "frame", "beat"}
    assert types | set(get_args(Code)) <= named


def progress(text: str) -> Progress:
    return Progress(id="1", text=text)


def arrive(channel: Channel, data: bytes) -> list[str]:
    """What is new for a channel in a frame."""
    message = from_worker.read(data)
    if isinstance(message, Beat):
        channel.heard(message)
        return []
    assert isinstance(message, UpFrame)
    new = channel.accept(message.ack, message.seq, message.body)
    return [one.text for one in new if isinstance(one, Progress)]


class Network:
    """Carries a channel's frames to another, and does to them what it is told."""

    def __init__(self) -> None:
        self.sender, self.receiver = Channel(), Channel()
        self.got: list[str] = []
        self.held: list[bytes] = []

    def carry(self, fault: str) -> None:
        frame = self.sender.take()
        if frame is None or fault == "drop":
            return
        if fault == "swap" and not self.held:
            self.held.append(frame)
            return
        for one in (frame, *self.held, *([frame] if fault == "double" else [])):
            self.got += arrive(self.receiver, one)
        self.held.clear()

    def beat(self) -> None:
        """Each side says what it has; nothing fails meanwhile."""
        for source, target in ((self.sender, self.receiver), (self.receiver, self.sender)):
            source.say()
            while (frame := source.take()) is not None:
                self.got += arrive(target, frame)


FAULTS = ["put", "send", "drop", "double", "swap", "resume"]


@given(st.lists(st.sampled_from(FAULTS), max_size=60))
def test_messages_arrive_once_and_in_order_over_any_network(events: list[str]) -> None:
    network = Network()
    put: list[str] = []
    for event in events:
        if event == "put":
            put.append(str(len(put)))
            network.sender.put(progress(put[-1]))
        elif event == "resume":
            network.sender.acknowledge(network.receiver.received)
            network.sender.rewind()
        else:
            network.carry(event)
    for _ in range(4):  # beats find out what is missing
        network.beat()
    assert network.got == put
    assert network.sender.unacknowledged == 0


def test_a_queue_that_nobody_empties_is_full_at_some_time() -> None:
    channel = Channel(most_messages=10)
    for number in range(10):
        channel.put(progress(str(number)))
    with pytest.raises(Congested, match="the other side is too slow"):
        channel.put(progress("10"))
    lazy = Channel()
    lazy.put_lazily(progress("x" * 10_000) for _ in range(10_000))
    while lazy.take() is not None:
        pass
    assert lazy.unacknowledged < 400  # made only as far as there is room


def test_an_acknowledgement_of_what_was_never_sent_is_refused() -> None:
    channel = Channel()
    channel.put(progress("1"))
    with pytest.raises(BadMessage, match="message 1 was acknowledged, 0 were sent"):
        channel.acknowledge(1)


@given(st.integers(INLINE - 5, INLINE * 5), st.sampled_from(["x", "ä", "€"]))
def test_a_text_of_any_length_is_the_same_after_its_parts(length: int, letter: str) -> None:
    text = letter * length
    value, data = pack(text)
    payloads = Payloads()
    if isinstance(value, Payload):
        for part in parts(value, data):
            payloads.add(part)
    else:
        assert len(text.encode()) <= INLINE
    assert payloads.text(value) == text


def test_a_payload_that_was_tampered_with_is_refused() -> None:
    value, data = pack("x" * 10 * INLINE)
    assert isinstance(value, Payload)
    pieces = list(parts(value, data))
    *most, last = pieces
    forged = last.model_copy(update={"data": b"y" * len(last.data)})
    longer = last.model_copy(update={"data": b"y" * 200_000})
    for wrong, why in (
        (pieces[1:], "out of order"),
        ([pieces[0], *pieces[2:]], "out of order"),
        ([*most, forged], "digest"),
        ([*most, longer], "longer"),
    ):
        payloads = Payloads()
        with pytest.raises(BadMessage, match=why):
            add_all(payloads, wrong)
        with pytest.raises(BadMessage, match="is not here"):
            payloads.text(value)
    with pytest.raises(BadMessage, match="longer"):
        add_all(Payloads(most_bytes=INLINE), pieces)


def add_all(payloads: Payloads, pieces: list[PayloadPart]) -> None:
    for part in pieces:
        payloads.add(part)


def test_a_small_message_is_small() -> None:
    channel = Channel()
    channel.put(TokenChunk(id="t", fence=1, at=0, tokens=(5,), logprobs=(-0.1,)))
    frame = channel.take()
    assert frame is not None
    assert len(frame) < 130
    assert json.loads(frame)["body"][0]["tokens"] == [5]
