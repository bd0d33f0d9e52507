"""The curve over the whole life of a run: its memory, descriptors and threads, thinned out.

The black box holds the samples of the last quarter of an hour.  A leak may take days, so once in
each round of the heartbeat a sample is added to a curve of at most `blackbox.POINT_COUNT` points.
When all are in use, two neighbours become one: the curve always begins at the start of the run,
and has at least half as many points.

A point keeps the least memory of its time, because what a leak has taken is never given back, and
the most, to show the peaks.
"""

from __future__ import annotations

import mmap
from dataclasses import replace

from ..model.records import LifePoint
from ..model.records import Sample
from ..store import blackbox as box

#: Seconds for which a point stands at first.
SPAN = 20.0


class LifeCurve:
    """Writes the curve into `buffer`, the black box.

    A point has the number of the span in which it begins, counted from 1.  What is killed while two
    points become one leaves both, or one of them with the values of both.
    """

    def __init__(self, buffer: mmap.mmap | bytearray) -> None:
        self.buffer = buffer
        self.spans = 1  # for so many spans a point stands now
        self._began: float | None = None
        self._free = list(box.LIFE_CURVE.places[::-1])
        self._places: dict[int, int] = {}  # of each point, by its number; the oldest comes first
        self._number = 0  # of the last point
        self._last = LifePoint(0.0, 0.0)

    def add(self, sample: Sample) -> None:
        if self._began is None:
            self._began = sample.monotonic
        span = 1 + int((sample.monotonic - self._began) / SPAN)
        while not self._free and self._first_of(span) != self._number:
            self._thin_out()
        number = self._first_of(span)
        point = LifePoint(
            sample.time,
            sample.monotonic,
            sample.rss,
            sample.rss,
            sample.descriptors,
            sample.threads,
        )
        if number == self._number:
            point = _merged(self._last, point)
        else:
            self._places[number] = self._free.pop()
        self._number = number
        self._last = point
        self._write(number, point)

    def _first_of(self, number: int) -> int:
        """Return the number of the point that the span with this number belongs to now."""
        return number - (number - 1) % self.spans

    def _write(self, number: int, point: LifePoint) -> None:
        box.point_entry.pack_into(
            self.buffer,
            self._places[number],
            number,
            point.time,
            point.monotonic,
            point.rss,
            point.peak,
            point.descriptors,
            point.threads,
            number,
        )

    def _thin_out(self) -> None:
        """Let a point stand for twice as long."""
        self.spans *= 2
        points = []
        for number, place in self._places.items():
            _, *values, _ = box.point_entry.unpack_from(self.buffer, place)
            points.append((number, place, LifePoint(*values)))
        self._places = {}
        merged: dict[int, LifePoint] = {}
        for number, place, point in points:
            first = self._first_of(number)
            if first in merged:
                merged[first] = _merged(merged[first], point)
                self._write(first, merged[first])
                self.buffer[place : place + 8] = bytes(8)  # its number
                self._free.append(place)
                continue
            merged[first] = point
            self._places[first] = place
            if first != number:  # there was no sample in the first half of its time
                self._write(first, point)
        self._number = self._first_of(self._number)
        self._last = merged[self._number]


def _merged(before: LifePoint, after: LifePoint) -> LifePoint:
    """Return the point that stands for the time of both."""
    known = [size for size in (before.rss, after.rss) if size >= 0]
    return replace(
        before,
        rss=min(known, default=-1),
        peak=max(before.peak, after.peak),
        descriptors=max(before.descriptors, after.descriptors),
        threads=max(before.threads, after.threads),
    )
