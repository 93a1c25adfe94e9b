"""Whom to believe and when to stop: pure policies, without engines, graphs or I/O."""

from types import ModuleType as _ModuleType

from pruning.allocation import Allocation as Allocation
from pruning.allocation import Allocator as Allocator
from pruning.allocation import QuestionState as QuestionState
from pruning.conformal.controllers import ConformalController as ConformalController
from pruning.conformal.p_values import AdaptiveLevel as AdaptiveLevel
from pruning.conformal.p_values import Bank as Bank
from pruning.conformal.p_values import QuantileTracker as QuantileTracker
from pruning.conformal.p_values import level_for_budget as level_for_budget
from pruning.conformal.p_values import p_value as p_value
from pruning.conformal.p_values import spread as spread
from pruning.decisions import Accept as Accept
from pruning.decisions import AskJudge as AskJudge
from pruning.decisions import Decision as Decision
from pruning.decisions import Decisions as Decisions
from pruning.decisions import Escalate as Escalate
from pruning.decisions import Finish as Finish
from pruning.decisions import Launch as Launch
from pruning.decisions import Pause as Pause
from pruning.decisions import Probe as Probe
from pruning.decisions import Resample as Resample
from pruning.decisions import Resume as Resume
from pruning.decisions import Stop as Stop
from pruning.evaluation.allocating import Allocated as Allocated
from pruning.evaluation.allocating import allocate as allocate
from pruning.evaluation.baseline import BaselineCurve as BaselineCurve
from pruning.evaluation.evaluator import Comparison as Comparison
from pruning.evaluation.evaluator import Evaluator as Evaluator
from pruning.evaluation.intervals import Interval as Interval
from pruning.evaluation.intervals import difference_interval as difference_interval
from pruning.evaluation.intervals import mean_interval as mean_interval
from pruning.evaluation.intervals import questions_needed as questions_needed
from pruning.evaluation.intervals import share_interval as share_interval
from pruning.evaluation.replay import Replay as Replay
from pruning.evaluation.replay import Replayed as Replayed
from pruning.evaluation.statistics import Gain as Gain
from pruning.evaluation.statistics import QuestionOutcome as QuestionOutcome
from pruning.evaluation.statistics import Summary as Summary
from pruning.evaluation.statistics import gain as gain
from pruning.evaluation.statistics import summarise as summarise
from pruning.evaluation.traces import Question as Question
from pruning.evaluation.traces import ScoredStep as ScoredStep
from pruning.evaluation.traces import Trace as Trace
from pruning.evaluation.traces import TracesError as TracesError
from pruning.evaluation.traces import answer_texts as answer_texts
from pruning.evaluation.traces import estimated_tokens as estimated_tokens
from pruning.evaluation.traces import json_lines as json_lines
from pruning.evaluation.traces import parse_question as parse_question
from pruning.evaluation.traces import read_questions as read_questions
from pruning.evaluation.traces import rescored as rescored
from pruning.judge.pairs import Pair as Pair
from pruning.judge.pairs import agree as agree
from pruning.judge.pairs import pairs as pairs
from pruning.judge.prefixes import Cut as Cut
from pruning.judge.session import Judge as Judge
from pruning.judge.session import Judgement as Judgement
from pruning.judge.session import JudgeSession as JudgeSession
from pruning.judge.session import open_judge as open_judge
from pruning.observations import Began as Began
from pruning.observations import Ended as Ended
from pruning.observations import Generated as Generated
from pruning.observations import Judged as Judged
from pruning.observations import Observation as Observation
from pruning.observations import Probed as Probed
from pruning.observations import Reached as Reached
from pruning.observations import StepScored as StepScored
from pruning.policies import POLICIES as POLICIES
from pruning.policies.ballots import Ballots as Ballots
from pruning.policies.ballots import VotingPolicy as VotingPolicy
from pruning.policies.compose import Capped as Capped
from pruning.policies.compose import Combined as Combined
from pruning.policies.compose import MoreOnTie as MoreOnTie
from pruning.policies.consensus import AdaptiveConsistency as AdaptiveConsistency
from pruning.policies.consensus import AsyncConsensus as AsyncConsensus
from pruning.policies.consensus import EarlyStopping as EarlyStopping
from pruning.policies.consensus import FixedSamples as FixedSamples
from pruning.policies.consensus import HardCap as HardCap
from pruning.policies.consensus import certainty as certainty
from pruning.policies.deepconf import DeepConf as DeepConf
from pruning.policies.deepconf import DeepConfOffline as DeepConfOffline
from pruning.policies.deepprune import DeepPrune as DeepPrune
from pruning.policies.parallel_probe import ParallelProbe as ParallelProbe
from pruning.policies.probing import AnswerConvergence as AnswerConvergence
from pruning.policies.probing import ProbedConsensus as ProbedConsensus
from pruning.policies.rounds import MajorityCurve as MajorityCurve
from pruning.policies.rounds import VotingRounds as VotingRounds
from pruning.policies.rounds import fit_majority as fit_majority
from pruning.policies.rounds import fit_theta as fit_theta
from pruning.policies.saturation import BetaBinomial as BetaBinomial
from pruning.policies.saturation import Saturation as Saturation
from pruning.policies.saturation import fit as fit
from pruning.policies.scored import BestOfN as BestOfN
from pruning.policies.scored import HighestScore as HighestScore
from pruning.policies.scored import Scorer as Scorer
from pruning.policies.scored import WeightedVote as WeightedVote
from pruning.policies.votes import Tally as Tally
from pruning.policies.votes import majority as majority
from pruning.policies.votes import weigh as weigh
from pruning.policy import LoggedDecision as LoggedDecision
from pruning.policy import Policy as Policy
from pruning.policy import PolicyError as PolicyError
from pruning.policy import PolicySession as PolicySession

__all__ = [  # what is imported above; written once
    name
    for name, value in globals().items()
    if not (name.startswith("_") or isinstance(value, _ModuleType))
]


def __dir__() -> list[str]:
    return sorted(__all__)
