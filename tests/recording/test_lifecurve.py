"""The curve over the whole life of a run: thinned out, never shortened, readable after any kill."""

import itertools
import struct

import pytest
from support.effort import lines_run

from Products.StabilityMonitor.model.records import Sample
from Products.StabilityMonitor.recording.lifecurve import SPAN
from Products.StabilityMonitor.recording.lifecurve import LifeCurve
from Products.StabilityMonitor.recording.recorder import Recorder
from Products.StabilityMonitor.store import blackbox as box
from Products.StabilityMonitor.store import blackboxreader

HOUR = 3600
DAY = 24 * HOUR


class Life:
    """A run whose memory is what the function `size` says of its second."""

    def __init__(self, size=lambda second: second, step=SPAN):
        self.buffer = bytearray(box.SIZE)
        box.lay_out(self.buffer)
        box.seal(self.buffer)
        self.curve = LifeCurve(self.buffer)
        self.size = size
        self.step = step
        self.second = 0.0

    def until(self, second):
        while self.second <= second:
            self.curve.add(
                Sample(
                    1e9 + self.second,
                    50 + self.second,
                    rss=int(self.size(self.second)),
                    threads=7,
                    descriptors=int(self.second),
                )
            )
            self.second += self.step
        return self

    def read(self):
        return blackboxreader.read(bytes(self.buffer)).curve


@pytest.mark.parametrize('life', [SPAN, 80 * 60, HOUR * 12, DAY * 30])
def test_the_curve_reaches_from_the_start_to_the_end(life):
    points = Life(step=max(SPAN, life / 9000)).until(life).read()
    first, last = points[0], points[-1]
    assert first.monotonic == 50.0
    assert life - 2 * life / (box.POINT_COUNT // 2) <= last.monotonic - 50 <= life
    assert last.descriptors >= life - max(SPAN, life / 9000), 'the last point is written at once'


def test_a_full_curve_has_at_least_half_of_its_points():
    life = Life()
    for _ in range(box.POINT_COUNT):
        life.until(life.second)
    for _ in range(2 * box.POINT_COUNT):
        life.until(life.second)
        assert box.POINT_COUNT // 2 <= len(life.read()) <= box.POINT_COUNT


def test_a_point_keeps_the_least_and_the_most_of_its_time():
    """The peaks of single requests come and go; what a leak has taken stays."""

    def size(second):
        return 500 if int(second / SPAN) % 2 else 300 + second / HOUR

    points = Life(size).until(DAY).read()
    assert {point.peak for point in points[:-1]} == {500}
    floors = [point.rss for point in points]
    assert floors == sorted(floors) and floors[0] == 300 and floors[-1] >= 323
    assert {point.threads for point in points} == {7}
    assert [point.descriptors for point in points] == sorted(point.descriptors for point in points)


def test_the_points_are_equally_far_apart():
    points = Life().until(7 * DAY).read()
    gaps = {after.time - before.time for before, after in itertools.pairwise(points)}
    assert len(gaps) == 1


@pytest.mark.parametrize('interval', [SPAN / 20, 90, 1200])
def test_a_run_with_another_interval_or_a_pause_has_a_curve_too(interval):
    """Rounds come seldom with a long interval, and not at all while the process is suspended."""
    life = Life(step=interval).until(300 * interval)
    life.second += 5 * DAY
    points = life.until(life.second + 300 * interval).read()
    numbers = [point.monotonic for point in points]
    assert numbers == sorted(set(numbers)) and numbers[0] == 50 and len(points) >= 2


def test_what_is_not_known_stays_unknown():
    life = Life()
    for second in range(100):
        life.curve.add(Sample(1e9 + second, float(second)))
    assert {(point.rss, point.peak, point.threads) for point in life.read()} == {(-1, -1, -1)}
    life.curve.add(Sample(1e9 + 100, 100.0, rss=5))
    assert life.read()[-1].rss == 5, 'the memory is known from now on'


def test_a_kill_while_the_curve_is_thinned_out_loses_no_time():
    """After each of its writes, the file is read as it is then."""
    life = Life(lambda second: 1000 + second).until((box.POINT_COUNT - 1) * SPAN)
    before = life.read()
    seen = []

    class Watched(bytearray):
        def __setitem__(self, where, value):
            super().__setitem__(where, value)
            seen.append(blackboxreader.read(bytes(self)).curve)

    life.curve.buffer = Watched(life.buffer)
    life.curve.add(Sample(2e9, 50 + box.POINT_COUNT * SPAN, rss=5000))
    assert len(before) == len(seen) + box.POINT_COUNT // 2 == box.POINT_COUNT
    for points in seen:
        floors = [point.rss for point in points]
        assert floors == sorted(floors) and floors[0] == 1000
        assert points[-1].peak == before[-1].peak


def test_a_point_that_is_being_written_is_left_out():
    life = Life().until(10 * SPAN)
    at = box.LIFE_CURVE.at(0)
    struct.pack_into('=Q', life.buffer, at + box.point_entry.size - 8, 4711)
    assert len(life.read()) == 10, 'one of eleven'


@pytest.mark.parametrize('time', [float('nan'), -1.0, 1e300])
def test_a_point_with_an_impossible_time_is_left_out(time):
    life = Life().until(3 * SPAN)
    struct.pack_into('=d', life.buffer, box.LIFE_CURVE.at(0) + 8, time)
    assert len(life.read()) == 3
    struct.pack_into('=d', life.buffer, box.LIFE_CURVE.at(1) + 16, time)
    assert len(life.read()) == 2


def test_the_curve_can_be_read_alone():
    life = Life().until(HOUR)
    assert blackboxreader.read_curve(life.buffer) == life.read() != ()


def test_the_work_for_a_point_does_not_grow_with_the_life():
    """A point takes a few lines; thinning out takes more, but seldom."""

    def usual(life):
        costs = [lines_run(lambda: life.until(life.second)) for _ in range(99)]
        return sorted(costs)[50]

    assert usual(Life().until(3 * DAY)) < 2 * usual(Life().until(HOUR))


def test_a_black_box_of_an_older_release_has_no_curve_and_shorter_samples():
    """Its entries of samples have 128 bytes, and its header does not know the sixth part."""
    made = Life().until(HOUR)
    Recorder(made.buffer).sample(
        Sample(1e9, 5.0, rss=7, connections=3, accept_errors=4, descriptor_limit=9)
    )
    sizes = list(box.LAYOUT[:10])
    sizes[7] = 128
    older = bytearray(made.buffer[: box.SAMPLES.start])
    struct.pack_into('=12I', older, box.SIZES_AT, *sizes, 0, 0)
    for place in box.SAMPLES.places:
        older += made.buffer[place : place + 128]
    older += made.buffer[box.NOTE_RING.start : box.NOTE_RING.end]
    recording = blackboxreader.read(bytes(older))
    assert recording.curve == () == blackboxreader.read_curve(bytes(older))
    (sample,) = recording.samples
    assert (sample.rss, sample.connections) == (7, 3)
    assert (sample.accept_errors, sample.descriptor_limit, sample.connection_limit) == (-1, -1, -1)


def test_a_black_box_of_a_later_release_may_have_larger_points():
    made = Life().until(HOUR)
    sizes = list(box.LAYOUT)
    sizes[-1] += 8
    later = bytearray(made.buffer[: box.LIFE_CURVE.start])
    struct.pack_into('=12I', later, box.SIZES_AT, *sizes)
    for place in box.LIFE_CURVE.places:
        later += made.buffer[place : place + box.LIFE_CURVE.size] + b'\xee' * 8
    assert blackboxreader.read(bytes(later)).curve == made.read()
