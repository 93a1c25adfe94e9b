r"""Equal answers are one answer: a key for votes, verifiers, benchmarks and replays.

`canonical` writes an answer in one form: numbers by their value, whatever their thousands,
currency or LaTeX; sets without an order, tuples and intervals with theirs; choices by their letter;
words without case, articles and quotes.  Nothing is computed but single numbers, so that
``9^9^9^9`` costs nothing, and what is not understood keeps its own words.
"""

from __future__ import annotations

import json
import re
import unicodedata
from fractions import Fraction

LONGEST = 2_000
"""Characters of an answer that is read as more than words."""
_MOST_DIGITS = 400
_DEEPEST = 4


def equal(one: str, other: str) -> bool:
    """Whether two answers say the same; False where one says nothing."""
    key = canonical(one)
    return key is not None and key == canonical(other)


def canonical(answer: str, question: str = "") -> str | None:
    """The key that equal answers share; None where there are no words in the answer.

    It is its own key, and it is always found in a time that grows as the answer's length does.
    A unit that the ``question`` names may be left out, and where it asks for all solutions their
    order is none.
    """
    if len(answer) > LONGEST:
        return " ".join(answer.casefold().split()) or None
    key = answer
    for _ in range(2 * _DEEPEST):
        before, key = key, _key(unmarked(key), 0)
        if key == before:
            break
    return (_asked_for(key, answer, question) if question else key) or None


_KEY_WITH_UNIT = re.compile(r"(-?\d+(?:/\d+)?)(?: (.+)|(%))")
_ALL_SOLUTIONS = re.compile(
    r"\b(?:find|what are|give|list|determine) (?:all|both)\b|\broots\b|\bzeros\b|\bsolutions\b"
    r"|\ball (?:\w+ )?(?:values|[a-z])\b|\bwhich (?:two|three|four)\b",
    re.I,
)
_ORDERED = re.compile(r"\b(?:system|pairs?|order|sequence|sorted|respectively)\b", re.I)


def _asked_for(key: str, answer: str, question: str) -> str:
    found = _KEY_WITH_UNIT.fullmatch(key)
    if found is not None:
        words = set(_unit(question.casefold()[:LONGEST]).replace("%", " % ").split())
        unit = found[2] or found[3]
        named = {word.strip("?.,;:!()") for word in words}
        return found[1] if unit in named or (unit == "%" and "percentage" in named) else key
    several = ", " in key and not key.startswith(("(", "[", "{"))
    if several and _ALL_SOLUTIONS.search(question) and not _ORDERED.search(question):
        names = set(re.findall(r"([^\W\d_])\s*=", answer))
        items = [_key(item, 1) for item in _items(key)]
        return _set(items) if len(names) < 2 else key
    return key


def number(answer: str) -> Fraction | None:
    """The value of one number in any notation, without a unit; None where it is none.

    Currency signs are no unit; a percent sign is.
    """
    if len(answer) > LONGEST:
        return None
    return _number(_uncurrencied(unmarked(answer).strip().rstrip(".;, ")))


