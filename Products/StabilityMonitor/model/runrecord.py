"""The record of one run: how it ended, with everything known about it.

When it is read back from a file, nothing in it is trusted.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from typing import Any

from .records import Evidence
from .records import Instance
from .records import shallow
from .verdicts import verdict


@dataclass(frozen=True)
class RunRecord:
    """How one run ended, with everything known about it: the contents of `incident.json`.

    The keys are the contract of DESIGN section 4; keys are only ever added.
    """

    run: str
    instance: Instance = Instance()
    role: str = 'server'
    pid: int = 0
    started: str | None = None
    ended: str | None = None
    uptime_seconds: float | None = None
    verdict: str = 'unreadable'
    confidence: str = 'weak'
    summary: str = ''
    signal: str | None = None
    exit_code: int | None = None
    evidence: tuple[Evidence, ...] = ()
    ruled_out: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    requests: tuple[dict[str, Any], ...] = ()
    recent: tuple[dict[str, Any], ...] = ()
    threads: tuple[dict[str, Any], ...] = ()
    native: tuple[dict[str, Any], ...] = ()
    suspects: tuple[dict[str, Any], ...] = ()
    known_issues: tuple[dict[str, Any], ...] = ()
    samples: tuple[dict[str, Any], ...] = ()
    log: tuple[dict[str, Any], ...] = ()
    signature: str = ''
    phase: str = ''
    exception: str = ''
    counters: dict[str, Any] = field(default_factory=dict)
    compiled_modules: tuple[str, ...] = ()
    context: dict[str, Any] = field(default_factory=dict)
    findings: tuple[dict[str, Any], ...] = ()
    drill: str = ''
    notes: tuple[dict[str, Any], ...] = ()
    hangs: tuple[dict[str, Any], ...] = ()

    HEAVY = (
        'threads',
        'native',
        'samples',
        'log',
        'recent',
        'notes',
        'compiled_modules',
        'context',
    )

    @property
    def is_incident(self) -> bool:
        return not verdict(self.verdict).is_wanted

    @property
    def hung_at_the_end(self) -> bool:
        """Whether a hang, deadlock or spinning thread lasted until the run ended, in any way."""
        return any(hang['ended'] is None for hang in self.hangs)

    @property
    def stood_still(self) -> list[dict[str, Any]]:
        """The notes that have the stack of a thread that hung or spun."""
        return [note for note in self.notes if note['kind'] in ('hang', 'deadlock', 'spinning')]

    def to_json(self) -> dict[str, Any]:
        """The record as JSON has it.

        Do not change the lists and dicts: they are the record's own, because `asdict` would copy
        thousands of samples.
        """
        return shallow(self) | {
            'instance': shallow(self.instance),
            'evidence': tuple(map(shallow, self.evidence)),
        }

    def summary_json(self) -> dict[str, Any]:
        """The record without its HEAVY parts, as lists and the `history` of a report show it."""
        return {key: value for key, value in self.to_json().items() if key not in self.HEAVY}

    @classmethod
    def from_json(cls, document: object) -> RunRecord:
        """Read back, ignoring keys of a later release.  Raises ValueError for what is no record."""
        if not isinstance(document, dict) or not isinstance(document.get('run'), str):
            raise ValueError('not a run record')
        values = _typed(document, cls.__annotations__)
        values['instance'] = Instance(**_strings(document.get('instance'), Instance))
        values['evidence'] = tuple(
            Evidence(**_strings(item, Evidence)) for item in _list(document, 'evidence')
        )
        for key in ('ruled_out', 'candidates', 'compiled_modules'):
            values[key] = tuple(str(item) for item in _list(document, key))
        for key, shape in _SHAPES.items():
            types = {name: type(value).__name__ for name, value in shape.items()}
            items = _objects(_list(document, key))
            values[key] = tuple(shape | _typed(item, types, keep=True) for item in items)
        for thread in (*values['threads'], *values['notes']):
            thread['frames'] = [_FRAME | frame for frame in _objects(thread['frames'])]
        return cls(**values)


#: So many items of a list in a record are read: ten times what is ever written.
MOST_ITEMS = 10_000


def _list(document: dict[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    return list(value[:MOST_ITEMS]) if isinstance(value, list | tuple) else []


def _objects(items: list[Any]) -> list[dict[str, Any]]:
    return [item for item in items if isinstance(item, dict)]


def _strings(document: object, cls: type[Evidence | Instance]) -> dict[str, str]:
    """The string fields of `cls` found in an untrusted document."""
    known = document if isinstance(document, dict) else {}
    return {each.name: str(known.get(each.name, '') or '') for each in fields(cls)}


#: What the items of a record's lists have at least; the type of a default is that of the value.
_FRAME: dict[str, Any] = {'file': '', 'line': None, 'function': ''}
_REQUEST: dict[str, Any] = {
    'thread': '',
    'method': '',
    'path': '',
    'phase': '',
    'seconds': 0.0,
    'started': None,
    'ended': None,
    'count': 1,
    'status': 0,
    'crashed': False,
    'number': 0,
    'last_number': 0,
    'ident': 0,
    'native_id': 0,
    'retry': 0,
    'user': '',
    'cut': False,
}
_SHAPES: dict[str, dict[str, Any]] = {
    'requests': _REQUEST,
    'recent': _REQUEST,
    'threads': {
        'ident': None,
        'name': '',
        'crashed': False,
        'frames': [],
        'note': '',
        'cut': False,
        'stack_size': 0,
        'stack_used': 0,
    },
    'native': {'binary': '', 'symbol': '', 'offset': None, 'address': None},
    'notes': {
        'kind': '',
        'time': None,
        'thread': '',
        'seconds': 0.0,
        'title': '',
        'detail': '',
        'frames': [],
    },
    'hangs': {'kind': '', 'started': None, 'ended': None, 'seconds': 0.0, 'summary': ''},
    'suspects': {},
    'known_issues': {},
    'findings': {},
    'samples': {
        'time': None,
        'rss': -1,
        'cpu': -1.0,
        'threads': -1,
        'descriptors': -1,
        'in_flight': 0,
    },
    'log': {'time': None, 'level': '', 'logger': '', 'message': ''},
}
#: How an untrusted value must look for an annotation; other annotations are not checked.
_CHECKS: dict[str, Callable[[object], bool]] = {
    'str': lambda v: isinstance(v, str),
    'str | None': lambda v: v is None or isinstance(v, str),
    'int': lambda v: isinstance(v, int),
    'int | None': lambda v: v is None or isinstance(v, int),
    'float': lambda v: isinstance(v, int | float),
    'float | None': lambda v: v is None or isinstance(v, int | float),
    'bool': lambda v: isinstance(v, bool),
    'list': lambda v: isinstance(v, list),
    'dict': lambda v: isinstance(v, dict),
    'dict[str, Any]': lambda v: isinstance(v, dict),
}


def _typed(
    document: dict[str, Any], types: Mapping[str, str], keep: bool = False
) -> dict[str, Any]:
    """The entries whose value has the right type; with `keep`, those of no known type too."""
    found = {}
    for key, value in document.items():
        if key not in types and not keep:
            continue
        check = _CHECKS.get(types.get(key, ''))
        if check is None or check(value):
            found[key] = value
    return found
