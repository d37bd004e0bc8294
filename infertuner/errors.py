"""The errors a user can cause, in one place so that every room may raise them without importing another.

A command turns any of them into one line on stderr and exit code 2;
everything else is a defect and keeps its traceback.
"""


class InferTunerError(Exception):
    """Something the user can mend; the message names the key or file, the value, the bound and the next step."""


class ScenarioError(InferTunerError):
    """A scenario that cannot be run as written."""


class TraceError(InferTunerError):
    """A trace file that cannot be read; the message carries the line number."""


class ProfileError(InferTunerError):
    """A latency profile or sample file that is missing, malformed or of another schema version."""


class OutOfRangeError(InferTunerError):
    """A latency model was asked about a batch outside the box it was measured in."""


class CalibrationError(InferTunerError):
    """A calibration that cannot start, resume or be trusted."""


class ResultsError(InferTunerError):
    """A run folder that cannot be written."""


class ValidationError(InferTunerError):
    """A validation that cannot start or resume, or measured requests that cannot be read."""
