"""What came out when incidents of one signature were compared, with each other and with other runs.

Counts, and no sentences.  `model.jsonform` writes these values, so this module does not postpone
annotations.
"""

from dataclasses import dataclass

from .feature import Feature

#: Other kinds of differences than those of `model.feature`.
OPTION = 'option'
UPTIME = 'uptime'


@dataclass(frozen=True)
class Correlation:
    """Features of one kind which the same runs have: `having` of `runs` incidents of the signature,
    and `others_having` of `others`.

    `features` are at most three, `more` is how many more there are.  `are_incidents`: the others
    are incidents only.  `probability` is that of such a difference by chance alone, for all
    features that were tried.
    """

    kind: str
    features: tuple[Feature, ...]
    more: int
    having: int
    runs: int
    others_having: int
    others: int
    are_incidents: bool
    probability: float


@dataclass(frozen=True)
class VersionUse:
    """How many runs with and without the signature had a version; '' if it was not installed."""

    name: str
    version: str
    having: int
    others_having: int


@dataclass(frozen=True)
class VersionChange:
    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Since:
    """Since these versions changed, no run of `runs`, with `uptime_seconds`, had the signature.

    `changes` are at most three, `more` is how many more there are.  `is_cut`: only this many runs
    were looked at.
    """

    changes: tuple[VersionChange, ...]
    more: int
    runs: int
    uptime_seconds: float
    is_cut: bool


@dataclass(frozen=True)
class Rate:
    """How often: `count` incidents in the `days` since the first one, and in `uptime_seconds` of
    the run that it ended and all later ones.

    `per_day` is None in the first 24 hours.  It and `per_uptime_day` (24 hours of uptime) are None
    after a single incident.
    """

    count: int
    days: float
    per_day: float | None
    uptime_seconds: float
    per_uptime_day: float | None


@dataclass(frozen=True)
class Comparison:
    """The incidents of a signature, compared with the other runs of their instances."""

    rate: Rate
    correlations: tuple[Correlation, ...] = ()
    versions: tuple[VersionUse, ...] = ()
    since: tuple[Since, ...] = ()


@dataclass(frozen=True)
class Difference:
    """What differs between an incident and an earlier one with the same signature.

    `kind` is one of `model.feature`, `OPTION` or `UPTIME`.  `name` is the distribution or option.
    `before` and `after` are texts: a version (it was not installed: ''), the value of an option,
    paths, the seconds of the uptime, percent of the limit, MiB, or a number of threads.  Users are
    in `who`, those of the earlier time in `who_before`, and nowhere else: `reporting.redaction`
    knows them by these keys.  `more` of the last distribution is how many more have changed.
    """

    kind: str
    name: str = ''
    before: str = ''
    after: str = ''
    who: tuple[str, ...] = ()
    who_before: tuple[str, ...] = ()
    more: int = 0
