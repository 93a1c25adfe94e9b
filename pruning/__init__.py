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
    Comparison,
    Evaluator,
    Gain,
    QuestionOutcome,
    Summary,
    bootstrap,
    gain,
)
from pruning.evaluation.traces import (
    Question,
    ScoredStep,
    Trace,
    TracesError,
    parse_question,
    read_questions,
)
from pruning.judge.pairs import Pair, agree, pairs
from pruning.judge.prefixes import Cut
from pruning.judge.session import Judge, Judgement, JudgeSession, open_judge
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
from pruning.policies import POLICIES
from pruning.policies.ballots import Ballots, VotingPolicy
from pruning.policies.compose import Capped, Combined
from pruning.policies.consensus import (
    AdaptiveConsistency,
    AsyncConsensus,
    EarlyStopping,
    FixedSamples,
    HardCap,
    certainty,
)
from pruning.policies.deepconf import DeepConf, DeepConfOffline
from pruning.policies.deepprune import DeepPrune
from pruning.policies.names import parse as parse_policy
from pruning.policies.parallel_probe import ParallelProbe
from pruning.policies.probing import AnswerConvergence, ProbedConsensus
from pruning.policies.saturation import BetaBinomial, Saturation, fit
from pruning.policies.verified import BestOfN
from pruning.policies.votes import Tally, majority, weigh
from pruning.policy import LoggedDecision, Policy, PolicyError, PolicySession

__all__ = [
    "POLICIES",
    "Accept",
    "AdaptiveConsistency",
    "AdaptiveLevel",
    "AnswerConvergence",
    "AskJudge",
    "AsyncConsensus",
    "Ballots",
    "Bank",
    "Began",
    "BestOfN",
    "BetaBinomial",
    "Capped",
    "Combined",
    "Comparison",
    "ConformalController",
    "Cut",
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
    "FixedSamples",
    "Gain",
    "Generated",
    "HardCap",
    "Judge",
    "JudgeSession",
    "Judged",
    "Judgement",
    "Launch",
    "LoggedDecision",
    "Observation",
    "Pair",
    "ParallelProbe",
    "Pause",
    "Policy",
    "PolicyError",
    "PolicySession",
    "Probe",
    "Probed",
    "ProbedConsensus",
    "QuantileTracker",
    "Question",
    "QuestionOutcome",
    "Reached",
    "Replay",
    "Replayed",
    "Resample",
    "Resume",
    "Saturation",
    "ScoredStep",
    "StepScored",
    "Stop",
    "Summary",
    "Tally",
    "Trace",
    "TracesError",
    "VotingPolicy",
    "agree",
    "bootstrap",
    "certainty",
    "fit",
    "gain",
    "level_for_budget",
    "majority",
    "open_judge",
    "p_value",
    "pairs",
    "parse_policy",
    "parse_question",
    "read_questions",
    "spread",
    "weigh",
]