# ---- LaTeX and typography ------------------------------------------------------------------------

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_LETTERS = str.maketrans(
    {one: rf"\mathbb{{{two}}}" for one, two in zip("ℝℤℕℚ", "RZNQ", strict=True)}
)
_COLOURED = re.compile(
    r"\\textcolor\s*\{[^{}]*\}\s*\{([^{}]*)\}|\{\\color\s*\{?[a-z]+\}?\s*([^{}]*)\}"
)
_DIGIT = re.compile(r"[^\x00-\x7f]")
_MINUS = re.compile("[−–—‐‑‒﹣－]")
_SPACES = re.compile(
    r"\\[,;:!> ]|\\(?:quad|qquad|thinspace|enspace)(?![a-z])|(?<!\\)~|[\u00a0\u202f]"
)
_SIZES = re.compile(r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits)(?![a-zA-Z])")
_COMMANDS = {
    "times": "*", "cdot": "*", "div": "/", "pm": "±", "pi": "π", "leq": "<=", "le": "<=",
    "geq": ">=", "ge": ">=", "neq": "!=", "ne": "!=", "infty": "∞", "emptyset": "∅",
    "varnothing": "∅", "pounds": "£", "textsterling": "£", "euro": "€", "texteuro": "€",
    "textdollar": "$", "degree": "°", "circ": "°", "cup": "∪", "cap": "∩", "sqrt": "√",
    "lbrace": "⦃", "rbrace": "⦄", "lt": "<", "gt": ">", "ldots": "...", "dots": "...",
    "dfrac": "\\frac", "tfrac": "\\frac", "cfrac": "\\frac", "mid": "|", "in": "∈", "colon": ":",
    "alpha": "α", "beta": "β", "theta": "θ", "lambda": "λ", "to": "->", "rightarrow": "->",
    "percent": "%", "lvert": "|", "rvert": "|", "vert": "|", "lfloor": "⌊", "rfloor": "⌋",
    "lceil": "⌈", "rceil": "⌉", "langle": "⟨", "rangle": "⟩", "approx": "≈", "simeq": "≈",
    **{name: name for name in ("sin", "cos", "tan", "log", "ln", "exp", "gcd")},
}  # fmt: skip
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_SIGNS = str.maketrans(
    {"×": "*", "·": "*", "⋅": "*", "÷": "/", "≤": "<=", "≥": ">=", "≠": "!=", "’": "'", "‘": "'",
     "“": '"', "”": '"', "∓": "±"}
)  # fmt: skip
_WORDS_OF = re.compile(
    r"\\(?:text|mathrm|textbf|mathbf|textit|mathit|emph|texttt|mathsf|textrm|operatorname|mbox"
    r"|boldsymbol|bm|boxed|fbox|underline)\s*\{([^{}]*)\}"
)
_PAIRED = re.compile(r"([⌊⌈⟨])\s*([^⌊⌈⟨⌋⌉⟩]*?)\s*([⌋⌉⟩])")
_MIXED = re.compile(r"(\d)\s*\\frac\s*(?:\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}|(\d)(\d))")
_FRACTION = re.compile(r"\\frac\s*(?:\{([^{}]*)\}|([\da-z]))\s*(?:\{([^{}]*)\}|([\da-z]))")
_GROUP = re.compile(r"([\^_√])\s*\{([^{}]*)\}")


def unmarked(answer: str) -> str:
    r"""The answer without LaTeX's and Markdown's marks, in plain signs.

    Fractions become ``a/b``, sets keep their braces, and words lose their fonts.
    """
    text = _RAISED.sub(lambda m: f"^{{{m[0].translate(_SUPERSCRIPTS)}}}", answer)
    text = _LOWERED.sub(lambda m: f"_{{{m[0].translate(_SUBSCRIPTS)}}}", text.translate(_LETTERS))
    text = text.replace("+/-", "±").replace("\\minus", "-")
    text = _COLOURED.sub(r"\1\2", text) if "color" in text else text
    text = re.sub(r"(?<=\d)\s?([¼½¾⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])", r" \1", text)
    text = unicodedata.normalize("NFKC", text.replace("{,}", ",")).replace("\u2044", "/")
    text = _MINUS.sub("-", _DIGIT.sub(_ascii_digit, text.translate(_SIGNS)))
    text = re.sub(r"\\pmod\s*\{([^{}]*)\}|\(\s*(?:\\?mod|\\bmod)\s*([^()]*)\)", r" mod \1\2", text)
    text = text.replace("\\\\", "⏎").replace("\\{", "⦃").replace("\\}", "⦄")
    text = _SIZES.sub("", text)
    text = _SPACES.sub(" ", text.replace("\\$", "$").replace("\\%", "%").replace("\\&", "&"))
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?", "°", re.sub(r"\\[()\[\]]", " ", text))
    text = _unwrapped(text, _WORDS_OF, lambda m: m[1])
    text = _COMMAND.sub(lambda m: _COMMANDS.get(m[1], m[0]), text)
    text = _MIXED.sub(_mixed, text)
    text = _unwrapped(text, _FRACTION, _fraction)
    text = _unwrapped(text, _GROUP, _grouped)
    text = re.sub(r"\*\*(?=\S)(.*?)(?<=\S)\*\*|`+([^`]*)`+", r"\1\2", text)
    return " ".join(_PAIRED.sub(r"\1\2\3", _unpaired(text)).split())


def _ascii_digit(found: re.Match[str]) -> str:
    """A decimal digit of any script as one of ours; every other character as it is."""
    return str(unicodedata.decimal(found[0], found[0]))


