"""The errors that a user can cause and mend.

Everything else that is raised is a defect of kbert and keeps its traceback.
"""


class UserError(ValueError):
    """A mistake in a command or in its input.

    The message says the rule, what was received and how to mend it; the command
    line shows it without a traceback and exits with 2.
    """


class ConfigError(UserError):
    """One or more settings are wrong."""


class DataError(UserError):
    """A data set cannot be read or does not fit the task."""


class PresetError(UserError):
    """A preset cannot be found or loaded."""


class RunError(UserError):
    """A run folder cannot be written or read."""


class ExportError(UserError):
    """An exported model cannot be written, or is none that can be served."""


class ServingError(UserError):
    """A server cannot be started or asked."""


class TrainingError(RuntimeError):
    """A training that cannot go on, such as one whose loss is no longer a number."""


class Interrupted(KeyboardInterrupt):
    """A training that was asked to stop, and did, after the step in progress.

    What a script does at a Ctrl-C (`except KeyboardInterrupt`), it does here too.

    Attributes:
        signal_number: the signal that asked.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
