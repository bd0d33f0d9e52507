"""The errors that a person sees, each with the next step to take.  Imports nothing.

The command prints the error and exits with its `exit_code`.
"""


class StabilityError(Exception):
    """The base class: this product cannot do what it was asked to do.

    `next_step` is one sentence that says what to do about it.
    """

    next_step = 'See the event log for the traceback.'
    exit_code = 2

    def __str__(self) -> str:
        return f'{super().__str__()} {self.next_step}'


class UnreadableRecord(StabilityError):
    """A file of a run is damaged, or was not written by this product."""

    next_step = 'Nothing needs to be done: what could be saved is in the archive.'


class NoSuchRun(StabilityError):
    next_step = 'List the runs with the command "history".'


class NoSuchSnapshot(NoSuchRun):
    next_step = 'List the snapshots with the command "history".'


class AmbiguousRun(NoSuchRun):
    """The beginning of a name fits several runs."""

    next_step = 'Type more of the name.'


class NoDirectory(StabilityError):
    next_step = (
        'Name the directory with --directory, or the CLIENT_HOME of the instance '
        'with --client-home.'
    )


class UnknownFormat(StabilityError):
    next_step = '"stabilitymonitor report --help" lists the formats.'


class WrongProcess(StabilityError):
    """A form was sent to another process than the one that made it."""

    next_step = 'Nothing was changed: reload the page and try again.'


class DrillRefused(StabilityError):
    next_step = 'The page "Drills" says what this drill needs.'


class NoAnswer(StabilityError):
    """A living process did not answer a mailbox request."""

    next_step = (
        'The process may have ended, or C code may hold the interpreter lock (GIL): look at the '
        'native stacks ("stabilitymonitor stacks --native").'
    )


class NoSuchSignature(StabilityError):
    next_step = 'List the signatures with the command "history --by signature".'