def _unwrapped(text: str, pattern: re.Pattern[str], by: object) -> str:
    """The text after so many rounds of a substitution as nesting is looked into."""
    for _ in range(_DEEPEST):
        new = pattern.sub(by, text)  # type: ignore[call-overload]
        if new == text:
            break
        text = new
    return text


def _mixed(found: re.Match[str]) -> str:
    above, below = found[2] or found[4], found[3] or found[5]
    proper = len(below) < 20 and len(above) < 20 and int(above) < int(below)
    return f"{found[1]} {above}/{below}" if proper else f"{found[1]}*({above}/{below})"


def _fraction(found: re.Match[str]) -> str:
    above, below = found[1] if found[1] is not None else found[2], found[3] or found[4] or ""
    above, below = above.strip(), below.strip()
    product = not re.search(r"[-+/±]", re.sub(r"^-|\([^()]*\)", "", above))
    upper = above if product or _is_simple(above) else f"({above})"
    return f"{upper}/{below if _is_simple(below) else f'({below})'}"


def _is_simple(text: str) -> bool:
    return re.fullmatch(r"-?\s?[\d.,]+|[a-zπ]|[a-zπ]?√?\d*", text) is not None


def _grouped(found: re.Match[str]) -> str:
    inside = found[2].strip()
    simple = re.fullmatch(r"-?(?:[^\W\d_]|\d+(?:\.\d+)?)", inside) is not None
    return f"{found[1]}{inside if simple else f'({inside})'}"


def _unpaired(text: str) -> str:
    """Without the dollar signs of mathematics; those of money stay."""
    text = text.strip()
    while len(text) > 1 and text[0] == text[-1] == "$":
        text = text[1:-1].strip()
    if text.count("$") % 2 == 0:
        text = re.sub(r"\$(\s*[^$\s][^$]*)\$(?!\d)", r"\1", text)
    return text


# ---- numbers -------------------------------------------------------------------------------------

_DIGITS = (
    r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?:'\d{3})+|\d{1,3}(?: \d{3})+|[1-9]\d?(?:,\d{2})+,\d{3}|\d+)"
)
_DECIMAL = re.compile(rf"(?P<whole>{_DIGITS})(?:\.(?P<part>\d+))?|\.(?P<bare>\d+)")
_EUROPEAN = re.compile(
    r"(?P<whole>\d{1,3}(?:\.\d{3})+),(?P<part>\d+)|(?P<many>\d{1,3}(?:\.\d{3}){2,})"
    r"|(?P<spaced>\d{1,3}(?:[ ']\d{3})+),(?P<rest>\d+)"
)
_POWER = re.compile(r"(?:(.+?)\s?\*\s?)?10\s?\^\s?\(?\s?([-+]?\d{1,3})\s?\)?|(.+?)e([-+]?\d{1,3})")
_RATIO = re.compile(r"\(?([-+]?[\d.]+)\)?\s?/\s?\(?([-+]?[\d.]+)\)?")
_MIXED_NUMBER = re.compile(r"(\d+) (\d+)\s?/\s?(\d+)")
_WORDS = "zero one two three four five six seven eight nine ten eleven twelve"
_TEENS = "thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WORD_NUMBERS = {
    **{word: Fraction(value) for value, word in enumerate(f"{_WORDS} {_TEENS}".split(" "))},
    **{
        f"{tens}{unit and '-' + unit}": Fraction(10 * ten + value)
        for ten, tens in enumerate(_TENS, 2)
        for value, unit in enumerate(["", *_WORDS.split(" ")[1:10]])
    },
}


def _number(text: str) -> Fraction | None:
    """The number that a plain text is; None for all else."""
    if len(text) > 2 * _MOST_DIGITS:
        return None
    text = text.strip()
    if len(text) > 2 and text[0] == "(" and text[-1] == ")" and "(" not in text[1:-1]:
        text = text[1:-1].strip()
    negative = text[:1] == "-"
    if text[:1] in ("-", "+"):
        text = text[1:].strip()
    value = _unsigned(text)
    return -value if value is not None and negative else value


