"""Words for the emulated model: plausible, short, and the same every time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random

_OPENINGS: Final = (
    "A good way to look at {topic} is to begin with what is certain.",
    "In short, {topic} comes down to a few plain facts.",
    "The usual answer about {topic} is simpler than it seems.",
    "Let me take {topic} step by step.",
)
_MIDDLES: Final = (
    "First, {a} sets the limits within which {b} can change.",
    "Most people notice {a} before they notice {b}.",
    "When {a} grows, {b} tends to follow after a while.",
    "There is a clear link between {a} and {b}, though not a strict rule.",
    "It helps to measure {a} before changing {b}.",
    "History shows that {a} mattered more than {b}.",
)
_CLOSINGS: Final = (
    "That is the main point; the rest is detail.",
    "If you need more, tell me which part matters to you.",
    "So start small and check the result.",
    "Everything else follows from that.",
)
_NOUNS: Final = (
    "the climate",
    "the budget",
    "careful planning",
    "the local custom",
    "the first draft",
    "good data",
    "patience",
    "the river",
    "an open question",
    "the older method",
    "the weather",
    "daily practice",
    "the shape of the land",
    "a second reader",
    "the cost",
    "the schedule",
)
_THOUGHTS: Final = (
    "The user asks about {topic}.",
    "I should answer plainly and keep it short.",
    "Let me check the key facts before I write.",
    "There may be more than one reading, so I take the obvious one.",
    "Nothing here needs a long digression.",
)
_CHINESE_OPENINGS: Final = ("简单来说\uff0c", "总的来看\uff0c", "首先\uff0c")
_CHINESE: Final = (
    "这个问题可以从几个方面来理解。",
    "关键在于先弄清基本事实。",
    "其次要考虑时间和成本。",
    "最后再检查结果是否合理。",
    "如果需要更多细节\uff0c请告诉我。",
)
_SMALL_WORDS: Final = frozenset(
    [
        "what",
        "which",
        "when",
        "where",
        "that",
        "this",
        "with",
        "from",
        "have",
        "does",
        "your",
        "about",
        "there",
        "their",
        "would",
        "could",
        "should",
        "please",
        "tell",
        "many",
        "much",
        "into",
        "than",
        "then",
        "them",
        "they",
        "will",
    ]
)
_CHINESE_CHAR = re.compile(r"[\u4e00-\u9fff]")
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]{3,}")
_QUANTITY = re.compile(
    r"\b(how (many|much|long|far|old)|what (percent|fraction))", re.IGNORECASE
)
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?!\d)")
_MAX_NUMBERS: Final = 4
_MAX_DIGITS: Final = 9


def reply(question: str, rng: random.Random) -> str:
    """Return an answer of some 30 to 80 tokens to `question`."""
    if _CHINESE_CHAR.search(question):
        return _chinese(rng)
    numbers = _numbers(question)
    if len(numbers) > 1 and _QUANTITY.search(question):
        return _worked(numbers, rng)
    opening = rng.choice(_OPENINGS).format(topic=_topic(question, rng))
    middles = rng.sample(_MIDDLES, rng.randint(1, 3))
    return " ".join([opening, *(_fill(m, rng) for m in middles), rng.choice(_CLOSINGS)])


def thoughts(question: str, rng: random.Random) -> str:
    """Return a short reasoning about `question`."""
    if _CHINESE_CHAR.search(question):
        return "用户提出了一个问题。我先想清楚要点\uff0c再简短回答。"
    lines = [_THOUGHTS[0], *rng.sample(_THOUGHTS[1:], rng.randint(1, 3))]
    return " ".join(lines).format(topic=_topic(question, rng))


def phrase(question: str, rng: random.Random) -> str:
    """Return a few words, for a string field of an object."""
    return f"{_topic(question, rng)} and {rng.choice(_NOUNS)}"


def report(outputs: list[str], rng: random.Random) -> str:
    """Return an answer that passes on what tools returned."""
    said = "; ".join(outputs) or "nothing"
    return f"According to the tool: {said}. {rng.choice(_CLOSINGS)}"


def continuation(text: str, rng: random.Random) -> str:
    """Return words that carry on from `text`."""
    space = "" if not text or text[-1].isspace() else " "
    return space + _fill(rng.choice(_MIDDLES), rng)


def _topic(question: str, rng: random.Random) -> str:
    words = [w for w in _WORD.findall(question) if w.lower() not in _SMALL_WORDS]
    if not words:
        return "this"
    words.sort(key=len, reverse=True)
    return str(rng.choice(words[:3]))


def _fill(sentence: str, rng: random.Random) -> str:
    first, second = rng.sample(_NOUNS, 2)
    sentence = sentence.format(a=first, b=second)
    return sentence[:1].upper() + sentence[1:]


def _chinese(rng: random.Random) -> str:
    sentences = rng.sample(_CHINESE, rng.randint(2, 4))
    return rng.choice(_CHINESE_OPENINGS) + "".join(sentences)


def _numbers(question: str) -> list[int]:
    found = [n.replace(",", "") for n in _NUMBER.findall(question)]
    return [int(n) for n in found if len(n) <= _MAX_DIGITS][:_MAX_NUMBERS]


def _worked(numbers: list[int], rng: random.Random) -> str:
    """Return worked arithmetic over the question's numbers, and a last line."""
    lines = ["Let us work it out step by step."]
    total = numbers[0]
    for number in numbers[1:]:
        sign = rng.choice("+*") if number > total else rng.choice("+-*")
        before = total
        total = _apply(before, sign, number)
        lines.append(f"{before} {sign} {number} = {total}.")
    lines.append(f"So the answer is {total}.\n#### {total}")
    return " ".join(lines[:-1]) + "\n" + lines[-1]


def _apply(left: int, sign: str, right: int) -> int:
    if sign == "+":
        return left + right
    return left - right if sign == "-" else left * right
