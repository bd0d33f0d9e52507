"""Print the table of all crashes in compiled code: class of death, first suspect, and whether they
are right.

    python tests/functional/measure_suspects.py [--record FILE] [PAGE ...]

Real Zopes die, once with a core file and once without; that takes some minutes.  With --record,
what is known of each death with a core file is written there, for tests/knowledge.
"""

import argparse
import sys
import tempfile
from pathlib import Path

if __name__ == '__main__':
    sys.path[:0] = [str(Path(__file__).resolve().parents[n]) for n in (2, 1)]

from support import crashers
from support import recordedcrashes
from support.crashmeasure import CrashSite
from support.crashmeasure import diagnose
from support.crashmeasure import share
from support.crashmeasure import table
from support.crashtable import OF_OTHERS
from support.crashtable import OF_PRODUCTS


def measure(crashes, cores, record=None):
    """Let real Zopes die, and print the table of what is said of each death."""
    with tempfile.TemporaryDirectory() as folder, CrashSite(Path(folder), cores) as site:
        absent = crashers.lacking()
        records = {crash: site.record(crash) for crash in crashes if crash.culprit not in absent}
        outcomes = [diagnose(crash, known) for crash, known in records.items()]
        if record:
            recordedcrashes.write(record, records, site.home)
    print(table(outcomes))
    print(f'The first suspect is right in {share(outcomes):.0%} of the crashes of products.\n')


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('--record', type=Path)
    arguments.add_argument('pages', nargs='*')
    asked = arguments.parse_args()
    crashes = [
        crash for crash in OF_PRODUCTS + OF_OTHERS if not asked.pages or crash.page in asked.pages
    ]
    measure(crashes, True, asked.record)
    measure(crashes, False)


if __name__ == '__main__':
    main()
