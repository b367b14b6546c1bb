"""The offset between a vehicle's clock and ours, and so the age of what it says.

A message tells one bound: it was sent before it came, so ``offset <= now - stamp``.  An answer to a question of ours
(TIMESYNC) tells two: it was stamped between the question and its arrival.  Bounds widen with time by what clocks
drift.  Without answers the upper bound alone counts, and a latency that never changes cannot be seen.
"""

import math

DRIFT = 1e-4
"""s per s by which two clocks may run apart."""

BACK, AHEAD = 1.0, 0.05
"""s that a stamp may lie before the latest one, or in the future, before it counts as one of another clock."""

AGREEING = 5
"""Messages in a row that make another clock out of strange stamps: the autopilot was started again."""


class VehicleClock:
    """Estimates ``our clock - its clock`` in s."""

    def __init__(self) -> None:
        self._low, self._high = -math.inf, math.inf
        self._at = -math.inf  # ours, of the bounds
        self._stamp = -math.inf  # of the latest message
        self._strange: list[tuple[float, float]] = []  # when they came, and their stamps

    @property
    def offset(self) -> float:
        """The middle of the bounds; the upper one where no question was answered."""
        return self._high if math.isinf(self._low) else 0.5 * (self._low + self._high)

    def heard(self, now: float, stamp: float) -> float:
        """Our time of a message that came at ``now``."""
        self._widen(now)
        if math.isfinite(stamp):
            self._take(now, stamp)
        return stamp + self.offset

    def answered(self, asked: float, stamp: float, now: float) -> None:
        """Take an answer to a question of ``asked``; one by another clock than that of the messages is ignored."""
        self._widen(now)
        if abs(stamp - self._stamp) > BACK or now < asked:
            return
        low, high = asked - stamp, now - stamp
        if (
            low > self._high or high < self._low
        ):  # its clock drifts more than clocks do: an answer is no guess
            self._low, self._high = low, high
        self._low, self._high = max(self._low, low), min(self._high, high)

    def _widen(self, now: float) -> None:
        if math.isfinite(self._at):
            self._low -= DRIFT * (now - self._at)
            self._high += DRIFT * (now - self._at)
        self._at = now

    def _take(self, now: float, stamp: float) -> None:
        is_known = math.isfinite(self._high)
        if is_known and (stamp < self._stamp - BACK or stamp + self._high > now + AHEAD):
            self._doubt(now, stamp)
            return
        self._strange.clear()
        self._stamp = stamp
        self._high = min(self._high, now - stamp)
        self._low = min(self._low, self._high)

    def _doubt(self, now: float, stamp: float) -> None:
        """Keep a strange stamp; believe it once several in a row come from one clock."""
        if self._strange:
            came, before = self._strange[-1]
            if not 0.0 <= stamp - before <= now - came + BACK:
                self._strange.clear()
        self._strange.append((now, stamp))
        if len(self._strange) >= AGREEING:
            self._low, self._high = -math.inf, min(came - each for came, each in self._strange)
            self._stamp = stamp
            self._strange.clear()