def _unsigned(text: str) -> Fraction | None:
    if not text or not (text[0].isdigit() or text[0] in ".(") or not text.isascii():
        return None
    if (power := _POWER.fullmatch(text)) is not None:
        factor = power[1] or power[3]
        base = Fraction(1) if factor is None else _number(factor)
        return None if base is None else base * Fraction(10) ** int(power[2] or power[4])
    if (mixed := _MIXED_NUMBER.fullmatch(text)) is not None and _short(text):
        whole, above, below = map(int, mixed.groups())
        return Fraction(whole) + Fraction(above, below) if above < below else None
    if (ratio := _RATIO.fullmatch(text)) is not None and _short(text):
        upper, lower = _decimal(ratio[1]), _decimal(ratio[2])
        return upper / lower if upper is not None and lower else None
    return _decimal(text)


def _short(text: str) -> bool:
    return len(text) <= 2 * _MOST_DIGITS and max(map(len, re.findall(r"\d+", text))) <= _MOST_DIGITS


def _decimal(text: str) -> Fraction | None:
    sign = -1 if text[:1] == "-" else 1
    text = text.lstrip("+-")
    whole, part = "", ""
    if (found := _EUROPEAN.fullmatch(text)) is not None:
        whole = found["whole"] or found["many"] or found["spaced"]
        part = found["part"] or found["rest"] or ""
    elif (found := _DECIMAL.fullmatch(text)) is not None:
        whole, part = found["whole"] or "", found["part"] or found["bare"] or ""
    else:
        return None
    digits = re.sub(r"\D", "", whole)
    if len(digits) + len(part) > _MOST_DIGITS or re.match(r"0\d*[,' ]", whole):
        return None
    return sign * Fraction(int(f"{digits}{part}" or "0"), 10 ** len(part))


# ---- units ---------------------------------------------------------------------------------------

_CURRENCY = re.compile(
    r"^([-+]?)\s*(?:(?:us|a|c)?[$€£¥₹]|(?:usd|eur|gbp|jpy|inr|cny|chf)\b)\s*(?=[-+.\d])"
    r"|\s*(?:[$€£¥₹]|\b(?:us dollars?|dollars?|euros?|pounds sterling|yen|rupees?|francs?|yuan"
    r"|usd|eur|gbp|jpy|inr|cny|chf))$",
    re.I,
)
_THOUSANDS_OR_NOT = re.compile(r"\d{1,3}\.\d{3}")
_CENTS = re.compile(r"(\d+),(\d{1,2})")
_MEASURE = re.compile(
    r"([-+]?\s?(?:\d[\d,.' ]*\d|\d)(?:\s?(?:/\s?\d+|e[-+]?\d{1,3}|\*\s?10\s?\^\s?\(?-?\d{1,3}\)?))?"
    r"|[-+]?\.\d+)\s?(%|°|[^\W\d_][\w/^ *.²³-]{0,60}|°\s?[a-z])"
)
_NO_UNIT = re.compile(r"\b(?:and|or|to|by)\b|(?<![\^\d-])-?\d")
_UNITS = {
    "metre": "m", "meter": "m", "centimetre": "cm", "centimeter": "cm", "kilometre": "km",
    "kilometer": "km", "millimetre": "mm", "millimeter": "mm", "gram": "g", "kilogram": "kg",
    "second": "s", "sec": "s", "minute": "min", "hour": "h", "litre": "l", "liter": "l",
    "percent": "%", "degree": "°", "inche": "inch", "kph": "km/h", "kmh": "km/h", "mph": "mi/h",
    "in": "inch", "hr": "h", "hrs": "h", "mins": "min", "secs": "s", "lb": "pound", "lbs": "pound",
    "mile": "mi", "feet": "ft", "foot": "ft", "millilitre": "ml", "milliliter": "ml",
}  # fmt: skip


def _uncurrencied(text: str) -> str:
    """Without signs and words of money; with them a comma and two digits are cents."""
    bare = _CURRENCY.sub(lambda m: m[1] or "", text).strip()
    if bare == text:
        return text
    if _THOUSANDS_OR_NOT.fullmatch(bare.lstrip("-+ ")) and ("€" in text or "eur" in text):
        return text
    cents = _CENTS.fullmatch(bare.lstrip("-+ "))
    return bare.replace(",", ".") if cents is not None else bare


def _unit(text: str) -> str:
    """A unit in its short form: ``square metres`` is ``m^2``."""
    text = _UNITS.get(text.strip(" ."), text.strip(" ."))
    text = re.sub(r"\bper cent\b", "percent", text)
    text = re.sub(r"(?:°|degrees?) ?(celsius|fahrenheit|c|f)\b", lambda m: f"°{m[1][0]}", text)
    text = re.sub(r"\s?(?:/|\bper\b)\s?", "/", text)
    text = re.sub(r"\b(?:square|sq)\.?\s(\w+)", r"\1^2", text)
    text = re.sub(r"\bcubic\s(\w+)", r"\1^3", text)
    return re.sub(r"[a-z]{3,}", lambda m: _singular(m[0]), text)


