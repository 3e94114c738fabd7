"""Messages between sites in order, once and complete, over links that lose, copy and reorder; and what a silence means.

Design
------
* One counter per receiver numbers its messages: run, sender, receiver and number name a message. Copies are dropped,
  early ones wait for those before them.
* A thread takes what the link has; the program's thread waits in `take`. After `late` seconds it asks the sender, whose
  thread answers at once: it sends again what was not received, and names the site that it waits for itself.
* A site that is awaited is here, late, away or lost. It is lost after `timeout` seconds without the awaited message; of
  sites that wait for each other, the one at the end of the chain.
* A site that ends with an error says so, and all others raise it at their next wait.
* What a link keeps itself (`Link.keeps`) is not kept here.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from dnnext.runtime.communicator import RanksLost, WrongMessage
from dnnext.sites.links import Link
from dnnext.sites.peer import HELD, Message, Peer, read_lost
from dnnext.sites.wire import AGAIN, ALIVE, DATA, ENDED, HEAD_BYTES, LEAVING, LOST, Head, pack_head, read_head

__all__ = ["Delivery", "Notice"]

log = logging.getLogger("dnnext.sites")

Label = tuple[int, int]  # group and operation
Notice = Callable[[str, str, str], Any]  # site, state, sentence

TICK = 0.1  # seconds between two looks of the receiving thread at whether it shall end
COPIES = 3  # of the last message of all, which nobody confirms
PATIENCE = 5.0  # seconds for the link to leave after an error
LINGER = 10.0  # seconds to wait at the end for a site that has not confirmed the last message
CHECK = 2.0  # the state "here" ends after so many seconds by default
AWAY = 30.0
UNREADABLE = b"for a reason that this site cannot read yet"


class Delivery:
    """Messages of one site to and from the others, in order and once.

    Parameters
    ----------
    link : Link
        What carries them.
    timeout : float
        Seconds without an awaited message after which a site is lost.
    on_failure : {"wait", "stop", "shrink"}
        Wait `timeout` seconds for a silent site and then end; end as soon as it is away; or go on without the lost.
    late, away : float
        Seconds after which an awaited site is asked, and after which it counts as away.
    notice : callable, optional
        ``notice(site, state, sentence)`` whenever the state of a site changes.
    """

    def __init__(
        self, link: Link, timeout: float, on_failure: str, late: float = CHECK, away: float = AWAY,
        notice: Notice | None = None,
    ) -> None:  # fmt: skip
        self.link, self.timeout, self.on_failure, self.late, self.away = link, timeout, on_failure, late, away
        self.notice = notice
        self.peers = {r: Peer() for r in range(link.size) if r != link.rank}
        self.has_met = False
        self.waiting_for: int | None = None
        self.agreed: list[frozenset[int]] = []  # lost sites, agreement after agreement
        self.changed = threading.Condition()
        self.cause: tuple[int, str] | None = None  # the site that ended the run, and its sentence
        self._is_closed, self._broken, self.most = False, "", HELD
        self._thread = threading.Thread(target=self._listen, name=f"{link.names[link.rank]} receives", daemon=True)
        self.link.deliver(self._sort, self.is_full)  # first: two threads must not take what has come already
        self._thread.start()

    # The program's thread

    def send(self, to: int, dtype: str, label: Label, body: bytes, record: Callable[[bytes], Any]) -> None:
        """Number and seal one message, have it recorded, and send it."""
        with self.changed:
            peer = self.peers[to]
            peer.sent += 1
            number, received = peer.sent, peer.received
        head = pack_head(Head(DATA, dtype, *label, number, received, len(body)))
        data = head + (self.link.seal(to, head, body) if self.has_met else body)
        record(data)  # before it is kept: what is kept may be asked for, and leave, at any time
        if not self.link.keeps:
            with self.changed:
                peer.kept[number] = data
        self.link.send(to, str(number), data)

    def take(self, source: int, label: Label) -> tuple[Head, bytes]:
        """The next message of a site under this label; head and opened body.

        Raises
        ------
        RanksLost
            If it is lost, has ended, or waits for something else.
        WrongMessage
            If it is not what it should be.
        """
        begin, since = time.monotonic(), time.strftime("%H:%M:%S")
        asked = 0.0
        while True:
            with self.changed:
                self.waiting_for = source
                message = self.peers[source].next(label)
                if message is None:
                    self._refuse(source, label)
                    self.changed.wait(min(self.late, TICK))
                    message = self.peers[source].next(label)
                if message is not None:
                    self.waiting_for = None
                    break
            waited = time.monotonic() - begin
            if waited >= asked + self.late:
                asked = waited
                self._ask(source)
            self._judge(source, waited, since, label)
        self._become(source, "here", f"{self._name(source)} is here again after {time.monotonic() - begin:.0f} s")
        return self._open(source, message)

    def _refuse(self, source: int, label: Label) -> None:
        """Raise if the message cannot come any more."""
        if self._broken:
            self._refuse_broken()
        gone = self._gone()
        for rank, peer in self.peers.items():
            if rank in gone:
                continue
            if peer.wrong is not None:
                raise WrongMessage(f"a message of {self._name(rank)} {peer.wrong}", rank, label[1])
            if peer.ended is not None and not self._is_early(peer):
                if self.on_failure != "shrink":  # else what ends this site later is another cause
                    self.cause = rank, peer.ended
                first = "" if peer.names is None else f", which says that {self._name(peer.names[0])} did so first"
                self._lose([rank], f"ended the run{first}: {peer.ended}")
            if peer.view is not None and peer.view[0] == len(self.agreed):
                self._lose([], "")
        if self.is_full():
            rank = max(self.peers, key=lambda r: self.peers[r].held)
            held = f"{self.peers[rank].held >> 20} MB in messages that no operation here has asked for"
            raise WrongMessage(f"{self._name(rank)} sent {held}", rank, label[1])
        peer = self.peers[source]
        if peer.newest.get(label[0], 0) > label[1] and not peer.early:
            raise RanksLost(
                [], "waited in vain although every site answers: they wait for different things. Every site must make "
                "the same calls in the same order",
            )  # fmt: skip

    def _is_early(self, peer: Peer) -> bool:
        """Whether a site names another one as the first that ended, of which a message should come first."""
        return peer.names is not None and time.monotonic() - peer.names[1] < self.late

    def is_full(self) -> bool:
        """Whether more waits here than may: what comes from now on must wait elsewhere."""
        return sum(peer.held for peer in self.peers.values()) > self.most

    def _refuse_broken(self) -> None:
        raise RanksLost([], f"cannot be reached: the link of this site broke: {self._broken}")

    def _judge(self, source: int, waited: float, since: str, label: Label) -> None:
        """The state of an awaited site after this time."""
        name, peer = self._name(source), self.peers[source]
        chain = self._last_of_chain(source)
        of = "" if chain == source else f", which waits for {self._name(chain)}"
        if waited >= self.timeout:
            self._lose([chain], f"gave no sign of life for {self.timeout:g} s")
        if waited >= self.away and peer.state != "away":
            self._become(source, "away", f"waiting for {name} since {since}, operation {label[1]}{of}")
            if self.on_failure == "stop":
                self._lose([chain], f"gave no sign of life for {self.away:g} s, and on_failure is 'stop'")
        elif waited >= self.late and peer.state == "here":
            self._become(source, "late", f"{name} is late with operation {label[1]}{of}: asked to send again")

    def _last_of_chain(self, source: int) -> int:
        """Of sites that wait for each other, the one that does not answer."""
        seen, now = {self.link.rank}, source
        while now not in seen:
            seen.add(now)
            ahead, answers = self.peers[now].waits_for, time.monotonic() - self.peers[now].last_sign < 3 * self.late
            if ahead is None or ahead == self.link.rank or not answers or ahead in seen:
                return now
            now = ahead
        return now

    def _lose(self, ranks: Sequence[int], what: str) -> None:
        """RanksLost; with on_failure="shrink" once all others agree on who is lost."""
        for rank in ranks:
            self._become(rank, "lost", f"{self._name(rank)} {what}")
        if self.on_failure != "shrink":
            raise RanksLost(ranks, what)
        lost = self._agree_on_lost(frozenset(ranks))
        raise RanksLost(sorted(lost), what or "is lost to another site")

    def _agree_on_lost(self, lost: frozenset[int]) -> frozenset[int]:
        """Everybody who is left names the same sites as lost; a view that grows is sent again."""
        epoch, begin, sent = len(self.agreed), time.monotonic(), -1.0
        while True:
            with self.changed:
                if self._broken:
                    self._refuse_broken()
                before, gone = lost, self._gone()
                for rank, peer in self.peers.items():
                    if peer.ended is not None and rank not in gone:
                        lost |= {rank}
                    if peer.view is not None and peer.view[0] == epoch and rank not in lost:
                        lost |= peer.view[1]
                if self.link.rank in lost:
                    raise RanksLost([], "was silent for too long: the others went on without this site")
                left = [r for r in self.peers if r not in lost | gone]
                if before == lost and sent >= 0 and all(self.peers[r].view == (epoch, lost) for r in left):
                    self.agreed.append(lost)
                    return lost
                if before == lost and sent >= 0:
                    self.changed.wait(min(self.late, 0.5))
            now = time.monotonic()
            if before != lost or sent < 0 or now - sent > self.late:
                for rank in left:
                    self._tell_lost(rank, epoch, lost)
                begin, sent = (now if before != lost else begin), now
            elif now - begin > self.timeout:
                lost |= {r for r in left if self.peers[r].view != (epoch, lost)}
                begin = now

    def _tell_lost(self, to: int, epoch: int, lost: frozenset[int]) -> None:
        self._control(to, LOST, operation=epoch, body=json.dumps(sorted(lost)).encode())

    def _gone(self) -> frozenset[int]:
        return frozenset().union(*self.agreed)

    def _open(self, source: int, message: Message) -> tuple[Head, bytes]:
        head, raw, body = message
        if self.has_met:
            try:
                body = self.link.unseal(source, raw, body)
            except ValueError as error:
                sentence = f"a message of {self._name(source)} {error}"
                raise WrongMessage(sentence, source, head.operation) from error
            self.peers[source].has_sealed = True
        with self.changed:
            self.peers[source].confirm(head.received)
        if len(body) != head.size:
            sentence = f"a message of {self._name(source)} holds {len(body)} bytes where its head says {head.size}"
            raise WrongMessage(sentence, source, head.operation)
        return head, body

    def end(self, sentence: str, record: Callable[[int, bytes], Any] | None = None) -> None:
        """Let all know that this site ends, and why; where another one is the cause, that one is named.

        Where `record` fails, that alone is the sentence: what cannot be recorded does not leave.
        """
        if self._is_closed:
            return
        origin, sentence = self.cause or (self.link.rank, sentence)
        for rank in self.peers:
            data = self._ending(rank, origin, sentence)
            try:
                if record is not None:
                    record(rank, data)
            except OSError as error:
                log.error("the audit cannot be written: %s", error)
                data = self._ending(rank, origin, "its audit cannot be written")
            self.link.send(rank, "end", data)

    def _ending(self, to: int, origin: int, sentence: str) -> bytes:
        body = sentence.encode()
        head = pack_head(Head(ENDED, "|u1", 0, origin, 0, self.peers[to].received, len(body)))
        return head + (self.link.seal(to, head, body) if self.has_met else body)

    def close(self, is_whole: bool = True) -> None:
        """Leave, once the others have all that was sent to them."""
        if self._is_closed:
            return
        if is_whole and not self.link.keeps:
            self._linger([r for r in self.peers if r not in self._gone()])
        self._is_closed = True
        self._thread.join()
        self.link.close(self.timeout if is_whole else PATIENCE)

    def _linger(self, left: list[int]) -> None:
        """Until the others have confirmed all, and a little longer for those that may not know that they may go."""
        begin = time.monotonic()
        patience = min(LINGER, self.timeout)
        while not self._broken:
            with self.changed:
                whole = [r for r in left if not self.peers[r].kept]
                is_done = all(self.peers[r].has_left for r in left) and len(whole) == len(left)
            for rank in left:
                for _ in range(COPIES if is_done else 1):
                    self._control(rank, LEAVING if rank in whole else ALIVE)
            waited = time.monotonic() - begin
            if is_done or waited > patience or (len(whole) == len(left) and waited > 5 * self.late):
                return
            with self.changed:
                self.changed.wait(0.02)

    # The receiving thread

    def _listen(self) -> None:
        try:
            while not self._is_closed:
                if self.is_full():
                    time.sleep(TICK)
                    continue
                message = self.link.receive(TICK)
                if message is not None:
                    self._sort(*message)
        except Exception as error:
            with self.changed:
                self._broken = f"{type(error).__name__}: {error}"
                self.changed.notify_all()

    def _sort(self, source: int, data: bytes) -> None:
        """Put one message where it belongs."""
        again: list[tuple[int, bytes]] = []
        with self.changed:
            peer = self.peers.get(source)
            if peer is None:
                return
            try:
                head = read_head(data)
            except ValueError as error:
                peer.wrong = str(error)
                self.changed.notify_all()
                return
            if head.kind == DATA:
                peer.put(head, data)
            elif (body := self._authentic(source, peer, head, data)) is not None:
                peer.confirm(head.received)
                self._note(source, peer, head, body)
            else:
                self.changed.notify_all()
                return
            peer.last_sign = time.monotonic()
            again = sorted(peer.kept.items()) if head.kind == AGAIN else []
            self.changed.notify_all()
        for number, message in again:
            self.link.send(source, str(number), message)
        if head.kind == AGAIN:
            self._control(source, ALIVE)
        if head.kind == LOST and head.operation < len(self.agreed):
            self._tell_lost(source, head.operation, self.agreed[head.operation])

    def _authentic(self, source: int, peer: Peer, head: Head, data: bytes) -> bytes | None:
        """The body of a message without numbers, sealed once keys are known; None if that site did not send it."""
        body = data[HEAD_BYTES:]
        if not (peer.has_sealed or len(body) != head.size):
            return body
        if not self.has_met:  # LOST comes again
            return {ENDED: UNREADABLE, LOST: None}.get(head.kind, b"")
        try:
            return self.link.unseal(source, data[:HEAD_BYTES], body)
        except ValueError as error:
            if head.kind in (ENDED, LOST):
                peer.wrong = str(error)
            else:  # of before the keys, or of somebody else
                log.info("a question or answer in the name of %s was dropped: it %s", self._name(source), error)
            return None

    def _note(self, source: int, peer: Peer, head: Head, body: bytes) -> None:
        """What a site says beside its numbers."""
        if head.kind in (ALIVE, AGAIN):
            peer.waits_for = head.operation - 1 if 0 < head.operation <= self.link.size else None
        elif head.kind == LEAVING:
            peer.has_left = True
        elif head.kind == ENDED:
            is_other = head.operation in self.peers and head.operation not in {source, *self._gone()}
            peer.end(body, head.operation if is_other else None)
        else:
            try:
                peer.view = head.operation, read_lost(body, self.link.size)
            except ValueError as error:
                peer.wrong = str(error)

    def _ask(self, source: int) -> None:
        """Ask a site for what is missing, and the engine."""
        self._control(source, AGAIN)
        self.link.again()

    def _control(self, to: int, kind: int, operation: int | None = None, body: bytes = b"") -> None:
        if operation is None:
            operation = 0 if self.waiting_for is None else self.waiting_for + 1
        head = pack_head(Head(kind, "|u1", 0, operation, 0, self.peers[to].received, len(body)))
        body = self.link.seal(to, head, body) if self.has_met else body
        self.link.send(to, "", head + body, stored=False)

    def _become(self, rank: int, state: str, sentence: str) -> None:
        """Note a change of state, in the log and for the caller."""
        peer = self.peers[rank]
        if peer.state == state:
            return
        peer.state = state
        log.log(logging.WARNING if state in ("away", "lost") else logging.INFO, "%s", sentence)
        if self.notice is not None:
            self.notice(self._name(rank), state, sentence)

    def _name(self, rank: int) -> str:
        return self.link.names[rank]
