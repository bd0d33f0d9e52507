"""Watches how deep the stacks of the serving threads and of the main thread have been, and tells
the black box.

A serving thread says once where its stack lies (`enter`); from then on the heartbeat looks at its
pages.  A mark that rose between two looks at the same request rose in it.
"""

from __future__ import annotations

from dataclasses import replace

from ..model.records import Finding
from ..system.stackdepth import StackGauge
from ..system.stackdepth import headroom


class StackWatch:
    """`recorder` gets the marks, `findings` the stacks that were nearly full."""

    def __init__(self, recorder, findings, gauge=None):
        self.recorder, self.findings = recorder, findings
        self.gauge = gauge or StackGauge()
        self._stacks, self._used, self._served, self._told = {}, {}, {}, 'info'
        self._main, self._main_used = self.gauge.main(), 0
        if self._main:
            recorder.set_word('main_stack', self._main.size)

    def enter(self, index: int):
        """In a serving thread, once: its Stack, or None where the system does not tell."""
        stack = self.gauge.own()
        self._stacks[index], self._used[index] = stack, 0
        self.recorder.stack(index, *((stack.size, stack.guard) if stack else (0, 0)))
        return stack

    def look(self) -> None:
        """At each round of the heartbeat."""
        for index, slot in list(self.recorder.slots.items()):
            stack = self._stacks.get(index)
            before, self._served[index] = self._served.get(index), slot.number
            if stack and self._has_risen(index, stack):
                self.recorder.stack_used(
                    index, self._used[index], slot.number if slot.number == before else 0
                )
                self._judge(stack, self._used[index], slot.thread.name)
        if self._main:
            self._look_at_main()

    def _has_risen(self, index, stack):
        before, self._used[index] = self._used[index], self._mark(stack, self._used[index])
        return self._used[index] > before

    def _mark(self, stack, known):
        return self.gauge.rise(stack, known) if known else self.gauge.used(stack)

    def _look_at_main(self):
        used = self._mark(self._main, self._main_used)
        if used > self._main_used:
            self._main_used = used
            self.recorder.set_word('main_stack_used', used)
            self._judge(self._main, used, 'MainThread', main=True)

    def _judge(self, stack, used, name, main=False):
        found = headroom(stack.size, used, name, self.gauge.granule, main)
        if Finding.SEVERITIES.index(found.severity) > Finding.SEVERITIES.index(self._told):
            self._told = found.severity
            self.findings.drop(found.id)  # one finding for all threads: the worst
            self.findings.add(found.id, found.title, found.detail, found.action, found.severity)

    def measured(self, states) -> tuple:
        """The ThreadStates with size and high-water mark of their stacks."""
        stacks = self.gauge.of_threads(
            {state.native_id: state.ident for state in states if state.native_id}
        )
        stacks |= {
            slot.native_id: self._stacks[index]
            for index, slot in list(self.recorder.slots.items())
            if self._stacks.get(index)
        }
        return tuple(self._with(state, stacks.get(state.native_id)) for state in states)

    def _with(self, state, stack):
        return (
            replace(state, stack_size=stack.size, stack_used=self.gauge.used(stack))
            if stack
            else state
        )