def _singular(word: str) -> str:
    one = word[:-1] if len(word) > 3 and word[-1] == "s" and word[-2] != "s" else word
    return _UNITS.get(word) or _UNITS.get(one, one)


def _measure(text: str) -> str | None:
    """A number with a unit, as ``60 km/h``; degrees of angles are numbers."""
    found = _MEASURE.fullmatch(text)
    if found is None:
        return _compound(text)
    given, unit = found[1].strip(), _unit(found[2])
    cents = _CENTS.fullmatch(given.lstrip("+- "))
    value = _number(given.replace(",", ".") if cents is not None else given)
    if value is None or len(unit.split()) > 4 or _NO_UNIT.search(unit):
        return _compound(text)
    if unit[0] in "π√∞":
        return None
    if unit == "°":
        return str(value)
    # A letter beside a number is a product, as in 2x, unless it is a unit that stands apart.
    if len(unit) == 1 and unit.isalpha() and not re.search(r"\d\s", text):
        return None
    return f"{value}{unit}" if unit == "%" else f"{value} {unit}"


_COMPOUND = re.compile(r"(?:\d+(?:\.\d+)?\s?[a-z]+(?:,?\s(?:and\s)?|\s?|$)){2,4}")
_ONE_OF_SEVERAL = re.compile(r"(\d+(?:\.\d+)?)\s?([a-z]+)")
_SMALLER = (
    *("year", "month", "week", "day", "h", "min", "s"),
    *("mi", "yd", "ft", "inch", "m", "cm", "mm", "kg", "g", "pound", "ounce"),
)
"""Units that stand together, each before its parts."""


def _compound(text: str) -> str | None:
    """A number of units and of smaller ones, as ``1 h 30 min``."""
    if _COMPOUND.fullmatch(text) is None:
        return None
    parts = [(value, _unit(unit)) for value, unit in _ONE_OF_SEVERAL.findall(text)]
    order = [_SMALLER.index(unit) if unit in _SMALLER else -1 for _, unit in parts]
    if -1 in order or order != sorted(set(order)):
        return None
    return " ".join(f"{Fraction(value)} {unit}" for value, unit in parts)


# ---- forms ---------------------------------------------------------------------------------------

_ARTICLES = re.compile(r"^(?:(?:the|an?)\s+)+(?=\S)")
_NOON = re.compile(r"(?<=\d)\s?([ap])\.?m\b\.?")
_NEAR = re.compile(r"^(?:≈|about|approximately|approx\.?|roughly|circa|ca\.)\s?(?=[-+$€£]?[\d.])")
_QUOTED = re.compile(r"([\"'*])(.+)\1", re.S)
_BEGIN = frozenset("+-.0123456789")
_MEGA = re.compile(r"(?<=\d)\s?M(?=(?:W|Hz|Wh|byte|b|bit|J|N|Pa|V|eV|m|g|s)\b)")
_BYTES = re.compile(r"(?<=[kMGT])B\b")
_CAPITAL = re.compile(
    r"\\(Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Phi|Psi|Omega)\b|(?<![^\W\d_])[ΓΔΘΛΞΠΣΦΨΩ](?![^\W\d_])"
)
_CHOICE = re.compile(r"(?:(?:option|choice|answer)\s+)?\(?([a-z])\)?[.)]?")
_VARIABLE = re.compile(r"[^\W\dπ_]")
_ASSIGNED = re.compile(r"[^\W\d_](?:_\w)?\s?=\s?([^=]+)")
_BRACKETED = re.compile(r"([(\[])(.+)([)\]])", re.S)
_BRACED = re.compile(r"⦃(.*)⦄|\{(.*)\}", re.S)
_ALTERNATIVES = re.compile(r",?\s+or\s+")
_LISTED = re.compile(r",?\s+and\s+")
_NAMED = re.compile(r"([^\W\d_](?:_\w+)?)\s?=\s?([^=]+)")
_MATHEMATICAL = re.compile(r"[=<>^√±∪∩∈π]|\d\s?[-+*/]\s?[\da-z(]|[a-z)]\s?[+*/]\s?[\da-z(]|\)\(")
_LONG_WORD = re.compile(r"[^\W\d_]{3,}")


