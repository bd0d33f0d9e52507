"""Parts of a report that are read only when a report is made: logs, configuration, changes, gaps.

They hold values, not sentences: `reporting` makes words of them.  `model.jsonform` makes the JSON
of a value from its annotations, so this module does not postpone them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .records import Moment

#: {name of a log: words for it}, in the order in which a report shows them.
LOGS: Mapping[str, str] = MappingProxyType(
    {
        'event-log': 'event log',
        'access-log': 'access log',
        'other-log': 'another log of Zope',
        'standard-error': 'standard error',
        'supervisor-log': 'log of the supervisor',
        'journal': 'journal of the service',
        'kernel-log': 'kernel log',
        'system-log': 'system log',
    }
)


@dataclass(frozen=True)
class LogPortion:
    """The lines of one log around the end of a run, or before now.

    `name` is a key of LOGS.  `file` is the path of the newest file that the lines are from; '' if
    they are from no file.  `text` has whole lines; it is one text, because a secret may go over
    several lines.  `first` and `last` are the times of the first and the last line that has one.
    `cut`: more lines are of that time than are here.  `rotated`: they are from an older file.
    `timeless`: the lines have no times, and are those at the end of the log.
    """

    name: str
    file: str = ''
    text: str = ''
    first: Moment | None = None
    last: Moment | None = None
    cut: bool = False
    rotated: bool = False
    timeless: bool = False

    @property
    def lines(self) -> list[str]:
        return self.text.split('\n') if self.text else []


@dataclass(frozen=True)
class ConfigurationFile:
    """The text of a configuration file.  `cut`: its end is missing, because it is too long."""

    file: str
    text: str = ''
    cut: bool = False


#: {what a report could not tell: words for it}, besides the keys of LOGS.
MISSING: Mapping[str, str] = MappingProxyType(
    {
        'end': 'the time of the end',
        'status': 'how the process ended, as another process saw it',
        'black-box': 'the last requests and vital signs',
        'python-stacks': 'the Python stacks at the end',
        'native-stack': 'the native stack of the crashed thread',
        'core-file': 'a core file',
        'versions': 'what was installed',
        'zope-conf': 'zope.conf',
        'wsgi-ini': 'the configuration of the server',
        'logs': 'the logs of Zope',
        'gaps': 'what else is missing',
        'last-stable': 'what has changed since the last run that ended as wanted',
    }
)
#: {why it could not: words}.
REASONS: Mapping[str, str] = MappingProxyType(
    {
        'not-found': 'it was not found',
        'not-named': 'nothing names it',
        'not-readable': 'it cannot be read by this user',
        'not-a-file': 'it is no regular file',
        'of-another-user': 'it belongs to another user than the records',
        'packed': 'it is compressed in a form that is not read here',
        'too-large': 'it is too large to be read',
        'nothing-then': 'it has nothing of that time',
        'other-machine': 'the run was on another machine',
        'other-boot': 'the machine was started again since',
        'in-container': 'the process was in a container, where the kernel uses other numbers',
        'switched-off': 'the system was told to write none',
        'kept-elsewhere': 'the system gives it to another program',
        'not-read': 'no program here could read its stacks',
        'incomplete': 'it was read only in part',
        'cut': 'they were cut short',
        'damaged': 'it is damaged',
        'nobody-saw': 'no other process saw the end',
        'not-recorded': 'it was not recorded',
        'no-such-run': 'there is no such run',
        'failed': 'reading it failed',
    }
)


@dataclass(frozen=True)
class Gap:
    """What this host could not tell, and why.

    `what` is a key of LOGS or MISSING, `why` one of REASONS.  `file` is the path that it is about,
    '' if none; `detail` is what the system or a program said, '' if nothing.
    """

    what: str
    why: str
    file: str = ''
    detail: str = ''


@dataclass(frozen=True)
class Change:
    """One difference between two runs.

    `kind` is "software" (Zope, Python, the C library, ...), "distribution", "module" (compiled),
    "option" (of this product) or "setting" (of the process).  '' stands for "not there" or "not
    known".
    """

    kind: str
    name: str
    before: str = ''
    now: str = ''


@dataclass(frozen=True)
class ChangedSince:
    """What is different from the last earlier run of the same kind that ended as wanted.

    `run` is that run, with the times of its start and end; '' if there is none.
    """

    run: str = ''
    started: Moment | None = None
    ended: Moment | None = None
    changes: tuple[Change, ...] = ()
