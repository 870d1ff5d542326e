"""A served model: what is asked of each server, what is taken out of its streams, and what is refused. A fake plays."""

from __future__ import annotations

import socket
import threading
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import engines
from agent.orders import Load, Profile, Repeat, Resolve
from agent.served import process
from agent.served.client import Client, Piece, Reply, endpoint_of
from agent.served.dialects import DIALECTS, UNKNOWN, by_owner
from agent.served.phases import ServedPhases
from agent.served.reading import Asked, Timed, timed
from agent.served.server import look
from agent.served.slices import slices_of
from phasewatt.errors import ConfigInvalid, EngineFailed
from phasewatt.fields import Phase
from tests.fixtures import transformers_server
from tests.fixtures.served import MODEL, Event, Play, serving

PROMPT = 8


@pytest.fixture
def play() -> Play:
    return Play()


@pytest.fixture
def client(play: Play) -> Iterator[Client]:
    with serving(play) as made:
        yield made


def _phases(client: Client, batch: int = 1) -> ServedPhases:
    return ServedPhases(client, look(client, ""), lambda tokens: array("i", range(batch * tokens)), batch, PROMPT)


def _ask(phase: Phase, **fields: float) -> Repeat:
    usual = {"repetitions": 3, "seconds": 0.0, "limit_s": 20.0}
    return Repeat(phase=phase, **{**usual, **fields})  # type: ignore[arg-type]


def test_prefill_is_one_token_requests(play: Play, client: Client) -> None:
    """Nothing but the prompt and the first token, over and over."""
    done = _phases(client).repeat(_ask(Phase.PREFILL))
    assert len(done.durations_ns) == 3
    assert [(len(asked["prompt"]), asked["max_tokens"]) for asked in play.asked] == [(PROMPT, 1)] * 3


def test_decode_is_slices_of_one_long_request(play: Play, client: Client) -> None:
    """Back to back, so that no prefill lies in the window; each deeper than the one before."""
    done = _phases(client).repeat(_ask(Phase.DECODE, depth=20, steps=4))
    assert [len(asked["prompt"]) for asked in play.asked] == [20]
    assert len(done.starts_ns) == 3
    assert done.kv_advance == 4
    ends = [start + duration for start, duration in zip(done.starts_ns, done.durations_ns, strict=True)]
    assert ends[:-1] == list(done.starts_ns[1:])


def test_a_decode_window_is_made_long_enough(play: Play, client: Client) -> None:
    """The pace of the rounds before tells how many steps fill the seconds."""
    play.step_s = 0.002
    phases = _phases(client)
    phases.repeat(_ask(Phase.DECODE, depth=20, steps=4))
    done = phases.repeat(_ask(Phase.DECODE, depth=20, steps=4, seconds=0.3))
    assert sum(done.durations_ns) > 0.25e9


def test_decode_ends_where_the_servers_context_does(play: Play, client: Client) -> None:
    """As many slices as fit; with none, the reason."""
    play.pages["/props"]["default_generation_settings"] = {"n_ctx": 31}
    assert len(_phases(client).repeat(_ask(Phase.DECODE, depth=20, steps=5)).starts_ns) == 2
    with pytest.raises(EngineFailed, match="takes 31 tokens a sequence: no room for 16 steps at depth 20"):
        _phases(client).repeat(_ask(Phase.DECODE, depth=20, steps=16))


def test_requests_are_kept_in_flight(play: Play, client: Client) -> None:
    """As many at any time as there are sequences, each asked for anew when done."""
    done = _phases(client, batch=4).repeat(_ask(Phase.REQUEST, steps=5, seconds=0.05))
    assert done.in_flight == 4
    assert len(done.starts_ns) >= 8
    assert list(done.starts_ns) == sorted(done.starts_ns)
    assert all(len(gaps) == 4 for gaps in done.gaps_ns)
    assert len({tuple(asked["prompt"]) for asked in play.asked}) == 4


def test_one_request_adds_up(play: Play, client: Client) -> None:
    """First token and gaps give the duration, and a request waits for the one before."""
    done = _phases(client).repeat(_ask(Phase.REQUEST, steps=5))
    for first, gaps, duration in zip(done.first_token_ns, done.gaps_ns, done.durations_ns, strict=True):
        assert first + sum(gaps) == duration
    assert not done.several_to_a_chunk


def test_several_tokens_to_a_chunk_are_said_to_be(play: Play, client: Client) -> None:
    """The gaps are between chunks, and nothing is spread over the tokens in them."""
    play.owner, play.ids, play.to_a_chunk = "vllm", "token_ids", 2
    play.pages["/version"] = {"version": "0.12.0"}
    done = _phases(client).repeat(_ask(Phase.REQUEST, steps=6))
    assert done.several_to_a_chunk
    assert [len(gaps) for gaps in done.gaps_ns] == [2, 2, 2]


