"""The names that clients pick: ``MODEL``, ``MODEL/strategy``, ``MODEL/strategy:n=8,policy=…``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from orchestrator.errors import InvalidValue, UnknownName
from protocol.http import ModelVariant, ReasoningRequest, unknown_variant
from pruning import Policy
from reasoning.models.catalog import find, shipped
from reasoning.policies import POLICIES, WITH, parse_policy
from reasoning.registry import nearest
from reasoning.solver import Reasoner
from reasoning.strategies import STRATEGIES, SelfConsistency, Single, Strategy
from reasoning.strategies.support import support

WIDTHS = {"none": 1, "minimal": 1, "low": 4, "medium": 8, "high": 16, "xhigh": 32}
"""How many samples each ``reasoning_effort`` stands for."""
FOREIGN = ("judge=", "calibration=", "scorer=")
"""Settings that load files or ask other servers, which no client may name."""


@dataclass(frozen=True, kw_only=True)
class VariantTarget:
    """What a name stands for.

    Attributes:
        strategy: None chooses by the problem, or leaves it to the policy.
        n: The strategy's n, where the problem chooses the strategy.
    """

    reasoner: Reasoner
    strategy: Strategy | None = None
    policy: Policy[Any] | None = None
    n: int | None = None

    @property
    def width(self) -> int:
        """How many branches run at once, as far as the name says it."""
        if self.policy is not None:
            return int(getattr(self.policy, _count(self.policy)))
        return self.strategy.n if self.elastic and self.strategy is not None else 1

    @property
    def elastic(self) -> bool:
        """Whether fewer branches will do."""
        return self.policy is not None or (self.strategy is not None and self.strategy.steerable)

    def within(self, width: int | None) -> VariantTarget:
        """The same with at most ``width`` branches, where it is elastic."""
        if width is None or not self.elastic or self.width <= width:
            return self
        if self.policy is not None:
            return replace(self, policy=_resized(self.policy, width))
        assert self.strategy is not None
        return replace(self, strategy=replace(self.strategy, n=width))


class VariantNames:
    """All variants of some models, and what a request's name stands for."""

    def __init__(self, reasoners: Sequence[Reasoner], default: str | None = None) -> None:
        """``default`` is what a model's bare name stands for, as ``self-consistency:n=8``.

        Raises:
            InvalidValue: two models have the same name, or there is no such default.
        """
        self._reasoners = {reasoner.model.name: reasoner for reasoner in reasoners}
        if len(self._reasoners) < len(reasoners):
            raise InvalidValue("model: two have the same name; rename a folder")
        self._default = default
        self.listed = tuple(one for reasoner in reasoners for one in self._variants(reasoner))
        if default is not None:
            for name in self._reasoners:
                self._parse(name, default)

    def target(self, request: ReasoningRequest) -> VariantTarget:
        """What is to answer a request: by its name first, and then by its options.

        Raises:
            UnknownName: there is no such model, strategy or policy.
            InvalidValue: a setting does not exist or does not fit.
        """
        reasoner, given = self._split(request.variant)
        found = self._parse(reasoner.model.name, given or self._default or "")
        if request.plain:
            return VariantTarget(reasoner=found.reasoner, strategy=Single())
        options = request.options
        if options.policy is not None:
            found = replace(found, policy=_policy(options.policy))
        wanted = options.n
        bare = found.strategy is None and found.policy is None
        if wanted is None and options.effort is not None and bare:
            wanted = None if reasoner.model.dialect.trained else WIDTHS[options.effort]
            if wanted == 1:
                return VariantTarget(reasoner=reasoner, strategy=Single())
        if options.answers > 1:
            found, wanted = _several(found, max(options.answers, wanted or 0))
        return _plain_unless_asked(_sized(found, wanted))

    def _split(self, name: str) -> tuple[Reasoner, str]:
        """The model that a name begins with, and what stands behind it."""
        for model in sorted(self._reasoners, key=len, reverse=True):
            if name == model or name.startswith((f"{model}/", f"{model}:")):
                return self._reasoners[model], name[len(model) :].lstrip("/")
        raise unknown_variant(name, self.listed)

    def _parse(self, model: str, given: str) -> VariantTarget:
        """What ``strategy:n=8,key=value,policy=…`` stands for on a model."""
        reasoner = self._reasoners[model]
        name, _, settings = given.partition(":")
        pairs, _, policy = f",{settings}".partition(",policy=")
        settings = pairs.lstrip(",")
        if name and name not in STRATEGIES.names:
            own = [variant for variant in self.listed if variant.id.startswith(f"{model}/")]
            raise unknown_variant(f"{model}/{name}", own, f"{model} has no strategy {name!r}")
        found = VariantTarget(reasoner=reasoner, policy=_policy(policy) if policy else None)
        _check_foreign("model", settings)
        if name and (found.policy is None or name != SelfConsistency.name):
            return replace(found, strategy=STRATEGIES.make(f"{name}:{settings}".rstrip(":")))
        return _sized(found, _whole(settings))

    def _variants(self, reasoner: Reasoner) -> Iterator[ModelVariant]:
        """The model itself, which chooses by the problem, and every strategy that it can do."""
        model = reasoner.model
        created = int(find(model.name).stat().st_mtime) if model.name in shipped() else 0
        yield ModelVariant(
            id=model.name,
            title=model.name,
            description=self._default or _bare(model.dialect.trained),
            created=created,
        )
        for name in STRATEGIES.names:
            kind = STRATEGIES.make(name)
            found = support(kind, model, draft=reasoner.draft)
            if found.runs and not found.scored:  # clients name no scorers, and ask what they like
                words = [_sentence(kind), *(f"Emulated here: {o}." for o in found.emulations)]
                yield ModelVariant(
                    id=f"{model.name}/{name}",
                    title=f"{name} on {model.name}",
                    description=" ".join(words),
                    created=created,
                )


