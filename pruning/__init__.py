"""Whom to believe and when to stop: pure policies, without engines, graphs or I/O."""

from pruning.compose import Capped, Riding
from pruning.conformal import (
    AdaptiveLevel,
    Bank,
    QuantileTracker,
    level_for_budget,
    p_value,
    spread,
)
from pruning.consensus import (
    AdaptiveConsistency,
    AsyncConsensus,
    EarlyStopping,
    HardCap,
    SelfConsistency,
    certainty,
)
from pruning.controller import ConformalController
from pruning.decisions import (
    Accept,
    AskJudge,
    Decision,
    Decisions,
    Escalate,
    Finish,
    Launch,
    Pause,
    Probe,
    Resample,
    Resume,
    Stop,
)
from pruning.deepconf import DeepConf, DeepConfOffline
from pruning.deepprune import DeepPrune
from pruning.evaluation import Compared, Evaluator, Gain, Outcome, Summary, bootstrap, gain
from pruning.judge.pairs import Pair, agree, pairs
from pruning.judge.prefixes import Cut
from pruning.judge.ruling import Hearing, Judge, Ruling, hearing
from pruning.names import POLICIES
from pruning.names import parse as parse_policy
from pruning.observations import (
    Began,
    Ended,
    Generated,
    Judged,
    Observation,
    Probed,
    Reached,
    StepScored,
)
from pruning.parallel_probe import ParallelProbe
from pruning.policy import Decided, Policy, PolicyError, Session
from pruning.probing import AnswerConvergence, ProbedConsensus
from pruning.replay import Replay, Replayed
from pruning.saturation import BetaBinomial, Saturation, fit
from pruning.traces import (
    Question,
    Scored,
    Trace,
    TracesError,
    parse_question,
    read_questions,
)
from pruning.verified import BestOfN
from pruning.voting import Tally, majority, weigh

__all__ = [
    "POLICIES",
    "Accept",
    "AdaptiveConsistency",
    "AdaptiveLevel",
    "AnswerConvergence",
    "AskJudge",
    "AsyncConsensus",
    "Bank",
    "Began",
    "BestOfN",
    "BetaBinomial",
    "Capped",
    "Compared",
    "ConformalController",
    "Cut",
    "Decided",
    "Decision",
    "Decisions",
    "DeepConf",
    "DeepConfOffline",
    "DeepPrune",
    "EarlyStopping",
    "Ended",
    "Escalate",
    "Evaluator",
    "Finish",
    "Gain",
    "Generated",
    "HardCap",
    "Hearing",
    "Judge",
    "Judged",
    "Launch",
    "Observation",
    "Outcome",
    "Pair",
    "ParallelProbe",
    "Pause",
    "Policy",
    "PolicyError",
    "Probe",
    "Probed",
    "ProbedConsensus",
    "QuantileTracker",
    "Question",
    "Reached",
    "Replay",
    "Replayed",
    "Resample",
    "Resume",
    "Riding",
    "Ruling",
    "Saturation",
    "Scored",
    "SelfConsistency",
    "Session",
    "StepScored",
    "Stop",
    "Summary",
    "Tally",
    "Trace",
    "TracesError",
    "agree",
    "bootstrap",
    "certainty",
    "fit",
    "gain",
    "hearing",
    "level_for_budget",
    "majority",
    "p_value",
    "pairs",
    "parse_policy",
    "parse_question",
    "read_questions",
    "spread",
    "weigh",
]
