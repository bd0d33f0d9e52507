"""What a person reads at three in the morning: one base class, each class carries the next step.

Imports nothing.  The command line turns `exit_code` into its exit status.
"""


class StabilityError(Exception):
    """Something this product was asked for cannot be done.

    `next_step` is one sentence that tells the operator what to do about it.
    """

    next_step = 'Look into the event log for the traceback.'
    exit_code = 2

    def __str__(self) -> str:
        return f'{super().__str__()} {self.next_step}'


class UnreadableRecord(StabilityError):
    """A file of a run is damaged, or was written by something else."""

    next_step = 'Nothing needs to be done: what could be saved is in the archive.'


class NoSuchRun(StabilityError):
    next_step = 'List the runs with the command "history".'


class AmbiguousRun(NoSuchRun):
    """A beginning of a name fits several runs."""

    next_step = 'Type more of its name.'


class NoDirectory(StabilityError):
    next_step = (
        'Name the directory with --directory, or the CLIENT_HOME of the instance '
        'with --client-home.'
    )


class UnknownFormat(StabilityError):
    next_step = 'Use text or json.'


class WrongProcess(StabilityError):
    """A form was made by another process than the one that got it."""

    next_step = 'Nothing was changed: reload the page and try again.'


class DrillRefused(StabilityError):
    next_step = 'Read on the Drills page what this drill needs.'


class NoAnswer(StabilityError):
    """A living process was asked something and has not answered."""

    next_step = (
        'It may hang with the interpreter lock held, or have ended: look at its native stacks '
        '("stabilitymonitor stacks --native").'
    )