def _key(text: str, depth: int) -> str:
    """One reading of a plain text; `canonical` repeats it until nothing changes."""
    text = _NEAR.sub("", _NOON.sub(r" \1m", _folded(text.strip())))
    if (found := _json_key(text)) is not None:
        return found
    text = text if text.endswith("...") else re.sub(r"(?<=\w[^\W\d])!$", "", text).rstrip(".;, ")
    while (quoted := _QUOTED.fullmatch(text)) is not None:
        text = quoted[2].strip()
    for form in (_value_key, _set_key, _bracket_key, _list_key, _expression_key):
        if (found := form(text, depth)) is not None:
            return found
    return _ARTICLES.sub("", text)


def _folded(text: str) -> str:
    """Without case, but in the units and letters to which it matters: MW and mW, Γ and γ."""
    text = _MEGA.sub("mega", _BYTES.sub("byte", text)) if text[:1] in _BEGIN else text
    return _CAPITAL.sub(_capital, text).casefold()


def _capital(found: re.Match[str]) -> str:
    name = found[1] or unicodedata.name(found[0]).split()[-1]
    return rf"\capital{name.lower()}"


def _json_key(text: str) -> str | None:
    if not text.startswith(("{", "[")) or '"' not in text:
        return None
    try:
        return json.dumps(json.loads(text), sort_keys=True, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None


def _value_key(text: str, depth: int) -> str | None:
    word = text.replace(" ", "-")
    if word in _WORD_NUMBERS:
        return str(_WORD_NUMBERS[word])
    if re.fullmatch(r"0\d+", text):
        return text  # a code
    if text.lstrip("+") in ("∞", "infinity"):
        return "∞"
    if (moment := _moment(text)) is not None:
        return moment
    if (choice := _CHOICE.fullmatch(text)) is not None:
        return choice[1]
    bare = _uncurrencied(text)
    value = _number(bare)
    if value is not None:
        return str(value)
    assigned = _ASSIGNED.fullmatch(text)
    if assigned is not None:
        return _value_key(assigned[1].strip(), depth) or _constant(assigned[1], depth)
    return _measure(bare)


_TIME = re.compile(r"(\d{1,2})(?:[:.](\d\d))?(?: ([ap])m| uhr)|(\d{1,2})h(\d\d)")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_NAME = "|".join(f"{month[:3]}(?:{month[3:]})?" for month in _MONTHS)
_DATE = re.compile(rf"(?P<month>{_NAME})\.? (?P<day>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<year>\d{{4}})")
_DAY_FIRST = re.compile(
    rf"(?:the )?(?P<day>\d{{1,2}})(?:st|nd|rd|th|\.)? (?:of )?"
    rf"(?P<month>{_NAME})\.?,? (?P<year>\d{{4}})"
)


def _moment(text: str) -> str | None:
    """A time of day on the clock of 24 hours, or a day that is written with its month's name."""
    if (time := _TIME.fullmatch(text)) is not None:
        hour, minute = int(time[1] or time[4]), int(time[2] or time[5] or 0)
        if time[3] is not None:
            hour = hour % 12 + 12 * (time[3] == "p") if 0 < hour < 13 else 99
        return f"{hour:02}:{minute:02}" if hour < 24 and minute < 60 else None
    if (date := _DATE.fullmatch(text) or _DAY_FIRST.fullmatch(text)) is not None:
        month = [name[:3] for name in _MONTHS].index(date["month"][:3]) + 1
        return f"{date['year']}-{month:02}-{int(date['day']):02}"
    return None


def _constant(text: str, depth: int) -> str | None:
    """A formula without variables, such as ``2√2``; None for all else."""
    return None if _VARIABLE.search(text) else _expression_key(text.strip(), depth)


def _set_key(text: str, depth: int) -> str | None:
    if text in ("∅", "⦃⦄", "{}", "⦃ ⦄"):
        return "∅"
    if text.startswith("±") and depth < _DEEPEST:
        value = _number(text[1:].strip())
        return None if value is None else _set([str(value), str(-value)])
    braced = _BRACED.fullmatch(text)
    if braced is not None and depth < _DEEPEST:
        inside = braced[1] if braced[1] is not None else braced[2]
        if "|" in inside or (":" in inside and "," not in inside):
            return None
        return _set([_key(item, depth + 1) for item in _items(inside)])
    if depth == 0 and " or " in text and len(parts := _ALTERNATIVES.split(text)) > 1:
        items = [item for part in parts for item in _items(part)]
        if all(_value_key(item, depth) and not _CHOICE.fullmatch(item) for item in items):
            return _set([_key(item, depth + 1) for item in items])
    return None


def _set(keys: list[str]) -> str:
    return "{" + ", ".join(sorted(set(keys))) + "}"


def _bracket_key(text: str, depth: int) -> str | None:
    found = _BRACKETED.fullmatch(text)
    if found is None or depth >= _DEEPEST:
        return None
    items = _items(found[2])
    if len(items) < 2 or len(items) != len(_items(found[2], whole=False)):
        return None
    return f"{found[1]}{_joined([_key(item, depth + 1) for item in items])}{found[3]}"


def _list_key(text: str, depth: int) -> str | None:
    if depth == 0 and " and " in text:
        listed = [item for part in _LISTED.split(text) for item in _items(part)]
        if all(_value_key(item, depth) is not None for item in listed):
            text = ", ".join(listed)
    if "," not in text and ";" not in text:
        return None
    items = _items(text)
    if len(items) < 2 or depth >= _DEEPEST or any(not item for item in items):
        return None
    named = [_NAMED.fullmatch(item) for item in items]
    if all(named) and (names := {found[1] for found in named if found}):
        if len(names) == 1:
            return _set([_key(found[2], depth + 1) for found in named if found])
        if len(names) == len(items):
            pairs = sorted((found[1], _key(found[2], depth + 1)) for found in named if found)
            return ", ".join(f"{name}={value}" for name, value in pairs)
    return _joined([_key(item, depth + 1) for item in items])


def _joined(keys: list[str]) -> str:
    return ("; " if any(", " in key and key[0] not in "([{" for key in keys) else ", ").join(keys)


def _items(text: str, *, whole: bool = True) -> list[str]:
    """What commas or semicolons part, outside brackets; a thousands comma parts nothing."""
    parting, depth = [], 0
    for at, sign in enumerate(text):
        depth += (sign in "([{⦃") - (sign in ")]}⦄")
        if sign in ",;" and depth == 0:
            parting.append(at)
        if depth < 0 and whole:
            return [text.strip()]
    semicolons = [at for at in parting if text[at] == ";"]
    ends = [*(semicolons or parting), len(text)]
    items = [text[a + 1 : b].strip() for a, b in zip([-1, *ends], ends, strict=False)]
    if not semicolons:
        return items
    return [item.replace(",", ".") if _COMMA.fullmatch(item) else item for item in items]


_COMMA = re.compile(r"-?\d+,\d+")


_MATRIX = re.compile(
    r"\\begin\{(?:[pb]|small)?(?:matrix|array)\}(?:\{[clr|]*\})?(.*)\\end\{\w+\}", re.I | re.S
)


def _matrix(text: str, depth: int) -> str | None:
    """A matrix by its cells, whatever its brackets; a determinant is none."""
    found = _MATRIX.fullmatch(text.strip("()[] "))
    if found is None or "\\begin" in found[1]:
        return None
    rows = [row for row in found[1].split("⏎") if row.strip()]
    cells = [[_key(cell.strip(), depth + 1) for cell in row.split("&")] for row in rows]
    inside = "⏎".join("&".join(row) for row in cells)
    return rf"\begin{{matrix}}{inside}\end{{matrix}}"


def _expression_key(text: str, depth: int) -> str | None:
    """Mathematics without spaces; None for words, dates and times."""
    if "\\begin{" in text:
        return _matrix(text, depth) or re.sub(r"\s+", "", text)
    tight = re.sub(r"\s*([:/=<>^])\s*", r"\1", text)
    if re.fullmatch(r"\d+(?::\d+)+", tight):
        return tight
    words = [w for w in _LONG_WORD.findall(text) if w not in ("sin", "cos", "tan", "log", "mod")]
    if words or not _MATHEMATICAL.search(text) or re.fullmatch(r"\d+(?:-\d+){2,}", tight):
        return None
    tight = re.sub(r"\s+", "", text)
    return re.sub(r"(?<=\d)\*(?=[a-zπ√(])", "", tight)
