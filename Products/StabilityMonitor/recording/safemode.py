"""Safe mode: after two runs in a row that died while arming, the risky parts stay off.

While a run arms, it has a marker file in `arming/`.  The marker of a dead process shows that its
run died while arming.  A run that has armed successfully removes these markers.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from ..model.jsonform import to_json
from ..model.records import Instance
from ..store.regularfiles import names_in
from ..store.regularfiles import opened
from ..store.regularfiles import unlink
from ..store.rundirectory import read_json
from ..store.rundirectory import write_whole
from ..system.processidentity import identity
from ..system.processidentity import process_is_there

#: Safe mode begins after this many failed runs.
TRIES = 2


class ArmingMarker:
    """The marker of this process in `base/arming`."""

    def __init__(self, base: Path, instance: Instance) -> None:
        self.folder = base / 'arming'
        self.instance = to_json(instance)
        self._own = self.folder / f'{os.getpid()}.json'

    def is_safe_mode(self) -> bool:
        return len(self._failed()) >= TRIES

    def _failed(self) -> list[Path]:
        """Return the markers of this instance whose process is gone."""
        failed = []
        for name in names_in(self.folder):
            if not name.endswith('.json') or name.startswith('.'):
                continue
            file = self.folder / name
            marker = read_json(file)
            if marker.get('instance') != self.instance:
                continue
            process = marker.get('identity') or {}
            if process_is_there(process) is False:  # None: not known
                failed.append(file)
        return failed

    def set(self) -> None:
        with opened(self.folder.parent) as base, contextlib.suppress(FileExistsError):
            base.make(self.folder.name)
        own = identity()
        self._own = self.folder / f'{os.getpid()}-{own["start_ticks"]}.json'
        marker = {'identity': own, 'instance': self.instance}
        write_whole(self._own, json.dumps(marker))

    def clear(self, also_failed: bool) -> None:
        """Remove the marker of this process, because arming is done.

        With `also_failed`, also remove the markers of failed runs, so that they no longer count.
        """
        files = [self._own]
        if also_failed:
            files += self._failed()
        for file in files:
            with contextlib.suppress(OSError):
                unlink(file)
