"""The configuration of a run for its report: the text of zope.conf and of the .ini file.

The text is as it is on disk now; `reporting.redaction` takes the secrets out of it.
"""

from __future__ import annotations

from ..model.reportparts import ConfigurationFile
from ..model.reportparts import Gap
from .subject import Subject
from .subject import gap

#: At most this many bytes of each file.
MOST = 256 << 10
_NAMES = {'zope_conf': 'zope-conf', 'wsgi_ini': 'wsgi-ini'}


def texts(subject: Subject) -> tuple[list[ConfigurationFile], list[Gap]]:
    """Return the configuration files of a run, and why others are missing."""
    found = []
    missing = []
    for key, path in subject.configuration.items():
        name = _NAMES[key]
        if not subject.is_here:
            missing.append(Gap(name, subject.why_not_here, path))
        elif not path:
            missing.append(Gap(name, 'not-named'))
        else:
            try:
                found.append(_read(path, subject))
            except OSError as error:
                missing.append(gap(name, path, error))
    return found, missing


def _read(path: str, subject: Subject) -> ConfigurationFile:
    with open(subject.open(path), 'rb') as file:
        content = file.read(MOST + 1)
    is_cut = len(content) > MOST
    if is_cut:  # no line is torn: half of a secret is not recognized
        content = content[: content.rfind(b'\n', 0, MOST) + 1]
    return ConfigurationFile(path, content.decode('utf-8', 'replace'), is_cut)
