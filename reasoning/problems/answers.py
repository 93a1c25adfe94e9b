r"""Answers in what a model wrote: one reading for every dialect, strategy, benchmark and server.

Only what the model wrote after its thoughts counts.  The last complete box comes first
(``\boxed{42}``, or several that one sentence joins), then a stated answer ("the final answer is
42", ``#### 42``), then the final text itself where the question is open.  A number that merely
stands in a text is never an answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from orchestrator.errors import InvalidValue
from reasoning.problems.equality import canonical

Source = Literal["box", "cue", "text", "pattern", "json", "calls", "none"]
"""Where an answer stood: in a box, after words that announce it, as the final text, ..."""

FormatKind = Literal["auto", "boxed", "text", "json", "pattern"]


@dataclass(frozen=True, kw_only=True)
class AnswerFormat:
    """The form in which an answer is expected.

    Attributes:
        kind: ``auto`` takes what stands first in the order of this module; the others take only
            their own form: a box, the final text, a JSON value, or what a regular expression
            matches.
        pattern: The regular expression of the kind ``pattern``; its first group is the answer, or
            all of it where there is no group.
    """

    kind: FormatKind = "auto"
    pattern: str = ""

    @classmethod
    def parse(cls, given: str) -> AnswerFormat:
        """The format that is written ``auto``, ``boxed``, ``text``, ``json`` or ``/regex/``.

        Raises:
            InvalidValue: it is none of these, or no regular expression.
        """
        if len(given) > 2 and given[0] == given[-1] == "/":
            try:
                re.compile(given[1:-1])
            except re.error as error:
                raise InvalidValue(f"answer: {given[:60]} is no regular expression: {error}") from (
                    error
                )
            return cls(kind="pattern", pattern=given[1:-1])
        match given:
            case "auto" | "boxed" | "text" | "json":
                return cls(kind=given)
        raise InvalidValue(
            f"answer: {given[:60]!r} is no format; give auto, boxed, text, json or /regex/"
        )

    def __str__(self) -> str:
        return f"/{self.pattern}/" if self.kind == "pattern" else self.kind


AUTO = AnswerFormat()


@dataclass(frozen=True, kw_only=True)
class FoundAnswer:
    """An answer and where it came from.

    Attributes:
        answer: As it was written, without what surrounds it; None where there is none.
        text: All that was written after the thoughts.
        complete: Whether the text came to its own end.
    """

    answer: str | None
    source: Source
    text: str
    complete: bool = True


def read_answer(
    text: str, format: AnswerFormat = AUTO, *, question: str = "", finished: bool = True
) -> FoundAnswer:
    """The answer that a model's text gives.

    Args:
        text: What the model itself wrote.
        format: The form in which the answer is expected.
        question: What was asked; it tells whether a whole text can be the answer.
        finished: Whether the text came to its own end.  A cut one gives only what stands complete
            in it.
    """
    final = after_thoughts(text)
    answer, source = _READERS[format.kind](_Text(final, finished, question, format.pattern))
    if answer is None:
        source = "none"
    elif _offers_choices(question) and (chosen := _CHOSEN.fullmatch(answer)):
        answer = chosen[1]
    return FoundAnswer(answer=answer, source=source, text=final.strip(), complete=finished)


def boxed(text: str) -> str | None:
    """The last boxed answer after the thoughts, or those that one sentence joins."""
    return read_answer(text, AnswerFormat(kind="boxed"), finished=False).answer


# ---- thoughts ------------------------------------------------------------------------------------

_THOUGHTS = re.compile(
    r"<(?P<a>/?)(?:think|thinking|thoughts?|reasoning|seed:think)>"
    r"|\[(?P<b>/?)THINK\]|◁(?P<c>/?)think▷|<\|(?P<d>begin|end)_of_thought\|>",
    re.I,
)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]*<\|message\|>")
_END = re.compile(r"(?:<\|[\w ]{1,40}\|>|</s>|<eos>)\Z")


def after_thoughts(text: str) -> str:
    """What stands after the thoughts; empty where they do not end."""
    channels = list(_CHANNEL.finditer(text))
    if channels:
        text = text[channels[-1].end() :] if channels[-1][1] == "final" else ""
    kept: list[str] = []
    start, inside = 0, False
    for mark in _THOUGHTS.finditer(text):
        closes = "/" in (mark["a"] or mark["b"] or mark["c"] or "") or mark["d"] == "end"
        if closes and not inside:
            kept.clear()  # the prompt had opened the thoughts
        elif not inside:
            kept.append(text[start : mark.start()])
        inside, start = not closes, mark.end()
    if not inside:
        kept.append(text[start:])
    final = "".join(kept).lstrip()
    while (end := _END.search(final, max(0, len(final) - 50))) is not None:
        final = final[: end.start()].rstrip()
    return final


# ---- boxes ---------------------------------------------------------------------------------------

_BRACES = re.compile(r"(?:\\|\x08)(?:b?oxed|fbox|framebox)\s*\{|\\.|[{}]", re.S)
_BARE = re.compile(r"\\(?:boxed|fbox)(?:\s{1,4}|(?=\d))([-+−]?[\w.,/]*\w)")
_JOINED = re.compile(
    r"[\s$*]*(?:[,;&]|\b(?:and|or|und|oder|et|ou|y|o|e)\b|и|или|和|或|と|,\s*(?:and|or))?[\s$*]*"
    r"(?:\(?(?:\d{1,2}|[a-z])[).:]\s*)?[\s$]*(?:[a-zA-Z](?:_\w)?\s*=\s*)?[\s$]*"
)


@dataclass(frozen=True)
class _Span:
    start: int
    end: int
    content: str


def _boxes(text: str) -> list[_Span]:
    """Every complete box with an answer in it, in order, without those inside others."""
    found: list[_Span] = []
    opened: list[tuple[int, int] | None] = []
    for brace in _BRACES.finditer(text):
        if brace[0] == "}":
            box = opened.pop() if opened else None
            if box is not None:
                while found and found[-1].start > box[0]:
                    found.pop()
                found.append(_Span(box[0], brace.end(), text[box[1] : brace.start()].strip()))
        elif brace[0] == "{":
            opened.append(None)
        elif brace[0].endswith("{") and len(brace[0]) > 2:
            opened.append((brace.start(), brace.end()))
    bare = [_Span(m.start(), m.end(), m[1]) for m in _BARE.finditer(text)]
    spans = sorted(found + bare, key=lambda span: span.start) if bare else found
    return [span for span in spans if not is_placeholder(span.content)]


def _last_boxes(text: str, question: str = "") -> _Span | None:
    """The last box, or the several that one sentence joins, or one for each part of a question."""
    boxes = _boxes(text)
    if not boxes:
        return None
    if len(boxes) > 1 and len(boxes) == _parts(question):
        every = ", ".join(box.content for box in boxes)
        return _Span(boxes[0].start, boxes[-1].end, every)
    group = [boxes[-1]]
    for box in reversed(boxes[:-1][-_MOST_CUES:]):
        between = text[box.end : group[0].start]
        if len(between) > 40 or not between.strip(" $\n") or not _JOINED.fullmatch(between):
            break
        group.insert(0, box)
    different: dict[str | None, str] = {}
    for box in group:
        different.setdefault(canonical(box.content), box.content)
    numbered = len(group) > 1 and re.search(r"\d[).:]\s*", text[group[0].end : group[1].start])
    contents = [box.content for box in group] if numbered else list(different.values())
    return _Span(group[0].start, group[-1].end, ", ".join(contents))


_PART = re.compile(r"(?:^|[\s;:,])\(?(\d{1,2}|[a-h])\)\s")


def _parts(question: str) -> int:
    """How many parts a question numbers, as ``1) ... 2) ...`` or ``(a) ... (b) ...``."""
    labels = _PART.findall(question)
    counted = [str(n) for n in range(1, len(labels) + 1)]
    return len(labels) if labels in (counted, list("abcdefgh")[: len(labels)]) else 0


_PLACEHOLDER = re.compile(
    r"(?:\\text\s*\{|\\ldots|\\dots|\\cdots|\\square|\\quad|[\s.…?_<>\[\](){}*`$#\\-])*"
    r"(?:(?:insert|put|write|enter)\s+)?(?:(?:your|the|my|our|final|correct|numerical)\s+)*"
    r"(?:answer|solution|result)?(?:\s+(?:here|goes here))?"
    r"(?:\\ldots|\\dots|[\s.…?_<>\[\](){}*`$#])*",
    re.I,
)


def is_placeholder(answer: str) -> bool:
    r"""Whether it only marks where an answer belongs, as ``...`` or ``your answer``."""
    return len(answer) < 80 and _PLACEHOLDER.fullmatch(answer) is not None


# ---- stated answers ------------------------------------------------------------------------------

_IS = (
    r"\s*(?:\*\*|__)?\s*(?:[:：=]|is\b(?!\s+not\b)|are\b|would be\b|should be\b|must be\b)"
    r"(?:\s*,?\s*(?:therefore|thus|then|hence|indeed|simply|just|actually)\b,?)?"
)
_CUE = re.compile(
    r"^\#{4}(?!\#)[ \t]*(?P<hashes>)"
    rf"|(?<![^\W_])(?P<final>(?:final|correct)\s+)?answers?(?:\s+(?:to|for)\s[^\n:.?]{{1,80}}?)?{_IS}"
    rf"|\b(?P<option>(?:final|correct|right|best)\s+)(?:option|choice|result|value|statement){_IS}"
    r"|(?P<tag><answer>)"
    r"|^[#*_ \t]*(?:the\s+)?(?:final\s+)?answer[*_ \t]*(?=\n)"
    r"|\b(?:respuesta|resposta|risposta|r[ée]ponse|antwort|antwoord|svar(?:et)?|vastaus"
    r"|cevap|yanıt|odpowied[źz]|odpov[ěe][dď]|odgovor|válasz|răspuns(?:ul)?|vastus|atsakymas|atbilde"
    r"|ответ|відповідь|отговор|одговор|απάντηση|jawaban(?:nya)?|jawapan|sagot|jibu|đáp án|đáp số)"
    r"(?:\s+(?:final|correcta?|finale|corretta))?"
    r"\s*(?:\*\*)?\s*(?:[:：=]|[—–]\s|(?:es|é|è|est|ist|lautet|is|är|er|adalah|ialah|là|on|je|este|είναι)\b)"
    r"|(?:答案|答え|答|정답|답|الإجابة|الجواب|پاسخ|جواب|उत्तर|উত্তর|คำตอบ|תשובה|התשובה)\s*(?:\*\*)?\s*(?:[:：=]|是|为|為|は|은|는|هي|هو|היא|คือ)",
    re.I | re.M,
)
_MOST_CUES = 50
_LONGEST = 2_000
"""Characters of a line after a cue that are looked at."""

_DOUBTED = re.compile(
    r"\b(?:if|suppose|supposing|assume|assuming|whether|unless|guess|check(?: that| if)?|say"
    r"|maybe|perhaps|possible|wrong|incorrect|previous|your)\b[^.,;:\n]{0,40}\Z"
    r"|\b(?:his|her|their|\w{2,20}['’]s)\s+\Z",
    re.I,
)
_LEAD = re.compile(r"[ \t:：=>]*(?:\*\*|__(?=\s))?[ \t:：]*(?:\r?\n[ \t]*){0,2}")
_ENCLOSED = re.compile(
    r"\$\$(.{1,500}?)\$\$|\\\[(.{1,500}?)\\\]|\\\((.{1,300}?)\\\)"
    r"|\$(?!\s)([^$\n]{1,300})(?<!\s)\$(?!\d)|\*\*([^*\n]{1,300})\*\*|(?<!`)`([^`\n]{1,300})`(?!`)"
    r"|\"([^\"\n]{1,300})\"|“([^”\n]{1,300})”|「([^」\n]{1,300})」",
    re.S,
)
_MORE = re.compile(r"\s*(?:,|;|\band\b|\bor\b)\s*(?:\$|\\\()")
_SENTENCE_END = re.compile(
    r"(?<!\bDr)(?<!\bMr)(?<!\bMrs)(?<!\bSt)(?<!\bvs)(?<!\b[F-Z])(?:\.|(?<=[^\W\d])!)(?=[\s\"”)*]|\Z)|[。！]"
    r"|\?(?=[\s\"”)*]|\Z)"
    r"|(?=\s*[（])|\s(?=\([^\W\d]{3,})"
    r"|,?\s+(?=(?:because|since|which means|as (?:we|the|it)|so that)\b)"
    r"|,\s(?=(?:of|which|where|but|not|so|as|when)\s)",
)
_NO_VALUE = re.compile(
    r"(?:correct|incorrect|wrong|as follows|given|shown|above|below|obtained|found|not|clear"
    r"|simple|easy|obvious|straightforward"
    r"|based|also|then|therefore|probably|the same|in (?:the|a) box|\\boxed|in \\boxed"
    r"|as (?:shown|stated|above))\b",
    re.I,
)
_NUMERIC = re.compile(
    r"[-+−–±~≈(\[{]*\s*(?:\\?[$€£¥₹]|\\pounds)?\s*[-−–]?\s*(?:\.?\d|\\[dtc]?frac|\\sqrt|\\pi|π|∞)"
)
_TRAILING = re.compile(r"(?:\s*(?:です|だ|である|입니다|이다|です。))?[\s.,;:*。]*\Z")
_CODE = re.compile(r"^```([\w+-]*)[^\n]*\n(.*?)^```", re.S | re.M)


def _stated(text: str, after: int, finished: bool) -> str | None:
    """The answer that begins after a cue; None where there is none, or it may go on."""
    lead = _LEAD.match(text, after)
    at = after if lead is None else lead.end()
    if lead is not None and re.search(r"(?:\*\*|__)\s*\Z", lead[0]) and text[at : at + 1].strip():
        bold = text.rfind("**", after, at)
        begin = text.rfind("\n", 0, after) + 1
        if bold >= 0 and text.count("**", begin, bold) % 2 == 0:
            at = bold  # it opens what is bold
    if (block := _CODE.match(text, at)) is not None:
        return _tidy(block[2])
    enclosed = _ENCLOSED.match(text, at)
    if enclosed is not None and not _MORE.match(text, enclosed.end()):
        return _tidy(next(filter(None, enclosed.groups())))
    newline = text.find("\n", at, at + _LONGEST)
    line = text[at : newline if newline >= 0 else at + _LONGEST]
    end = _SENTENCE_END.search(line, 1)
    if end is not None and end[0] == "?":
        return None
    if end is not None and end.end() == len(line) and newline < 0 and not finished:
        return None  # the full stop may be a decimal point
    if end is None and newline < 0 and not finished:
        return None
    value = line if end is None else line[: end.start()]
    return _tidy(value.partition("**")[0] if value.count("**") % 2 else value.replace("**", ""))


def _tagged(text: str, after: int) -> str | None:
    """What stands before ``</answer>``."""
    end = text.find("</answer>", after, after + _LONGEST)
    return None if end < 0 else _tidy(text[after:end])


def _tidy(value: str) -> str | None:
    value = value.strip()
    if is_placeholder(value) or _NO_VALUE.match(value):
        return None
    value = _TRAILING.sub("", value.lstrip("*") if value.count("*") == 2 else value)
    inner = _ENCLOSED.fullmatch(value)
    if inner is not None:
        value = next(filter(None, inner.groups())).strip()
    return None if is_placeholder(value) else value


def _last_stated(text: str, finished: bool, after: int) -> str | None:
    """The last stated answer; one after a box must be plain, for the box is explicit."""
    prose = _CODE.sub(lambda block: " " * len(block[0]), text) if "```" in text else text
    for cue in reversed(list(_CUE.finditer(prose))[-_MOST_CUES:]):
        if cue.start() < after or _DOUBTED.search(prose, max(0, cue.start() - 60), cue.start()):
            continue
        value = _tagged(text, cue.end()) if cue["tag"] else _stated(text, cue.end(), finished)
        if value is None or (cue["hashes"] is not None and not _ends_by_hashes(value)):
            continue
        if after and not (cue["final"] or cue["option"] or cue["tag"] or _is_value(value)):
            continue
        return value
    return None


def _ends_by_hashes(value: str) -> bool:
    """Whether what stands after ``####`` is an answer and not a heading."""
    if re.match(r"\d{1,2}[.)]\s+[^\W\d]|(?:step|part|case)\b", value, re.I):
        return False
    return _NUMERIC.match(value) is not None or len(value.split()) <= 3


