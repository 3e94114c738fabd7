"""What a message between sites must be: garbage is refused by name, and heads survive the wire."""

import threading
import time
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnnext.runtime import BadMessage, RanksLost, Runtime, WrongMessage
from dnnext.sites.links import memory_links
from dnnext.sites.over_sites import OverSites, run_sites
from dnnext.sites.wire import DATA, ENDED, HEAD_BYTES, LOST, Head, pack_head, read_head


def receive_from(body, expected=np.float64):
    """What a site makes of these bytes from the other one."""
    links = memory_links(2)
    outcome = []

    def listener():
        comm = OverSites(links[0], late=0.05, away=20.0, timeout=30.0)
        try:
            a = np.zeros(5, dtype=expected)
            comm.broadcast(a, 1)
            outcome.append(a)
        except (RanksLost, WrongMessage) as error:
            outcome.append(error)
        comm._delivery.close(is_whole=False)

    thread = threading.Thread(target=listener)
    thread.start()
    other = OverSites(links[1], late=0.05, timeout=30.0)
    label = (other._group, 2)
    links[1].send(0, "x", body(label) if callable(body) else body)
    thread.join(60)
    other._delivery.close(is_whole=False)
    return outcome[0]


def good(label, **changes):
    number = 2  # the first was the introduction
    head = Head(DATA, "<f8", label[0], label[1], number, 1, 40)._replace(**changes)
    return pack_head(head) + np.arange(5.0).tobytes()


def test_the_right_message_is_taken():
    np.testing.assert_array_equal(receive_from(good), np.arange(5.0))


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"abc", "a message of site-1 is 3 bytes long, shorter than its head of 44"),
        (b"?" * 80, r"a message of site-1 begins with b'\?\?\?\?'"),
        (lambda label: good(label) + bytes(8), "a message of site-1 holds 48 bytes where its head says 40"),
        (lambda label: good(label, dtype="<f4"), "holds 40 bytes of <f4, expected 40 of <f8"),
        (lambda label: good(label, size=4000), "holds 40 bytes where its head says 4000"),
        (lambda label: good(label, operation=7), "they wait for different things"),
        (lambda label: good(label, kind=77), "is of the unknown kind 77"),
        (lambda label: good(label, kind=LOST), "a message of site-1 must list the lost among 2 sites, got b'"),
        (pack_head(Head(LOST, "|u1", 0, 0, 0, 1, 3)) + b"[9]", r"must list the lost among 2 sites, got b'\[9\]'"),
    ],
)
def test_garbage_is_refused_by_name(body, sentence):
    error = receive_from(body)
    with pytest.raises((RanksLost, WrongMessage), match=sentence):
        raise error
    if isinstance(error, WrongMessage):
        assert error.rank == 1


def test_a_text_that_is_none_is_refused_by_name():
    def program(comm):
        if comm.rank == 1:
            comm._post(0, (comm._group, comm._operation + 1), np.full(2, 255, np.uint8), "texts")
            return
        with pytest.raises(WrongMessage, match="a message of site-1 holds bytes that are no UTF-8, expected a text"):
            comm.texts("a")

    run_sites(memory_links(2), program, late=0.05, timeout=5.0)


def test_a_check_that_is_none_is_refused_by_name():
    def program(comm):
        if comm.rank == 1:
            comm.texts("[[")
            return
        with pytest.raises(ValueError, match=r"the text of rank 1 must be JSON, got '\[\['"):
            comm.agree_on({"alpha": 1.0})

    run_sites(memory_links(2), program, late=0.05, timeout=5.0)


def test_agents_are_named_for_garbage():
    def program(comm):
        runtime = Runtime(4, comm)
        if comm.rank == 1:
            comm._delivery.link.send(0, "x", b"short")
            time.sleep(0.2)
            return
        with pytest.raises(BadMessage, match="a message of site-1 is 5 bytes long") as caught:
            runtime.max_agents(np.ones(2))
        assert (caught.value.agent, caught.value.round) == (2, 2)
        comm._delivery.link.close()

    run_sites(memory_links(2), program, late=0.05, timeout=5.0)


@given(st.binary(max_size=120))
def test_no_bytes_break_the_reader(data):
    is_head = len(data) >= HEAD_BYTES and data[:4] == b"dnx1" and data[4] < 6 and data[5:8].isascii()
    with nullcontext() if is_head else pytest.raises(ValueError, match=r"is \d+ bytes long|begins|is of the|has the"):
        assert pack_head(read_head(data)) == data[:HEAD_BYTES]


@given(st.builds(Head, st.integers(0, 5), st.sampled_from(["<f8", "<f4", "|u1", "<i8"]), st.integers(0, 2**32 - 1),
                 *[st.integers(0, 2**64 - 1)] * 4))  # fmt: skip
def test_heads_survive_the_wire(head):
    assert read_head(pack_head(head)) == head


@pytest.mark.parametrize("text", ["[[", "7", '{"a": 1, "b": 2}', '["", 3]', "[" * 100_000])
def test_an_introduction_that_is_none_is_refused_by_name(text):
    links, outcome = memory_links(2), []

    def listener():
        try:
            OverSites(links[0], late=0.05, timeout=30.0)
        except (RanksLost, WrongMessage) as error:
            outcome.append(error)

    thread = threading.Thread(target=listener)
    thread.start()
    body, group = text.encode(), read_head(links[1].receive(20.0)[1]).group
    links[1].send(0, "1", pack_head(Head(DATA, "|u1", group, 1, 1, 0, len(body))) + body)
    thread.join(60)
    assert "a message of site-1 must hold its introduction, got" in str(outcome[0])
    found = iter(lambda: links[1].receive(0.1), None)
    assert ENDED in [read_head(data).kind for _, data in found]  # the other one need not wait


def test_what_cannot_be_recorded_is_not_kept_to_be_sent_again():
    records = []

    def record(**message):
        records.append(message)
        if len(records) == 2:
            raise OSError("no space left")

    def program(comm):
        if comm.rank == 1:
            return
        comm._record = record
        comm.send(np.zeros(3), 1)
        with pytest.raises(OSError, match="no space left"):
            comm.send(np.ones(3), 1)
        with comm._delivery.changed:
            assert not [data for data in comm._delivery.peers[1].kept.values() if data.endswith(np.ones(3).tobytes())]

    run_sites(memory_links(2), program, late=0.05, timeout=30.0)