def test_chunks_that_do_not_tell_what_they_hold(play: Play, client: Client) -> None:
    """A request has its first and last token all the same; a decode step cannot be timed."""
    play.to_a_chunk = 2
    assert _phases(client).repeat(_ask(Phase.REQUEST, steps=6)).several_to_a_chunk
    with pytest.raises(EngineFailed, match="several tokens in some chunks and does not say in which"):
        _phases(client).repeat(_ask(Phase.DECODE, depth=20, steps=4))


def test_sequences_that_never_decode_together_are_refused(play: Play, client: Client) -> None:
    """A server with fewer slots than sequences queues them."""
    play.slots = threading.Semaphore(1)
    play.pages["/props"]["total_slots"] = 1
    with pytest.raises(EngineFailed, match="never decoded all 2 sequences at once; it has 1 slots"):
        _phases(client, batch=2).repeat(_ask(Phase.DECODE, depth=20, steps=2))


def test_no_device_time_is_made_up(client: Client) -> None:
    assert _phases(client).profile(Profile(phase=Phase.PREFILL, repetitions=1)).busy_ns is None


def _without(*keys: str):  # type: ignore[no-untyped-def]
    return lambda events: [event for event in events if isinstance(event, bytes) or not any(event.get(k) for k in keys)]


def _usage(**changed: object):  # type: ignore[no-untyped-def]
    def spoil(events: list[Event | bytes]) -> list[Event | bytes]:
        for event in events:
            if isinstance(event, dict) and "usage" in event:
                event["usage"] = {**event["usage"], **changed}
        return events

    return spoil


def _finish(events: list[Event | bytes]) -> list[Event | bytes]:
    events[-3]["choices"][0]["finish_reason"] = "stop"  # type: ignore[index,call-overload]
    return events


