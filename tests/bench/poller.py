"""The readiness loop of the generator and of the null broker: epoll and a callback per channel."""

import gc
import select
import time
from collections.abc import Callable

from tests.bench.channels import Buffer, Channel

POLL_TIMEOUT_S = 0.05
EVENTS_MAX = 512


class Poller:
    """Calls each channel's handler when there is something to read, and flushes what was kept."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._channels: dict[int, Channel] = {}
        self._answers: list[tuple[Channel, Buffer]] = []

    def add(self, channel: Channel, handler: Callable[[], None]) -> None:
        """Call ``handler`` whenever ``channel`` has bytes to read, until ``remove``."""
        self._channels[channel.fileno()] = channel
        self.watch(channel.fileno(), handler)

    def watch(self, descriptor: int, handler: Callable[[], None]) -> None:
        """Call ``handler`` whenever ``descriptor`` is readable; it stays its owner's to close."""
        self._handlers[descriptor] = handler
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, channel: Channel) -> None:
        """Forget ``channel``, which is still open."""
        descriptor = channel.fileno()
        del self._handlers[descriptor], self._channels[descriptor]
        self._epoll.unregister(descriptor)

    def send(self, channel: Channel, data: Buffer) -> None:
        """Send ``data`` on an added channel; what does not fit leaves when the socket takes it."""
        if not channel.send(data):
            self._epoll.modify(channel.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def answer(self, channel: Channel, data: Buffer) -> None:
        """Send ``data`` once all that can be read has been: so nothing is noted late for it.

        It leaves at the end of the turn, or outside one before the next wait: the peer may hold
        back whatever would end that wait until it has the answer.
        """
        self._answers.append((channel, data))

    def turn(self, timeout_s: float = POLL_TIMEOUT_S) -> None:
        """Wait for events, at most ``timeout_s``, and handle each."""
        self._send_answers()
        handlers = self._handlers
        for descriptor, event in self._epoll.poll(timeout_s, EVENTS_MAX):
            if event & select.EPOLLOUT and self._channels[descriptor].flush():
                self._epoll.modify(descriptor, select.EPOLLIN)
            if event & ~select.EPOLLOUT and descriptor in handlers:
                handlers[descriptor]()
        self._send_answers()

    def run_for(self, seconds: float) -> None:
        """Handle events for ``seconds``, or a turn longer."""
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            self.turn()

    def run_until_time(self, deadline: float) -> None:
        """Handle events until ``time.perf_counter()`` is ``deadline``, to the microsecond.

        epoll itself counts in milliseconds.
        """
        self._send_answers()
        while (left_s := deadline - time.perf_counter()) > 0:
            if select.select([self._epoll], [], [], left_s)[0]:
                self.turn(0)

    def run_until(
        self, done: Callable[[], bool], progress: Callable[[], int], idle_s: float
    ) -> bool:
        """Handle events until ``done``, or until ``progress`` has not changed for ``idle_s``."""
        last, changed_at = progress(), time.perf_counter()
        while not done():
            self.turn()
            current, now = progress(), time.perf_counter()
            if current != last:
                last, changed_at = current, now
            elif now - changed_at > idle_s:
                return False
        return True

    def close(self) -> None:
        """Close every channel and the epoll descriptor."""
        for channel in self._channels.values():
            channel.close()
        self._epoll.close()

    def _send_answers(self) -> None:
        answers, self._answers = self._answers, []
        for channel, data in answers:
            self.send(channel, data)


class CollectorPaused:
    """No garbage collection within: the generator makes no cycles while it measures."""

    def __enter__(self) -> None:
        gc.collect()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        gc.enable()
