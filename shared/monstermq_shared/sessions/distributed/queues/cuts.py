"""Who has subscribed to what from where on: the cuts of all clients, in all partitions at once.

One process works on many partitions, in which a session mostly has the same subscriptions, so it
has one router. While a session changes, its lists differ for a moment; only then they are kept
apart, and a match asks for that of its partition (``routing.Varied``).
"""

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence

from monstermq_shared.budget import Budget
from monstermq_shared.messages import Subscription
from monstermq_shared.routing import Interest, Router
from monstermq_shared.sessions.distributed.varying import comparisons, matching
from monstermq_shared.stores.queue_changes import Cut

NEVER = -1
"""The offset, epoch and incarnation of a cut that is not there."""

Subscriptions = tuple[Subscription, ...]

_AT, _EPOCH, _INCARNATION = range(3)


class _Lists:
    """The lists of a client whose subscriptions change, each as a dictionary, made once.

    P partitions change from one list to another, one after the other. So what a list costs is paid
    for each list that there is, and not for each partition.

    Attributes:
        concerned: Filters that may not be the same in all of them.
    """

    def __init__(self) -> None:
        # By identity: to hash a list costs as much as it has subscriptions.
        self._qos: dict[int, tuple[Subscriptions, dict[str, int]]] = {}
        self._last: tuple[Subscriptions, Subscriptions, frozenset[str]] = ((), (), frozenset())
        self.concerned: set[str] = set()

    def qos(self, subscriptions: Subscriptions) -> dict[str, int]:
        """Return filter -> QoS."""
        found = self._qos.get(id(subscriptions))
        if found is None:
            # The list stays, so that no other one has its identity.
            found = subscriptions, {at[0]: at[1] for at in subscriptions}
            self._qos[id(subscriptions)] = found
        return found[1]

    def differing(self, before: Subscriptions, after: Subscriptions) -> frozenset[str]:
        """Return the filters that only one of two lists has, or has with this QoS."""
        if before is not self._last[0] or after is not self._last[1]:
            found = frozenset([at[0] for at in set(before) ^ set(after)])
            self._last = before, after, found
        return self._last[2]

    def keep(self, lists: Iterable[Subscriptions]) -> None:
        """Forget all others."""
        kept = {id(each) for each in lists}
        self._qos = {at: found for at, found in self._qos.items() if at in kept}


class ClientCuts:
    """The cuts of one client.

    Attributes:
        client_id: Whose.
        changing: Its lists; only while they differ, or one of them is replaced.
    """

    __slots__ = ("_lists", "_numbers", "_partitions", "changing", "client_id")

    def __init__(self, client_id: str, partitions: int) -> None:
        self.client_id = client_id
        self._partitions = partitions
        self._numbers = array("q", [NEVER]) * (3 * partitions)
        # One tuple where all partitions with a cut have the same, else partition -> tuple.
        self._lists: Subscriptions | dict[int, Subscriptions] = ()
        self.changing: _Lists | None = None

    def at(self, partition: int) -> int:
        """Return the offset of the cut: the subscriptions answer for what stands above."""
        return self._numbers[partition]

    def epoch(self, partition: int) -> int:
        """Return the epoch of its marker."""
        return self._numbers[self._partitions + partition]

    def incarnation(self, partition: int) -> int:
        """Return the epoch of the claim that began the session, as the partition knows it."""
        return self._numbers[2 * self._partitions + partition]

    def place(self, partition: int, cut: Cut | None) -> None:
        """Note where a cut stands."""
        numbers, partitions = self._numbers, self._partitions
        numbers[partition] = NEVER if cut is None else cut.at
        numbers[partitions + partition] = NEVER if cut is None else cut.epoch
        numbers[2 * partitions + partition] = NEVER if cut is None else cut.incarnation

    @property
    def partitions(self) -> list[int]:
        """Those with a cut."""
        return [p for p in range(self._partitions) if self._numbers[p] != NEVER]

    @property
    def is_varied(self) -> bool:
        """Whether its subscriptions differ between partitions."""
        return isinstance(self._lists, dict)

    def subscriptions(self, partition: int) -> Subscriptions:
        """Return all there are in a partition; none where there is no cut."""
        if self._numbers[partition] == NEVER:
            return ()
        return self._lists[partition] if isinstance(self._lists, dict) else self._lists

    @property
    def lists(self) -> list[Subscriptions]:
        """The different lists there are, each once."""
        if isinstance(self._lists, dict):
            return [*{id(each): each for each in self._lists.values()}.values()]
        return [self._lists]

    def has_everywhere(self, subscriptions: Subscriptions) -> bool:
        """Whether these are its subscriptions wherever it has a cut, and it has one."""
        return bool(subscriptions) and self._lists == subscriptions

    def set_lists(self, lists: Mapping[int, Subscriptions]) -> None:
        """Take the subscriptions of all partitions with a cut; equal ones are the same object."""
        first = next(iter(lists.values()), ())
        alike = all(each is first for each in lists.values())
        self._lists = first if alike else dict(lists)

    def highest(self, filters: Iterable[str], lists: _Lists) -> dict[str, int]:
        """Return filter -> highest QoS over all partitions, -1 for those that it does not have."""
        tables = [lists.qos(each) for each in self.lists]
        return {at: max(table.get(at, -1) for table in tables) for at in filters}


