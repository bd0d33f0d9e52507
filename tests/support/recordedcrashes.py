"""Records of real crashes in compiled code, in tests/data/compiled_crashes.json.xz: what they tell
must stay understood, also where the compiled modules cannot be built.

tests/functional/measure_suspects.py writes the file.
"""

import json
import lzma
import sys
import sysconfig
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

from Products.StabilityMonitor.knowledge.diagnosis import diagnosed
from Products.StabilityMonitor.knowledge.diagnosis import source_reader
from Products.StabilityMonitor.knowledge.signatures import signature_of
from Products.StabilityMonitor.model.records import Instance
from Products.StabilityMonitor.model.runrecord import RunRecord
from support import crashers
from support.childprograms import CHECKOUT

RECORDS = Path(__file__).resolve().parent.parent / 'data' / 'compiled_crashes.json.xz'
#: The same crashes in other circumstances, see crashesagain.py: "3.14-moved.json.xz".
AGAIN = RECORDS.with_name('crashes_again')
#: So many threads that did not crash are kept of each.
_OTHERS = 3
#: What the context of a run tells about a crash.
_TELLING = ('python', 'distributions', 'executable', 'platform', 'libc')


@dataclass(frozen=True)
class Recorded:
    """Records of crashes, {page: record}, and the Python code that they name, {path: text}."""

    records: dict[str, RunRecord]
    sources: dict[str, str]


def read(path=RECORDS):
    known = json.loads(lzma.decompress(path.read_bytes()))
    records = {page: RunRecord.from_json(each) for page, each in known['records'].items()}
    return Recorded(records, known['sources'])


def write(path, records, home):
    """Write {crash: record} of the Zope in the folder `home`, without what says nothing about the
    crash, and with usual folders in place of those of this machine.
    """
    sources = {}
    for record in records.values():
        read_and_note = _noting(source_reader(record), sources)
        for known in (record, replace(record, core=None)):
            diagnosed(known, read=read_and_note)
            signature_of(known, read_and_note)
    own = (str(home), str(crashers.site()))
    sources = {file: text for file, text in sources.items() if file.startswith(own)}
    documents = {crash.page: _bare(record).to_json() for crash, record in records.items()}
    known = {'records': documents, 'sources': sources}
    text = json.dumps(known, indent=1, sort_keys=True)
    for folder, usual in _folders(home):
        text = text.replace(str(folder), usual)
    path.write_bytes(lzma.compress(text.encode(), preset=9))


def _noting(read, sources):
    def note(path):
        text = read(path)
        if text is not None:
            sources[path] = text
        return text

    return note


def _bare(record):
    core = record.core and replace(record.core, threads=_few(record.core.threads))
    context = {name: record.context[name] for name in _TELLING if name in record.context}
    return replace(
        record,
        instance=Instance('host', '/srv/zope/var', ''),
        context=context,
        core=core,
        threads=_few(record.threads),
        samples=(),
        curve=(),
        recent=(),
        log=(),
        findings=(),
        notes=(),
    )


def _few(threads):
    """Return the thread that crashed, and some others."""
    others = [thread for thread in threads if not thread.crashed][:_OTHERS]
    return tuple(thread for thread in threads if thread.crashed or thread in others)


def _folders(home):
    """Return (folder of this machine, usual folder), the innermost first."""
    return (
        (home, '/srv/zope'),
        (crashers.site(), '/opt/products'),
        (crashers.innocents(), '/opt/libraries'),
        (sys.prefix, '/opt/zope'),
        (CHECKOUT, '/opt/checkout'),
        (sys.base_prefix, '/usr/local'),
        (sysconfig.get_config_var('abs_srcdir') or '/usr/src/python', '/usr/src/python'),
    )
