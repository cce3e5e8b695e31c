"""What is fuzzed: a function from any bytes to nothing, which raises where a promise about those bytes is broken.

None of them asks only that nothing is raised, where more can be asked: what is read must be the same in whatever pieces it comes, and
where somebody else reads the same format, both must agree.
"""

import json
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import httptools

from homing import NotExecuted, config
from homing.client_http import ResponseReader
from homing.client_rpc import Ending, Question, read
from homing.core import codec, jsonrpc, majordomo, uri
from homing.core.specs import MappingError
from homing.edges.http_chunks import ChunkedBody, Refused
from homing.edges.http_head import CHUNKED, Head, ListenerLimits, Refusal, examine, parse_head
from homing.edges.provider_content import ContentTooLarge, Decoder
from homing.edges.provider_response import Broken, Reader

LIMITS = ListenerLimits(body_bytes_max=4096, header_bytes_max=2048, header_count_max=20)
BODY_BYTES_MAX = 4096
BATCH_LENGTH_MAX = 20
REASONS = {"response_invalid", "response_too_large"}


def request_body(data: bytes) -> None:
    """Whatever is taken for a call is JSON to the standard library too, and its params are worth the same."""
    parsed = jsonrpc.parse(data, batch_length_max=BATCH_LENGTH_MAX)
    items = parsed.items if isinstance(parsed, jsonrpc.Batch) else [parsed]
    assert len(items) <= BATCH_LENGTH_MAX
    for item in items:
        if isinstance(item, jsonrpc.Refused):
            assert item.outcome.executed == "no"
            json.loads(item.id)
    if any(isinstance(item, jsonrpc.Call) for item in items):
        whole = json.loads(data, parse_int=str, parse_float=str)
        members = whole if isinstance(parsed, jsonrpc.Batch) else [whole]
        for item, member in zip(items, members, strict=True):
            if isinstance(item, jsonrpc.Call):
                assert item.method == member["method"]
                json.loads(item.params_raw or b"null")


def json_text(data: bytes) -> None:
    """What passes for JSON is JSON, and what was read of it is written as the same."""
    try:
        jsonrpc.check_json(data, jsonrpc.DEPTH_MAX)
    except ValueError:
        return
    json.loads(data)
    try:
        value = jsonrpc.decode_value(data)
    except ValueError:
        return  # a number without measure
    again = jsonrpc.decode_value(jsonrpc.encode_value(value))
    assert again == value, (again, value)


def request_head(data: bytes) -> None:
    """A head that is let in is framed by llhttp, which reads the same bytes, in the same way."""
    examine(data, LIMITS)
    raw = data + b"\r\n\r\n"
    raw = raw[: raw.index(b"\r\n\r\n") + 4]
    head = parse_head(raw, LIMITS)
    if isinstance(head, Refusal):
        assert head.status in {400, 411, 413, 414, 417, 431, 501, 505}, head
        return
    assert isinstance(head, Head)
    witness = _Witness()
    body = b"0\r\n\r\n" if head.length == CHUNKED else b"x" * head.length
    try:
        httptools.HttpRequestParser(witness).feed_data(raw + body)
    except httptools.HttpParserUpgrade:
        return
    assert witness.bodies == [body if head.length > 0 else b""], (head, witness.bodies)


