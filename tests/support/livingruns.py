"""A run of this process that lives, with a mailbox that answers what a test wants."""

import os
import threading
import time

from Products.StabilityMonitor.store import runmailbox
from Products.StabilityMonitor.store.rundirectory import new_name
from Products.StabilityMonitor.system.processidentity import identity


class Living:
    """A living run of this process; its mailbox answers with `told`, or it has none for None."""

    def __init__(self, base, told, **context):
        self.directory = base.create(
            new_name(time.time(), os.getpid()), {'identity': identity(), **context}
        )
        self.name = self.directory.path.name
        self.inbox = (
            runmailbox.Inbox(self.directory.path, {'stacks': lambda: told})
            if told is not None
            else None
        )
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._beat)
        self.thread.start()

    def _beat(self):
        while not self.over.wait(0.01):
            if self.inbox:
                self.inbox.listen()

    def end(self):
        self.over.set()
        self.thread.join()
        self.directory.abandon()
