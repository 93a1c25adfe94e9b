"""LaTeX, Markdown and typography in plain signs."""

from __future__ import annotations

import re
import unicodedata

_DEEPEST = 4
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
    "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ",
    "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω", "mu": "μ",
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
_PAIRED = re.compile(r"([⌊⌈⟨|])\s*([^⌊⌈⟨⌋⌉⟩|]*?)\s*([⌋⌉⟩|])")
_MIXED = re.compile(r"(\d)\s*\\frac\s*(?:\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}|(\d)(\d))")
_FRACTION = re.compile(r"\\frac\s*(?:\{([^{}]*)\}|([\da-z]))\s*(?:\{([^{}]*)\}|([\da-z]))")
_FACTOR = re.compile(r"\s*\*?\s*(?:[^\W\d]\b|[√(])")
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
    text = _COMMAND.sub(_named, text)
    text = _unwrapped(text, _WORDS_OF, lambda m: m[1])
    text = _MIXED.sub(_mixed, text)
    text = _unwrapped(text, _FRACTION, _fraction)
    text = _unwrapped(text, _GROUP, _grouped)
    text = re.sub(r"\*\*(?=\S)(.*?)(?<=\S)\*\*|`+([^`]*)`+", r"\1\2", text)
    return " ".join(_PAIRED.sub(r"\1\2\3", _unpaired(text)).split())


def _named(found: re.Match[str]) -> str:
    """A command's sign; the name of a function stands apart from a letter before it."""
    sign = _COMMANDS.get(found[1], found[0])
    beside = sign.isascii() and sign.isalpha() and found.string[: found.start()][-1:].isalpha()
    return f" {sign}" if beside else sign


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
    """``a/b``, in brackets where a factor follows: ``a/bc`` is read in two ways."""
    above, below = found[1] if found[1] is not None else found[2], found[3] or found[4] or ""
    above, below = above.strip(), below.strip()
    product = not re.search(r"[-+/±]", re.sub(r"^-|\([^()]*\)", "", above))
    upper = above if product or _is_simple(above) else f"({above})"
    quotient = f"{upper}/{below if _is_simple(below) else f'({below})'}"
    return f"({quotient})" if _FACTOR.match(found.string, found.end()) else quotient


def _is_simple(text: str) -> bool:
    return re.fullmatch(r"-?\s?[\d.,]+|[a-zπ]|[a-zπ]?√?\d*", text) is not None


def _grouped(found: re.Match[str]) -> str:
    inside = found[2].strip()
    simple = re.fullmatch(r"-?(?:[^\W\d_]|\d+(?:\.\d+)?)", inside) is not None
    simple = simple and not found.string[found.end() :][:1].isdigit()
    return f"{found[1]}{inside if simple else f'({inside})'}"


def _unpaired(text: str) -> str:
    """Without the dollar signs of mathematics; those of money stay."""
    text = text.strip()
    while len(text) > 1 and text[0] == text[-1] == "$":
        text = text[1:-1].strip()
    if text.count("$") % 2 == 0:
        text = re.sub(r"\$(\s*[^$\s][^$]*)\$(?!\d)", r"\1", text)
    return text
