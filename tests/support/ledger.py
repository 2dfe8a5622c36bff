"""What was said to a broker, what it acknowledged, and what came out: Jepsen's set test for MQTT.

Publishers and subscribers tell the ledger what they see; it knows at every moment what the broker
still owes, and what it may never do.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Message:
    """One message. The payload is unlike every other's, and so is its name."""

    topic: str
    payload: bytes
    qos: int
    retain: bool = False


@dataclass(slots=True)
class Account:
    """What one subscriber has got, and what it is still owed, of topics that begin so."""

    qos: int
    prefix: str = ""
    received: Counter[bytes] = field(default_factory=Counter)
    owed: set[bytes] = field(default_factory=set)
    newest: dict[str, int] = field(default_factory=dict)
    """Topic -> the number of the newest message on it, of those that came for the first time."""


class Ledger:
    """The account of one run.

    Attributes:
        sent: Payload -> message, of everything that was sent at least once.
        acknowledged: The payloads whose PUBACK or PUBREC came, in this order.
        retained: Topic -> payloads that were sent with the retain flag, in this order.
    """

    def __init__(self) -> None:
        self.sent: dict[bytes, Message] = {}
        self.acknowledged: dict[bytes, None] = {}
        self.retained: dict[str, list[bytes]] = {}
        self._numbers: dict[bytes, int] = {}
        self._accounts: dict[str, Account] = {}
        self._violations: list[str] = []
        self._packets = 0
        self._conditions: deque[tuple[Callable[[], bool], asyncio.Event]] = deque()

    # -- what clients tell -----------------------------------------------------------------------

    def subscribe(self, subscriber: str, qos: int, prefix: str = "") -> None:
        """A subscriber's SUBACK came: everything acknowledged from now on is owed to it.

        Everything, that is, whose topic begins so.
        """
        self._accounts[subscriber] = Account(qos, prefix)

    def send(self, message: Message) -> None:
        """A message is about to be sent for the first time."""
        self.sent[message.payload] = message
        self._numbers[message.payload] = len(self._numbers)
        if message.retain:
            self.retained.setdefault(message.topic, []).append(message.payload)

    def number_of(self, payload: bytes) -> int:
        """Return how many messages were sent before this one."""
        return self._numbers[payload]

    def acknowledge(self, message: Message) -> None:
        """Its PUBACK or PUBREC came."""
        payload = message.payload
        self.acknowledged[payload] = None
        for account in self._accounts.values():
            if payload not in account.received and message.topic.startswith(account.prefix):
                account.owed.add(payload)

    def receive(self, subscriber: str, payload: bytes) -> None:
        """A message has come out, as its receiver's QoS counts: at QoS 2 once per exchange."""
        account = self._accounts[subscriber]
        if payload not in account.received and payload in self.sent:
            self._keep_order(subscriber, account.newest, payload)
        account.received[payload] += 1
        account.owed.discard(payload)

    def violation(self, what: str) -> None:
        """The broker has done what it may never do."""
        self._violations.append(what)

    def count_packet(self) -> None:
        """A packet went or came: whoever waits for something looks whether it is so now."""
        self._packets += 1
        for _ in range(len(self._conditions)):
            condition, event = self._conditions.popleft()
            if condition():
                event.set()
            else:
                self._conditions.append((condition, event))

    # -- waiting ---------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool], within_s: float) -> None:
        """Return once the condition holds; it is looked at with every packet.

        Raises:
            AssertionError: It did not come to be so; says what is owed.
        """
        if condition():
            return
        event = asyncio.Event()
        self._conditions.append((condition, event))
        try:
            async with asyncio.timeout(within_s):
                await event.wait()
        except TimeoutError:
            raise AssertionError(f"it did not come to be so: {self.summary()}") from None

    async def packets(self, count: int, within_s: float) -> None:
        """Return after so many more packets have gone or come."""
        end = self._packets + count
        await self.until(lambda: self._packets >= end, within_s)

    def all_delivered(self) -> bool:
        """Whether nobody is owed anything."""
        return not any(map(self.owed, self._accounts))

    def owed(self, subscriber: str) -> set[bytes]:
        """Return what a subscriber is still owed."""
        return self._accounts[subscriber].owed

    # -- what must hold --------------------------------------------------------------------------

    def summary(self) -> str:
        """Say in a line how things stand."""
        owed = {
            subscriber: f"{len(account.owed)}, such as {sorted(account.owed)[:5]}"
            for subscriber, account in self._accounts.items()
            if account.owed
        }
        return (
            f"{self._packets} packets, {len(self.sent)} messages sent, "
            f"{len(self.acknowledged)} acknowledged; owed: {owed or 'nothing'}; "
            f"violations: {self._violations or 'none'}"
        )

    def assert_kept(self) -> None:
        """Assert that nothing was broken so far, and nothing at QoS 2 came out twice.

        And that nothing came out that was never put in.
        """
        assert not self._violations, self._violations
        for subscriber, account in self._accounts.items():
            unknown = account.received.keys() - self.sent.keys()
            assert not unknown, f"{subscriber} got what nobody sent: {sorted(unknown)[:5]}"
            if account.qos == 2:
                twice = [p for p, n in account.received.items() if n > 1 and self._once(p)]
                assert not twice, f"{subscriber} got twice: {twice[:5]}, {len(twice)} in all"

    def assert_archived(self, payloads: Iterable[bytes]) -> None:
        """Assert that an archive has what was acknowledged, and what is of QoS 2 once.

        Args:
            payloads: What is there, in order of position, which is to be that of each topic.
        """
        archived: Counter[bytes] = Counter()
        newest: dict[str, int] = {}
        for payload in payloads:
            if payload not in archived and payload in self.sent:
                self._keep_order("the archive", newest, payload)
            archived[payload] += 1
        assert not self._violations, self._violations
        missing = [payload for payload in self.acknowledged if payload not in archived]
        assert not missing, f"{len(missing)} not archived, such as {missing[:5]}"
        twice = [payload for payload, n in archived.items() if n > 1 and self._once(payload)]
        assert not twice, f"archived twice: {twice[:5]}, {len(twice)} in all"

    def retained_floor(self) -> dict[str, int]:
        """Return for each topic the number of its last acknowledged retained message.

        From this moment on an older one may never be seen again.
        """
        floor: dict[str, int] = {}
        for topic, payloads in self.retained.items():
            for number in range(len(payloads) - 1, -1, -1):
                if payloads[number] in self.acknowledged:
                    floor[topic] = number
                    break
        return floor

    def assert_retained(self, floor: dict[str, int], seen: dict[str, bytes]) -> None:
        """Assert that no retained message is older than one that was acknowledged before it."""
        for topic, number in floor.items():
            assert topic in seen, f"nothing is retained on {topic}"
            found = self.retained[topic].index(seen[topic])
            assert found >= number, f"{topic} went back from write {number} to {found}"

    def _keep_order(self, where: str, newest: dict[str, int], payload: bytes) -> None:
        """Note what has come out for the first time; each topic has one publisher."""
        topic, number = self.sent[payload].topic, self._numbers[payload]
        if number < newest.get(topic, -1):
            self.violation(f"{where} has {payload!r} behind what was sent after it")
        else:
            newest[topic] = number

    def _once(self, payload: bytes) -> bool:
        return self.sent[payload].qos == 2
