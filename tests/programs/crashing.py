"""A process that arms itself, serves one request, and dies in compiled code:
`python crashing.py DIRECTORY PAGE`, with PAGE of products/compiled_crashes.py.

Its core file is in the current directory, if the system writes one at all.
"""

import sys
import threading
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

from products import compiled_crashes  # noqa: E402

from Products.StabilityMonitor.model.records import Instance  # noqa: E402
from Products.StabilityMonitor.recording.arming import arm  # noqa: E402


def main(directory, page):
    options = {'directory': directory, 'core-files': 'on'}
    life = arm(options, {}, Instance('test', '/nowhere', ''), 'server', {})
    life.armed()
    life.serving()

    def work():
        life.recorder.begin('GET', f'/{page}')
        getattr(compiled_crashes, page)(None)

    thread = threading.Thread(target=work, name='waitress-0')
    thread.start()
    thread.join()


if __name__ == '__main__':
    main(*sys.argv[1:])
