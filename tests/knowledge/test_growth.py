"""Growth of memory is found by its slope against its noise, over minutes or over weeks; a start, a
cache that fills, garbage and large requests are no growth.

The curves are what the heartbeat would have recorded of invented processes, through the black box.
"""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from support import syntheticruns as synthetic
from support.effort import lines_run

from Products.StabilityMonitor.knowledge import symptoms
from Products.StabilityMonitor.knowledge.growth import Growth
from Products.StabilityMonitor.knowledge.growth import began
from Products.StabilityMonitor.knowledge.growth import memory_growth
from Products.StabilityMonitor.model.records import LifePoint
from Products.StabilityMonitor.model.records import Sample
from Products.StabilityMonitor.model.runrecord import RunRecord
from Products.StabilityMonitor.postmortem.verdict import judge
from Products.StabilityMonitor.recording.lifecurve import LifeCurve
from Products.StabilityMonitor.store import blackbox as box
from Products.StabilityMonitor.store import blackboxreader

MIB = 1 << 20
HOUR = 3600
DAY = 24 * HOUR
#: The monotonic time at which each run starts.
STARTED = 5000.0


def recorded(size, life):
    """Return (curve, samples) of a run of `life` seconds, whose memory in MiB in each second is
    what the function `size` returns.
    """
    buffer = bytearray(box.SIZE)
    box.lay_out(buffer)
    box.seal(buffer)
    curve = LifeCurve(buffer)

    def at(second):
        return Sample(1e9 + second, STARTED + second, rss=int(size(second) * MIB))

    step = max(20, life / 4000)
    for number in range(int(life / step) + 1):
        curve.add(at(number * step))
    first = int(max(0, life - box.SAMPLE_COUNT))
    samples = tuple(at(second) for second in range(first, int(life) + 1))
    return blackboxreader.read_curve(buffer), samples


def grown(size, life):
    return memory_growth(*recorded(size, life), STARTED)


def noisy(size, spread, seed=1):
    """Return the function with memory that is needed for a moment now and then."""
    chance = random.Random(seed)
    return lambda second: size(second) + abs(chance.gauss(0, spread))


def leak(before, rate, since=0):
    """Return a function: `before` MiB, and from second `since` on `rate` MiB/h more."""
    return lambda second: before + rate * max(0, second - since) / HOUR


def started(full, seconds):
    """Return a function: a site that grows to `full` MiB ever more slowly."""
    return lambda second: 100 + (full - 100) * (1 - math.exp(-second / seconds))


def step(before, after, at):
    return lambda second: after if second >= at else before


#: The site that grew by 2 GB in twelve hours.
LEAK = leak(500, 2048 / 12)


def teeth(low, high, length):
    return lambda second: low + (high - low) * (second % length) / length


def lumps(seed):
    """Return a function: a leak of 12 MiB at 40 moments in twelve hours."""
    chance = random.Random(seed)
    moments = [chance.uniform(0, 12 * HOUR) for _ in range(40)]
    return lambda second: 500 + 12 * sum(moment <= second for moment in moments)


#: What `model.jsonform` reads from a record.
moments = st.floats(-1e300, 1e300)
sizes = st.integers(-(1 << 63), 1 << 63)

#: name: (memory, seconds of life, MiB an hour)
GROWING = {
    'CMFPlone 1829: 0.81 to 1.44 GB in five minutes': (
        noisy(leak(810, 630 * 12), 20),
        300,
        630 * 12,
    ),
    'the same after two hours': (
        noisy(leak(810, 630 * 12, 2 * HOUR - 300), 20),
        2 * HOUR,
        630 * 12,
    ),
    '2 GB in twelve hours': (noisy(leak(500, 2048 / 12), 40), 12 * HOUR, 2048 / 12),
    '40 MiB in an hour': (noisy(leak(800, 40), 40), 12 * HOUR, 40),
    'a site of 4 GB that grows by 100 MiB in an hour': (
        noisy(leak(4000, 100), 200),
        12 * HOUR,
        100,
    ),
    '5 MiB an hour for ten days': (noisy(leak(800, 5), 40), 10 * DAY, 5),
    'in the last three of ten days': (noisy(leak(800, 8, 7 * DAY), 20), 10 * DAY, 8),
    'after a start': (
        lambda second: started(500, 1800)(second) + leak(0, 30)(second),
        DAY,
        30,
    ),
    'in lumps': (lumps(3), 12 * HOUR, 40),
    'below garbage': (
        lambda second: leak(500, 60)(second) + teeth(0, 150, 600)(second),
        12 * HOUR,
        60,
    ),
}