HOSTILE = {
    "early": (lambda events: events[:2], r"ended the stream early: no \[DONE\] came"),
    "no end": (lambda events: [*events[:2], *events[-2:]], "ended the stream early: no finish_reason came"),
    "stops": (_finish, "does not ignore the end of text"),
    "no usage": (_without("usage"), "sent no usage"),
    "usage twice": (lambda events: [*events[:-1], events[-2], b"[DONE]"], "sent usage 2 times"),
    "fewer": (_usage(completion_tokens=3), "counts 3 completion_tokens, 5 were asked for"),
    "longer prompt": (_usage(prompt_tokens=9), "counts 9 prompt_tokens, 8 were asked for"),
    "cache": (_usage(prompt_tokens_details={"cached_tokens": 7}), "took 7 prompt tokens from its cache"),
    "says nothing of a cache": (_usage(prompt_tokens_details=None), "does not say how many prompt tokens"),
    "more chunks": (lambda events: [events[0], *events], "counts 5 tokens and sent 6 chunks"),
    "other model": (lambda events: [*events[:2], {"model": "big", "choices": []}, *events[2:]], "model 'big'"),
    "error": (lambda events: [*events[:2], {"error": {"message": "out of memory"}}], "out of memory"),
    "not JSON": (lambda events: [b"{"], "what is not JSON"),
    "a list": (lambda events: [b"[1]"], "no completion"),
    "two choices": (lambda events: [{"model": MODEL, "choices": [{}, {}]}, *events], "several choices"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_stream_that_does_not_hold_is_refused(play: Play, client: Client, name: str) -> None:
    """Each with its own reason, and the server is asked for the next as if nothing had been."""
    play.spoil, said = HOSTILE[name]  # type: ignore[assignment]
    phases = _phases(client)
    with pytest.raises(EngineFailed, match=said):
        phases.repeat(_ask(Phase.REQUEST, steps=5))
    play.spoil = lambda events: events
    assert len(phases.repeat(_ask(Phase.REQUEST, steps=5)).durations_ns) == 3


def test_one_failure_of_many_is_the_reason(play: Play, client: Client) -> None:
    """Not that the others could not begin."""
    play.status, play.complaint = 500, {"error": {"message": "slot broke"}}
    with pytest.raises(EngineFailed, match="slot broke"):
        _phases(client, batch=3).repeat(_ask(Phase.DECODE, depth=8, steps=2))
    with pytest.raises(EngineFailed, match="slot broke"):
        _phases(client, batch=3).repeat(_ask(Phase.REQUEST, steps=2))


def test_a_server_that_is_down_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(EngineFailed, match=f"no server answers at http://127.0.0.1:{port}: Connection refused"):
        look(Client(endpoint_of(f"http://127.0.0.1:{port}")), "")


def test_a_silent_server_is_given_up(play: Play, client: Client) -> None:
    """After its silence, not after its answer."""
    phases = ServedPhases(Client(client.endpoint, 0.2), look(client, ""), lambda n: array("i", range(n)), 1, PROMPT)
    play.hang = threading.Event()
    with pytest.raises(EngineFailed, match=r"was silent for 0\.2 s"):
        phases.repeat(_ask(Phase.PREFILL))


def test_a_server_that_is_loading_says_so(play: Play) -> None:
    """As llama.cpp's does, with 503 from every path."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        busy = b'HTTP/1.1 503 Busy\r\nContent-Length: 37\r\n\r\n{"error":{"message":"Loading model"}}'

        def answer() -> None:
            taken, _ = listening.accept()
            taken.recv(1000)
            taken.sendall(busy)
            taken.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(EngineFailed, match="is not ready: Loading model"):
            look(Client(endpoint_of(f"http://127.0.0.1:{listening.getsockname()[1]}")), "")
        thread.join()


def test_what_is_no_such_server_is_refused(play: Play, client: Client) -> None:
    play.models = []
    with pytest.raises(EngineFailed, match="lists no model: it has none, or is no OpenAI-compatible server"):
        look(client, "")


def test_another_model_is_refused_before_anything_is_measured(play: Play, client: Client) -> None:
    play.models = [{"id": "a"}, {"id": "b"}]
    with pytest.raises(EngineFailed, match="serves no model 'tiny'; it serves a, b"):
        look(client, "tiny")
    with pytest.raises(EngineFailed, match=r"serves 2 models: name one as served_model \(a, b\)"):
        look(client, "")
    assert look(client, "b").model == "b"


@pytest.mark.parametrize("dialect", [one for one in DIALECTS if one.owner], ids=lambda one: one.name)
def test_each_dialect_is_spoken_as_documented(play: Play, client: Client, dialect) -> None:  # type: ignore[no-untyped-def]
    """Known by what it signs its models with; its own fields are sent, and a salt is new each time."""
    play.owner, play.ids = dialect.owner, dialect.ids
    play.pages[dialect.version_path] = {dialect.version_key: "1.2", "disable_radix_cache": True}
    assert look(client, "").versions == {dialect.name: "1.2"}
    _phases(client).repeat(_ask(Phase.REQUEST, steps=3))
    assert all(dialect.fields.items() <= asked.items() for asked in play.asked)
    if dialect.salt:
        assert len({asked[dialect.salt] for asked in play.asked}) == len(play.asked)


def test_a_cache_that_cannot_be_passed_by_is_refused(play: Play, client: Client) -> None:
    """SGLang's is switched off when it starts, or not at all."""
    play.owner = "sglang"
    play.pages["/get_server_info"] = {"version": "0.5", "disable_radix_cache": False}
    with pytest.raises(EngineFailed, match="keeps prompts in a cache: start it with --disable-radix-cache"):
        look(client, "")


def test_ollama_is_refused_with_the_reason(play: Play, client: Client) -> None:
    play.owner, play.pages = "library", {"/api/version": {"version": "0.13"}}
    with pytest.raises(EngineFailed, match="is ollama: it takes no token ids"):
        look(client, "")


def test_transformers_serve_is_refused_with_its_own_words(tmp_path: Path) -> None:
    """The real one: it rejects fields that it does not know, before it loads a model."""
    for name in ("transformers", "fastapi", "uvicorn", "openai"):
        pytest.importorskip(name, reason=f"{name} is not installed: it belongs beside torch here")
    with transformers_server.serving(tmp_path) as client:
        assert look(client, transformers_server.MODEL).dialect is UNKNOWN
        with pytest.raises(EngineFailed, match=r"refused the request \(422\): Unexpected fields in the request"):
            _phases(client).repeat(_ask(Phase.PREFILL))


def test_an_owner_that_is_not_told_is_no_dialect() -> None:
    """Ollama signs with None here, and nobody is taken for it."""
    assert by_owner(None) is None


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8080", "ftp://h:1", "http://h", "http://h:0", "http://h:70000", "http://a b:1"]
)
def test_an_endpoint_of_another_form_is_one_line(url: str) -> None:
    with pytest.raises(ConfigInvalid, match="endpoint: expected http://HOST:PORT"):
        endpoint_of(url)


def test_an_endpoint_may_have_a_path_and_v1_is_left_out() -> None:
    assert endpoint_of("http://[::1]:8080/llm/v1/").url == "http://[::1]:8080/llm"


def test_the_engine_refuses_a_server_elsewhere() -> None:
    """This board's meters do not see it. The address is of a range kept for documentation."""
    engine = engines.create("served")
    with pytest.raises(EngineFailed, match="is not on this host, whose meters do not see what it costs"):
        engine.describe(
            Resolve(model="stories15m", weights="random:7", accelerator="cpu", endpoint="http://192.0.2.1:80")
        )
    assert process.is_here(endpoint_of("http://localhost:80"))


@pytest.mark.parametrize(
    ("meta", "page", "weights", "said"),
    [
        ({"n_params": 5}, {}, "random:7", "the server's model has 5 parameters, stories15m has 15191712"),
        ({}, {}, "random:7", "nothing proves that this server has weights random:7"),
        ({}, {"model_path": "/no/such.gguf"}, "random:7", r"the server's file /no/such\.gguf cannot be read"),
    ],
)
def test_weights_that_nothing_proves_are_refused(  # type: ignore[no-untyped-def]
    play: Play, client: Client, meta, page, weights: str, said: str
) -> None:
    play.models = [{"id": MODEL, "meta": meta}]
    play.pages["/props"] |= page
    with pytest.raises(EngineFailed, match=said):
        _loaded(client, weights)


def test_weights_by_their_public_name_are_taken_by_word(client: Client) -> None:
    """Without a digest, so that they are never the same work as weights that were read."""
    loaded = _loaded(client, "hub:owner/name@rev")
    assert (loaded.weights_source, loaded.weights_digest) == ("hub:owner/name@rev", None)


def _loaded(client: Client, weights: str):  # type: ignore[no-untyped-def]
    engine = engines.create("served")
    order = Resolve(model="stories15m", weights=weights, accelerator="cpu", endpoint=client.endpoint.url)
    shape = engine.describe(order).architecture
    load = Load(architecture=shape, weights=weights, dtype="float32", mode="eager", attention="", accelerator="cpu")
    return engine.load(load)


def test_the_process_that_listens_is_found(client: Client) -> None:
    """Ours here: its CPU time is the work's."""
    import os

    assert process.listener(client.endpoint) == os.getpid()
    assert (process.peak_bytes(os.getpid()) or 0) > 1_000_000
    assert process.servers_at(client.endpoint.url)[0] == os.getpid()


def test_an_event_that_comes_in_pieces_has_the_time_of_its_last() -> None:
    body = b'data: {"model":"m","choices":[{"text":"a","finish_reason":"length"}],"usage":{"prompt_tokens":1,'
    rest = b'"completion_tokens":1}}\n\ndata: [DONE]\n\n'
    reply = Reply(100, (Piece(200, body), Piece(300, rest)))
    assert timed(reply, Asked("m", 1, 1), DIALECTS[1]).arrivals_ns == (300,)


def test_slices_begin_when_the_last_sequence_decodes() -> None:
    """And those that began before are deeper by then, which is said."""
    early = Timed(0, tuple(range(10, 130, 10)), (1,) * 12, None, "")
    late = Timed(0, tuple(range(45, 145, 10)), (1,) * 10, None, "")
    found = slices_of([early, late], 2)
    assert found.starts_ns == (45, 65, 85)
    assert found.durations_ns == (20, 20, 20)
    assert found.ahead == round((3 + 0) / 2)


def test_sequences_out_of_step_are_refused() -> None:
    fast = Timed(0, tuple(range(10, 1010, 5)), (1,) * 200, None, "")
    slow = Timed(0, tuple(range(10, 1010, 10)), (1,) * 100, None, "")
    with pytest.raises(EngineFailed, match="2 sequences do not decode together"):
        slices_of([fast, slow], 10)


def test_chunks_that_slices_would_cut_are_refused() -> None:
    stream = Timed(0, (10, 20, 30, 40), (3, 3, 3, 3), None, "")
    with pytest.raises(EngineFailed, match="up to 3 to a chunk, which cannot be cut into slices of 2"):
        slices_of([stream], 2)
    assert slices_of([stream], 3).durations_ns == (10, 10, 10)


def test_the_clients_own_time_is_small(play: Play, client: Client) -> None:
    """CPU time of this process for a chunk, the fake server's half of it included."""
    play.step_s = 0.0
    phases = _phases(client)
    began = time.process_time()
    phases.repeat(_ask(Phase.REQUEST, repetitions=1, steps=2000))
    assert (time.process_time() - began) / 2000 < 0.001
