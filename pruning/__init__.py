"""Whom to believe and when to stop: pure policies, without engines, graphs or I/O."""

from pruning.conformal.controllers import ConformalController
from pruning.conformal.p_values import (
    AdaptiveLevel,
    Bank,
    QuantileTracker,
    level_for_budget,
    p_value,
    spread,
)
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
from pruning.evaluation.replay import Replay, Replayed
from pruning.evaluation.statistics import (
    Compared,
    Evaluator,
    Gain,
    Outcome,
    Summary,
    bootstrap,
    gain,
)
from pruning.evaluation.traces import (
    Question,
    Scored,
    Trace,
    TracesError,
    parse_question,
    read_questions,
)
from pruning.judge.pairs import Pair, agree, pairs
from pruning.judge.prefixes import Cut
from pruning.judge.ruling import Hearing, Judge, Ruling, hearing
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
from pruning.policies.compose import Capped, Riding
from pruning.policies.consensus import (
    AdaptiveConsistency,
    AsyncConsensus,
    EarlyStopping,
    HardCap,
    SelfConsistency,
    certainty,
)
from pruning.policies.deepconf import DeepConf, DeepConfOffline
from pruning.policies.deepprune import DeepPrune
from pruning.policies.names import POLICIES
from pruning.policies.names import parse as parse_policy
from pruning.policies.parallel_probe import ParallelProbe
from pruning.policies.probing import AnswerConvergence, ProbedConsensus
from pruning.policies.saturation import BetaBinomial, Saturation, fit
from pruning.policies.verified import BestOfN
from pruning.policies.votes import Tally, majority, weigh
from pruning.policy import Decided, Policy, PolicyError, Session

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
