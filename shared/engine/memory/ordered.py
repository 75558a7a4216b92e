"""A sorted set: ids by score, and by id among equals, as Redis orders them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

#: comes after every id
_LAST = "\U0010ffff"


class Ordered:
    """Ids in the order of their scores."""

    def __init__(self) -> None:
        self._scores: dict[str, int] = {}
        self._order: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, member: str) -> bool:
        return member in self._scores

    def __iter__(self) -> Iterator[str]:
        """Give the ids; the set may change meanwhile."""
        return iter([member for _, member in self._order])

    def put(self, member: str, score: int) -> None:
        """Add an id, or move it."""
        self.discard(member)
        self._scores[member] = score
        insort(self._order, (score, member))

    def discard(self, member: str) -> bool:
        """Take an id out; gives whether it was there."""
        score = self._scores.pop(member, None)
        if score is None:
            return False
        del self._order[bisect_left(self._order, (score, member))]
        return True

    def score(self, member: str) -> int | None:
        """Give an id's score; None when it is not there."""
        return self._scores.get(member)

    def first(self) -> tuple[int, str] | None:
        """Give the lowest score and its id."""
        return self._order[0] if self._order else None

    def oldest(self, limit: int) -> list[str]:
        """Give the ids of the lowest scores."""
        return [member for _, member in self._order[:limit]]

    def up_to(self, score: int, limit: int) -> list[str]:
        """Give ids whose score is no higher, lowest first."""
        end = bisect_right(self._order, (score, _LAST))
        return [member for _, member in self._order[: min(end, limit)]]

    def page(self, cursor: tuple[int, str] | None, limit: int, *, backwards: bool) -> list[tuple[int, str]]:
        """Give scores and ids that come after a place, which need not be taken any more."""
        if not backwards:
            start = bisect_right(self._order, cursor) if cursor else 0
            return self._order[start : start + limit]
        end = bisect_left(self._order, cursor) if cursor else len(self._order)
        return self._order[max(0, end - limit) : end][::-1]