class _Witness:
    """What llhttp makes of it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self._body = b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.bodies.append(self._body)
        self._body = b""


def chunked_body(data: bytes) -> None:
    """In whatever pieces it comes, it is the same body, or refused for the same."""

    def fed(pieces: list[bytes]) -> object:
        body = ChunkedBody(LIMITS)
        used = 0
        try:
            for piece in pieces:
                used += body.feed(piece, 0)
                if body.done:
                    return bytes(body.content), used
        except Refused as refused:
            return refused.refusal
        assert len(body.content) <= LIMITS.body_bytes_max
        return bytes(body.content), used

    whole = fed([data])
    assert fed([bytes((byte,)) for byte in data]) == whole
    assert fed(_halves(data)) == whole


def provider_response(data: bytes) -> None:
    """In whatever pieces it comes, it is the same response, or none."""
    bodyless = bool(data[:1] and data[0] & 1)
    data = data[1:]

    def fed(pieces: list[bytes]) -> object:
        reader = Reader(body_bytes_max=BODY_BYTES_MAX, head_bytes_max=LIMITS.header_bytes_max)
        reader.begin(bodyless=bodyless)
        try:
            for piece in pieces:
                if reader.feed(piece):
                    return reader.response()
            if not reader.end():
                return None
            response = reader.response()
        except Broken as broken:
            return None if broken.reason in REASONS else broken
        assert len(response.body) <= BODY_BYTES_MAX
        return response

    whole = fed([data] if data else [])
    assert not isinstance(whole, Broken), whole
    if whole is not None:  # a piece that is cut off may be too large or broken further on
        assert fed([bytes((byte,)) for byte in data]) == whole


def content_coding(data: bytes) -> None:
    """What comes out is bounded, and what zlib itself undoes in one go is the same."""
    for deflate in (False, True):
        decoder = Decoder(deflate=deflate, bytes_max=BODY_BYTES_MAX)
        try:
            content = b"".join(decoder.feed(piece) for piece in _halves(data))
            decoder.finish()
        except (ValueError, ContentTooLarge):
            continue
        assert len(content) <= BODY_BYTES_MAX
        if deflate and data:
            undone = [zlib.decompress(data, wbits) for wbits in (15, -15) if _undoes(data, wbits)]
            assert content in undone


def wire(data: bytes) -> None:
    """Frames of a stranger are messages or junk. Messages say the same when they are said again, and by one who carries them unread."""
    frames = _frames(data)
    try:
        messages = codec.decode(frames)
    except codec.WireError:
        saved, errors = codec.salvage(frames)
        assert errors
        assert all(error.kind in codec.KINDS for error in errors)
        assert codec.decode(codec.encode(saved)) == saved
        return
    again = codec.encode(messages)
    assert codec.decode(again) == messages
    assert codec.salvage(frames) == (messages, [])
    carried = codec.encode(codec.decode(frames, sealed=True))
    assert codec.decode(carried) == messages


def majordomo_frames(data: bytes) -> None:
    """A worker's and a client's frames of MDP, both framings; what is answered goes back in the framing in which it was asked."""
    frames = _frames(data)
    majordomo.read_worker(frames)
    ask = majordomo.read_client(frames)
    if ask is not None:
        answered = majordomo.answer(ask, b"{}")
        assert answered[-1] == b"{}"


def uri_template(data: bytes) -> None:
    """A template and a value: what is expanded has no byte that ends a request line, and no segment that climbs."""
    written, _, value = data.decode("utf-8", "replace").partition("\n")
    template, problems = uri.parse(written)
    if template is None:
        assert problems
        return
    for given in (value, 7, True, None, [value, 1], [], 1.5):
        root: dict[str, object] = {
            "params": dict.fromkeys(template.names, given),
            "call": dict.fromkeys(("id", "key", "principal"), value),
        }
        try:
            target = template.expand(root)
        except MappingError:
            continue
        assert target.isascii(), target
        assert not set(target) & set(" \r\n\t\0#"), target
        path = target.partition("?")[0]
        climbs = [segment for segment in path.split("/") if segment in {".", ".."}]
        assert not climbs or any(segment in written for segment in climbs), target


def configuration(data: bytes) -> None:
    """Any file is a configuration or has mistakes, each with a place and a sentence."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        path = Path(folder) / "homing.toml"
        path.write_bytes(data)
        for problem in config.check(path, environ={}):
            assert problem.message
            assert problem.file


QUESTION = Question(id="7", method="acme.charge", params=b"{}")


def client_answer(data: bytes) -> None:
    """What a client cannot understand is unknown; `no` is told only where it is written."""
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
    (answer,) = read([QUESTION], Ending(reader=reader), alone=True)
    if isinstance(answer, bytes):
        json.loads(answer)
        assert json.loads(data)["id"] == QUESTION.id
    elif isinstance(answer, NotExecuted):
        assert json.loads(data)["error"]["data"]["executed"] == "no"


def _halves(data: bytes) -> list[bytes]:
    half = len(data) // 2
    return [piece for piece in (data[:half], data[half:]) if piece]


def _undoes(data: bytes, wbits: int) -> bool:
    try:
        zlib.decompress(data, wbits)
    except zlib.error:
        return False
    return True


def _frames(data: bytes) -> list[bytes]:
    """The first byte of each frame is its length; 255: all that is left."""
    frames: list[bytes] = []
    at = 0
    while at < len(data):
        size = data[at] if data[at] < 255 else len(data)
        frames.append(data[at + 1 : at + 1 + size])
        at += 1 + size
    return frames


def framed(*frames: bytes) -> bytes:
    """Bytes that `_frames` takes apart into these."""
    return b"".join(bytes((len(frame),)) + frame for frame in frames)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        request_body,
        json_text,
        request_head,
        chunked_body,
        provider_response,
        content_coding,
        wire,
        majordomo_frames,
        uri_template,
        configuration,
        client_answer,
    )
}