#: name: (memory, seconds of life)
STEADY = {
    'nothing happens': (lambda second: 800, 12 * HOUR),
    'requests need memory for a moment': (noisy(lambda second: 800, 200), 12 * HOUR),
    'garbage of ten minutes': (teeth(500, 800, 600), 12 * HOUR),
    'garbage of four minutes, soon after the start': (teeth(500, 800, 250), 900),
    'garbage of hours': (teeth(500, 800, 5 * HOUR), 14.9 * HOUR),
    'a start, soon after it': (started(500, 60), 600),
    'a start, very soon after it': (started(500, 60), 300),
    'a large site starts': (started(3000, 600), 1800),
    'a restart has just begun': (lambda second: 30 + 3 * second, 90),
    'a cache fills': (noisy(started(1000, 2 * HOUR), 10), 8 * HOUR),
    'a cache has a limit': (noisy(lambda s: 300 + 700 * min(1, s / (3 * HOUR)), 10), 4 * HOUR),
    'a cache was filled long ago': (
        noisy(lambda s: 300 + 700 * min(1, s / (3 * HOUR)), 10),
        DAY,
    ),
    'a request that gives back what it needs': (
        lambda second: 500 + (5 * (second - 3 * HOUR) if 0 < second - 3 * HOUR < 300 else 0),
        6 * HOUR,
    ),
    'a request that gives it back just now': (
        lambda second: 500 + (5 * (second - 3 * HOUR) if 0 < second - 3 * HOUR < 600 else 0),
        3 * HOUR + 620,
    ),
    'a request that has begun': (
        lambda second: 500 + max(0, 15 * (second - 3 * HOUR)),
        3 * HOUR + 100,
    ),
    'a request that keeps it': (noisy(step(500, 1200, 3 * HOUR), 10), 6 * HOUR),
    'two requests that keep it': (
        noisy(lambda s: step(0, 300, 2 * HOUR)(s) + step(500, 800, 4 * HOUR)(s), 10),
        6 * HOUR,
    ),
    'days and nights': (
        noisy(lambda s: 700 + 200 * math.sin(s / DAY * 2 * math.pi), 20),
        77 * HOUR,
    ),
    'a growth that is too small to matter': (noisy(leak(800, 3), 2), 12 * HOUR),
    'a growth of a large site that is too small to matter': (
        noisy(leak(8000, 60), 20),
        12 * HOUR,
    ),
    'memory is not known': (lambda second: -1, 12 * HOUR),
}


@pytest.mark.parametrize('name', GROWING)
def test_growth_is_found(name):
    size, life, rate = GROWING[name]
    found = grown(size, life)
    assert found is not None
    # It is the mean over the time in which it grew, which may begin before or after the leak.
    assert 0.6 * rate < found.rate * HOUR / MIB < 1.4 * rate, found.summary
    assert found.after > found.before and 180 <= found.seconds <= life


@pytest.mark.parametrize('name', STEADY)
def test_what_does_not_grow_is_not_called_growth(name):
    size, life = STEADY[name]
    assert grown(size, life) is None


@pytest.mark.parametrize('seed', range(6))
def test_memory_that_wanders_is_not_called_growth(seed):
    """Each value depends on the one before, as with real memory, and noise alone seems to rise."""
    chance = random.Random(seed)
    wandering = [0.0]

    def size(second):
        wandering[0] = 0.98 * wandering[0] + chance.gauss(0, 10)
        return 700 + wandering[0]

    assert grown(size, 12 * HOUR) is None


def test_without_a_curve_the_samples_of_an_older_release_are_enough():
    _, samples = recorded(noisy(leak(810, 630 * 12), 20), 300)
    assert memory_growth((), samples, STARTED) is not None
    assert memory_growth((), samples[:200], STARTED) is None, 'that is too short after a start'
    assert memory_growth((), samples[:120]) is not None, 'it is not known when the run began'
    assert memory_growth((), samples[:40]) is None
    assert memory_growth((), ()) is None


def test_the_time_of_the_longest_growth_is_told():
    found = grown(noisy(leak(800, 40), 40), 12 * HOUR)
    assert found.seconds > 10 * HOUR
    assert found.summary.startswith('grew by 4') and ' MiB/h over 10 hours' in found.summary