def _bold(text: str) -> str | None:
    """What the last line has in bold letters, where that line or its only value is bold."""
    line = text.rstrip().rpartition("\n")[2][:_LONGEST].strip()
    whole = re.fullmatch(r"\*\*([^*]{1,80})\*\*\.?", line)
    if whole is not None:
        return None if whole[1].rstrip().endswith(":") else _tidy(whole[1])
    found = re.findall(r"\*\*([^*]{1,80})\*\*", line)
    return _tidy(found[0]) if len(found) == 1 and _NUMERIC.match(found[0]) else None


# ---- the final text ------------------------------------------------------------------------------

_QUANTITY = re.compile(
    r"\bhow (?:many|much|far|long|old|tall|fast|wide|deep|high|heavy|often|large|big)\b"
    r"|\b(?:compute|calculate|evaluate|simplify|solve)\b|\bwhat (?:percentage|fraction|share)\b"
    r"|\bwhat number\b|\b(?:find|determine|what is) (?:the )?(?:value|sum|product|number|total|area"
    r"|probability|difference|remainder|smallest|largest|least|greatest|[a-z](?=[\s?.=]))\b"
    r"|\bwhat(?: is|'s) [-(\d]|\bcuánt|\bcombien\b|\bwie ?viele?\b|\bсколько\b"
    r"|多少|いくつ|いくら|몇",
    re.I,
)
_YES_NO = re.compile(
    r"(?:is|are|was|were|do|does|did|can|could|will|would|has|have|had|should|must)\b", re.I
)
_WRITE_CODE = re.compile(
    r"\b(?:write|implement|give|show|complete|fix)\b[^.?!\n]{0,60}"
    r"\b(?:code|function|program|script|class|method|query|regex|snippet)\b",
    re.I,
)
_OPTION = re.compile(r"(?:^|[\s,;])\(?([A-H])[).:]\s", re.M)
_CHOSEN = re.compile(r"[\s*]*(?:option |choice )?\(?([A-H])(?:\)|[.):]+\s.*|\*\*.*)?", re.S)
_WORD = re.compile(r"(yes|no)\b", re.I)