def _bare(trained: bool) -> str:
    """What a bare name does."""
    return "The best strategy for the problem." if trained else "One sample, as the model is."


def _count(policy: Policy[Any]) -> str:
    """The parameter of a policy that says how many traces run at once."""
    names = {one.name for one in fields(policy)}  # type: ignore[arg-type]  # all are dataclasses
    return "k" if policy.name == "async" or "n" not in names else "n"


def _resized(policy: Any, n: int) -> Any:
    """A policy of ``n`` traces."""
    return replace(policy, **{_count(policy): n})


def _policy(text: str) -> Policy[Any]:
    """The policy that a client names.

    Raises:
        UnknownName: there is none of this name; classes and files are not looked for.
        InvalidValue: a setting does not fit, or would load a file.
    """
    for part in text.split(WITH):
        name = part.partition(":")[0]
        if name not in POLICIES.names:
            near = nearest(name, POLICIES.names)
            raise UnknownName(
                f"policy: {name!r} does not exist; {near}choose {', '.join(POLICIES.names)}"
            )
    _check_foreign("policy", text)
    return parse_policy(text)


def _check_foreign(field: str, text: str) -> None:
    """Refuse what a client may not name.

    Raises:
        InvalidValue: a setting would load a file or ask another server.
    """
    if any(one in text for one in FOREIGN):
        raise InvalidValue(
            f"{field}: judges, calibrations and scorers are the server's own; leave them out"
        )


def _whole(settings: str) -> int | None:
    """The n in ``n=8``, where nothing else stands.

    Raises:
        InvalidValue: something else does.
    """
    if not settings:
        return None
    key, _, value = settings.partition("=")
    if key != "n" or not (value.isdecimal() and 0 < int(value[:6]) <= Strategy.most_n):
        raise InvalidValue(
            f"model: {settings!r} does not fit here; give n=1 to n={Strategy.most_n}, policy=…"
        )
    return int(value)


def _sized(found: VariantTarget, n: int | None) -> VariantTarget:
    """The same with ``n`` branches, whatever that means to it."""
    if n is None:
        return found
    if found.policy is not None:
        return replace(found, policy=_resized(found.policy, n))
    if found.strategy is None:
        if found.reasoner.model.dialect.trained:
            return replace(found, n=n)
        return replace(found, strategy=Single() if n == 1 else SelfConsistency(n=n))
    if n > type(found.strategy).most_n:
        raise InvalidValue(f"n: {n} is out of range; {found.strategy.name} takes fewer")
    return replace(found, strategy=replace(found.strategy, n=n))


def _plain_unless_asked(found: VariantTarget) -> VariantTarget:
    """One sample where a chat model's bare name stands alone, as from the server behind."""
    bare = found.strategy is None and found.policy is None
    chats = not found.reasoner.model.dialect.trained
    return replace(found, strategy=Single()) if bare and chats else found


def _several(found: VariantTarget, n: int) -> tuple[VariantTarget, int]:
    """What gives several answers: samples, all of which end.

    Raises:
        InvalidValue: this variant gives one answer.
    """
    if found.policy is None and found.strategy is not None and not found.strategy.steerable:
        raise InvalidValue(
            f"n: {found.strategy.name} gives one answer; leave it out, or ask self-consistency"
        )
    n = max(n, found.width)
    return replace(found, strategy=None, policy=_policy(f"sc:n={n}")), n


def _sentence(kind: Strategy) -> str:
    """The first sentence of a strategy's docstring, without its markup."""
    paragraph = (kind.__doc__ or kind.name).strip().partition("\n\n")[0]
    return " ".join(paragraph.replace("``", "").split())
