"""Let real Zopes die of the same crashes in other circumstances, and print each signature.

    python tests/functional/measure_signatures.py [--record FOLDER] [--in NAME ...] [--pages ...]

The circumstances are those of tests/support/crashesagain.py; the Python is the one that runs this.
With --record, what is known of each death is written there, for tests/knowledge.
"""

import argparse
import sys
import tempfile
from pathlib import Path

if __name__ == '__main__':
    sys.path[:0] = [str(Path(__file__).resolve().parents[n]) for n in (2, 1)]

from support import recordedcrashes
from support.crashesagain import CIRCUMSTANCES
from support.crashesagain import Again
from support.crashtable import all_crashes

from Products.StabilityMonitor.knowledge.diagnosis import source_reader
from Products.StabilityMonitor.knowledge.signatures import signature_of


def measure(crashes, circumstances, record=None):
    with tempfile.TemporaryDirectory() as folder:
        with Again(Path(folder, 'zope'), circumstances, cores=True) as site:
            records = {}
            for crash in crashes:
                records[crash] = site.record(crash)
                signature = signature_of(records[crash], source_reader(records[crash]))
                print(circumstances.id, crash.page, signature and signature.strict, flush=True)
            if record:
                name = '{}.{}-{}.json.xz'.format(*sys.version_info[:2], circumstances.id)
                recordedcrashes.write(record / name, records, site.home)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('--record', type=Path)
    arguments.add_argument('--in', dest='ids', choices=CIRCUMSTANCES, nargs='*', default=None)
    arguments.add_argument('--pages', nargs='*', default=())
    asked = arguments.parse_args()
    crashes = [each for each in all_crashes() if not asked.pages or each.page in asked.pages]
    for id in asked.ids or CIRCUMSTANCES:
        measure(crashes, CIRCUMSTANCES[id], asked.record)


if __name__ == '__main__':
    main()