def _offers_choices(question: str) -> bool:
    return {"A", "B"} <= set(_OPTION.findall(question))


def _as_text(text: str, question: str) -> str | None:
    """The final text where it is the answer itself, in the form that the question asks for."""
    if _WRITE_CODE.search(question) and (blocks := _CODE.findall(text)):
        return str(blocks[-1][1]).rstrip("\n") or None
    if _offers_choices(question) and (chosen := _CHOSEN.fullmatch(text)):
        return chosen[1]
    if _YES_NO.match(question.strip()) and (word := _WORD.match(text)):
        return word[1]
    if _QUANTITY.search(question):
        lines = text.splitlines()
        if len(lines) > 1 and len(lines) == _parts(question) and all(map(_labelled, lines)):
            return text
        return _tidy(text) if _is_value(text.strip("*_`")) else None
    return None if is_placeholder(text) else text


def _labelled(line: str) -> bool:
    """Whether a line is the value of one part, ``1) 23`` or ``(a) 3+4 = 7``."""
    return re.fullmatch(r"\(?(?:\d{1,2}|[a-h])[).:]\s+[^A-Za-z]{1,100}", line.strip()) is not None


def _is_value(text: str) -> bool:
    """Whether the text is a value and its unit, and nothing else."""
    if len(text) > 100 or "\n" in text:
        return False
    value = _TRAILING.sub("", text)
    words = re.findall(r"(?<!\\)\b[^\W\d]{2,}", value)
    return _NUMERIC.match(value) is not None and len(words) <= 3


