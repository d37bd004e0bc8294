"""InferTuner: a discrete-event simulator of LLM inference serving, calibrated with real runs."""

__version__ = "0.1.0"