@pytest.mark.parametrize(
    'growth, summary',
    [
        (
            Growth(12 * HOUR, 800 * MIB, 1280 * MIB, 40 * MIB / HOUR),
            'grew by 40 MiB/h over 12 hours, from 800 to 1,280 MiB',
        ),
        (
            Growth(300, 810 * MIB, 1440 * MIB, 2.1 * MIB),
            'grew by 126 MiB/min over 5 min, from 810 to 1,440 MiB',
        ),
        (
            Growth(240 * HOUR, 800 * MIB, 1280 * MIB, 2 * MIB / HOUR),
            'grew by 2.0 MiB/h over 10 days, from 800 to 1,280 MiB',
        ),
    ],
)
def test_growth_is_told_in_words(growth, summary):
    assert growth.summary == summary


def test_the_time_until_a_limit_is_known_if_there_is_one():
    growth = Growth(HOUR, 0, 10, rate=2.0)
    assert growth.seconds_until(100, 700) == 300.0
    assert growth.seconds_until(800, 700) == 0.0, 'it is reached'
    assert growth.seconds_until(100, -1) is growth.seconds_until(-1, 700) is None


@pytest.mark.parametrize('value', [None, 'x', 0, -1, math.inf, math.nan, [1]])
def test_a_damaged_context_does_not_say_when_the_run_began(value):
    assert began({'monotonic': value}) is None
    assert began({'monotonic': 7.5}) == 7.5


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(moments, sizes), max_size=40),
    st.lists(st.tuples(moments, sizes), max_size=40),
    st.one_of(st.none(), moments),
)
def test_curves_of_any_record_are_read(curve, samples, since):
    found = memory_growth(
        [LifePoint(1.0, at, size) for at, size in curve],
        [Sample(1.0, at, size) for at, size in samples],
        since,
    )
    assert found is None or found.summary


def test_the_work_does_not_grow_with_the_life():
    def work(life):
        curve, samples = recorded(leak(800, 40), life)
        return lines_run(lambda: memory_growth(curve, samples, STARTED))

    assert work(30 * DAY) < 10 * work(HOUR)


# -- where it is told ------------------------------------------------------------------------------


def test_growth_is_a_sign_of_a_known_issue():
    curve, samples = recorded(noisy(leak(500, 2048 / 12), 40), 12 * HOUR)
    record = RunRecord('x', curve=curve, samples=samples, context={'monotonic': STARTED})
    sign = symptoms.growth(record)
    assert sign.kind == 'memory' and sign.sentence.startswith('memory: grew by 17')
    assert symptoms.growth(replace(record, curve=(), samples=())) is None
    steady = recorded(lambda second: 800, 12 * HOUR)
    assert symptoms.growth(replace(record, curve=steady[0], samples=steady[1])) is None


def dead(size=LEAK, limit=-1, used=-1, **values):
    """Return the traces of a run of twelve hours."""
    curve, samples = recorded(noisy(size, 10), 12 * HOUR)
    samples = [replace(each, cgroup_limit=limit, cgroup_current=used) for each in samples]
    recording = synthetic.recording(curve=curve, samples=tuple(samples))
    context = {'role': 'server', 'monotonic': STARTED}
    return synthetic.traces(recording=recording, context=context, **values)


def told(traces):
    return [each.fact for each in judge(traces).evidence if 'The memory of Zope grew' in each.fact]


@pytest.mark.parametrize(
    'more',
    [
        {'cgroup_kills': 1},
        {'kernel_line': 'Memory cgroup out of memory: Killed process 4711'},
        {'cgroup_kills': None, 'host_kills': 1},
        {'limit': 3000 * MIB, 'used': 2500 * MIB},
    ],
)
def test_growth_until_memory_was_short_is_evidence(more):
    (fact,) = told(dead(**more))
    assert 'MiB/h over 10 hours' in fact and fact.endswith(' MiB.')
    assert told(dead(size=lambda second: 800, **more)) == []


@pytest.mark.parametrize('more', [{}, {'limit': 8000 * MIB, 'used': 2500 * MIB}])
def test_growth_far_from_any_limit_is_no_evidence(more):
    assert told(dead(**more)) == []


def test_a_run_without_a_black_box_tells_no_growth():
    assert told(synthetic.traces(recording=None, damage='cut', cgroup_kills=1)) == []