# ---- the formats ---------------------------------------------------------------------------------

_Found = tuple[str | None, Source]


@dataclass(frozen=True)
class _Text:
    text: str
    finished: bool
    question: str
    pattern: str


_NEXT_QUESTION = re.compile(
    r"\n[#* \t]{0,8}(?:question|q|problem|exercise|human|user|input)[ \t]*\d{0,3}[* \t]{0,4}:", re.I
)


def _auto(given: _Text) -> _Found:
    later = _NEXT_QUESTION.search(given.text)
    if later is not None:  # small models go on with a question of their own
        found = _marked(given.text[: later.start()], True, given.question)
        if found[0] is not None:
            return found
    found = _marked(given.text, given.finished, given.question)
    if found[0] is not None or not given.finished:
        return found
    return _as_text(given.text.strip(), given.question), "text"


def _marked(text: str, finished: bool, question: str) -> _Found:
    box = _last_boxes(text, question)
    stated = _last_stated(text, finished, 0 if box is None else box.end)
    if stated is not None:
        return stated, "cue"
    if box is not None:
        return box.content, "box"
    return (_bold(text) if finished else None), "cue"


def _boxed(given: _Text) -> _Found:
    box = _last_boxes(given.text, given.question)
    return (None if box is None else box.content), "box"