class _VariedClients:
    """See ``routing.Varied``."""

    def __init__(self, partition_of: Callable[[str], int]) -> None:
        self.compared = 0
        self.subscribers: set[ClientCuts] = set()
        self._partition_of = partition_of

    def granted(self, subscriber: ClientCuts, topic: str, anywhere: int) -> int | None:
        """See ``Varied``."""
        assert subscriber.changing is not None
        concerned = subscriber.changing.concerned
        self.compared += comparisons(topic, concerned)
        if not matching(topic, concerned):
            return anywhere
        subscriptions = subscriber.subscriptions(self._partition_of(topic))
        granted = subscriber.changing.qos(subscriptions)
        self.compared += comparisons(topic, granted)
        return max((granted[at] for at in matching(topic, granted)), default=None)


class CutTable:
    """All cuts of one process.

    Args:
        partitions: Of the bus.
        partition_of: Topic -> the partition of its messages.
        topic_levels_max: More levels than this in a topic are refused.
        route_cache_max: How many routes are remembered.

    Attributes:
        clients: Those that have a cut somewhere.
        router: The union of their subscriptions.
    """

    def __init__(
        self,
        partitions: int,
        partition_of: Callable[[str], int],
        *,
        topic_levels_max: int,
        route_cache_max: int,
    ) -> None:
        self.clients: dict[str, ClientCuts] = {}
        self._partitions = partitions
        self._varied = _VariedClients(partition_of)
        # Sessions that resume say what they said before; many say the same.
        self._interned: dict[Subscriptions, Subscriptions] = {}
        nobody = Interest(wanted=False, durable=False, durable_retained=False)
        self.router = Router[ClientCuts](
            lambda _: nobody,
            levels_max=topic_levels_max,
            cache_max=route_cache_max,
            budget=Budget(),
            # Edges refuse what is too costly (``filter_bounds``); what they took must be matched.
            match_nodes_max=None,
            varied=self._varied,
        )

    @property
    def varied(self) -> int:
        """How many clients have different subscriptions in different partitions."""
        return len(self._varied.subscribers)

    def targets(self, topic: bytes) -> Sequence[tuple[ClientCuts, int]]:
        """Return who has subscribed to a topic in its partition, with their QoS.

        Raises:
            InvalidTopic: It is none.
        """
        return self.router.route(topic).targets

    def put(self, partition: int, client_id: str, cut: Cut | None) -> ClientCuts:
        """Put a client's cut in a partition in place of the one before; None: there is none."""
        client = self.clients.get(client_id)
        if client is None:
            client = self.clients[client_id] = ClientCuts(client_id, self._partitions)
        if cut is not None and client.has_everywhere(cut.subscriptions):
            # So it is for each partition but the first that is loaded: no route is another one.
            client.place(partition, cut)
            return client
        before = client.subscriptions(partition)
        after = () if cut is None else cut.subscriptions
        if before == after and (client.at(partition) != NEVER) == (cut is not None):
            client.place(partition, cut)
        else:
            self._change(client, partition, cut)
        if cut is None and not client.partitions:
            del self.clients[client_id]
        return client

    def _change(self, client: ClientCuts, partition: int, cut: Cut | None) -> None:
        lists = {p: client.subscriptions(p) for p in client.partitions}
        if not lists:
            assert cut is not None
            client.set_lists({partition: self._intern(cut.subscriptions)})
            client.place(partition, cut)
            for topic_filter, qos, _ in cut.subscriptions:
                self.router.add(topic_filter, client, qos)
            return
        changing = client.changing = client.changing or _Lists()
        before = lists.pop(partition, ())
        after: Subscriptions = ()
        if cut is not None:
            known = [each for each in client.lists if each == cut.subscriptions]
            after = lists[partition] = known[0] if known else self._intern(cut.subscriptions)
        differing = changing.differing(before, after)
        union = client.highest(differing, changing)
        client.place(partition, cut)
        client.set_lists(lists)
        self._route(client, union, client.highest(differing, changing))
        if client.is_varied and not before:
            # Where it had no cut, routes have it by its subscriptions elsewhere.
            differing = differing.union(*map(changing.qos, client.lists))
        for topic_filter in differing:
            self.router.outdate(topic_filter)
        if client.is_varied:
            changing.keep(client.lists)
            changing.concerned |= differing
            self._varied.subscribers.add(client)
        else:
            client.changing = None
            self._varied.subscribers.discard(client)

    def _route(
        self, client: ClientCuts, before: Mapping[str, int], after: Mapping[str, int]
    ) -> None:
        for topic_filter, qos in after.items():
            if qos < 0:
                self.router.remove(topic_filter, client)
            elif qos != before[topic_filter]:
                self.router.add(topic_filter, client, qos)

    def _intern(self, subscriptions: Subscriptions) -> Subscriptions:
        if len(self._interned) > 2 * len(self.clients) + 1_000:
            self._interned.clear()
        return self._interned.setdefault(subscriptions, subscriptions)

    def give_up(self, partition: int) -> None:
        """Forget a partition: it is not this process's any more."""
        for client in [each for each in self.clients.values() if each.at(partition) != NEVER]:
            self.put(partition, client.client_id, None)


def changed(
    before: Subscriptions,
    whole: Iterable[Subscription] | None,
    add: Iterable[Subscription],
    remove: Iterable[str],
) -> Subscriptions:
    """Return subscriptions as a marker leaves them (P4)."""
    new = {at[0]: at for at in (before if whole is None else whole)}
    new.update((at[0], at) for at in add)
    for topic_filter in remove:
        new.pop(topic_filter, None)
    return tuple(new.values())
