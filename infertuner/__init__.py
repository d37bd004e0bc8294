"""InferTuner: a discrete-event simulator of LLM inference serving, calibrated with real runs.

In a notebook:

    import infertuner

    study = infertuner.load_study("scenarios/cache.yaml")
    result = infertuner.run_study(study)
    infertuner.table(result)
"""

from infertuner.experiments.report import figure, table
from infertuner.experiments.runs import run_arm, run_study
from infertuner.outcomes.frames import requests_frame
from infertuner.outcomes.metrics import summarise
from infertuner.scenario.study import load_study, study_from
from infertuner.version import __version__

__all__ = [
    "__version__",
    "figure",
    "load_study",
    "requests_frame",
    "run_arm",
    "run_study",
    "study_from",
    "summarise",
    "table",
]