def _whole(given: _Text) -> _Found:
    whole = given.finished and not is_placeholder(given.text)
    return (given.text.strip() if whole else None), "text"


def _matched(given: _Text) -> _Found:
    answer = None
    for match in re.finditer(given.pattern, given.text):
        if given.finished or match.end() < len(given.text):
            answer = match[1] if match.re.groups else match[0]
    return (None if answer is None or is_placeholder(answer) else answer.strip()), "pattern"


def _json(given: _Text) -> _Found:
    last = None
    for value in _json_values(given.text):
        last = value
    if last is None:
        return None, "json"
    value = json.loads(last)
    for name in ("answer", "final_answer"):
        if isinstance(value, dict) and name in value:
            inner = value[name]
            return (inner if isinstance(inner, str) else json.dumps(inner)) or None, "json"
    return last, "json"


def _json_values(text: str) -> Iterator[str]:
    """Every complete JSON object or array in a text, in order."""
    decoder, at, tries = json.JSONDecoder(), 0, 0
    while tries < 1_000 and (start := re.compile(r"[{\[]").search(text, at)):
        tries += 1
        try:
            _, at = decoder.raw_decode(text, start.start())
            yield text[start.start() : at]
        except (ValueError, RecursionError):
            at = start.end()


_READERS = {
    "auto": _auto,
    "boxed": _boxed,
    "text": _whole,
    "json": _json,
    "pattern": _matched,
}
