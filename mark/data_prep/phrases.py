"""Noun phrases as people say them: short, without cross-references, lower-cased where common."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from mark.data_prep import verbs
from mark.data_prep.words import word_set

_ACT = (
    r"(?:(?:Implementing |Delegated |Council |Framework )?(?:Regulations?|Directives?|Decisions?|"
    r"Recommendations?) "
    r"(?:\((?:EU|EC|EEC|Euratom)(?:, Euratom)?\) )?(?:No )?\d+/\d+(?:/\w+)?)"
)
_POINTING = (
    r"(?:as )?(?:referred to|set out|laid down|provided for|defined|specified|mentioned|listed|"
    r"described|established|"
    r"required|enumerated|covered|envisaged|adopted|made|issued|taken|designated|imposed|appointed|concluded|conducted|"
    r"carried out|submitted|notified|obtained|exercised|transmitted|received|drawn up|granted|"
    r"conferred|provided)"
)
_UNIT = (
    r"(?:paragraphs?|points?|clauses?|sub-clauses?|[Aa]rticles?|Annex(?:es)?|Sections?|Chapters?|Part|"
    r"this (?:paragraph|[Aa]rticle|clause|Chapter|Section|Part|point)|that (?:paragraph|[Aa]rticle|clause))"
)
_NUMERAL = r"(?:(?:\d+[A-Z]{0,3}|[IVX]+|[A-Z])(?![a-z])(?:\(\w+\))*|\(\w+\)(?:\(\w+\))*)"
_PLACE = (
    rf"(?:the (?:first|second|third|fourth|fifth|previous|said) (?:subparagraph|paragraph|sentence)|"
    rf"{_UNIT}(?: {_NUMERAL})?(?:,? ?(?:(?:and|or|to)(?= (?:{_UNIT}\b|{_NUMERAL}))|of(?= (?:paragraph|"
    rf"point|[Aa]rticle|Section|Chapter|"
    rf"Annex))|{_UNIT}|thereof|(?:first|second|third) subparagraph|{_NUMERAL})(?![a-z]))*"
    rf"(?: of (?:(?:this|that) (?:Regulation|Directive|Article|article)|{_ACT}))?|{_ACT}(?:(?:,| and| "
    rf"or) {_ACT})*)"
)
# A cross-reference with what introduces it: `, referred to in points (a) and (b) of Article 9(1),`.
_REFERENCE = re.compile(
    rf",? ?(?<![A-Za-z])(?:{_POINTING} (?:in|by|under|pursuant to|at|for in|in accordance with|on "
    rf"the basis of|by "
    rf"virtue of)"
    rf"|pursuant to|in accordance with|under|within the meaning of|in line with|as required by|in|by|"
    rf"for in) {_PLACE},?"
    rf"|,? ?of {_ACT}"
)
_DANGLING = re.compile(
    r"\b(?:this|these|those|such|said|aforesaid|thereof|thereto|therein|thereon|therefor|therewith|thereunder|"
    r"hereby|herein|former|latter|it|itself|they|them|he|she|him|his|her|hers|subparagraphs?|paragraphs?|"
    r"points?|clauses?|sub-clauses?|the following|above-mentioned|abovementioned|foregoing|same|thereafter|"
    r"[Aa]rticles?|first alternative|respectively|so|aforementioned|preceding|other than|[Aa]nnex(?:es)?|"
    r"Part|Chapter|"
    r"the day following|Section|Title|proviso|hereinafter|concerned|question|relevant|as the case may "
    r"be|\w+\))\b|[\[\]*;“”‘]|’\.|\.’|\d ?\["
)
_BREAKS = (
    " which ",
    " who ",
    " that ",
    " whose ",
    " whom ",
    " where ",
    " including ",
    " such as ",
    " as well as ",
)
_PREPOSITIONS = word_set(
    """for in with from on at within between under against by concerning regarding through during via
    over after without"""
)
_NEEDS_MORE = word_set(
    """respect accordance view order relation effect connection addition access compliance consultation
    account necessary required related relevant attention consideration competent interest responsible
    based impact influence set regard light subject case event basis terms pursuance virtue means way
    such that which resulting arising charge force place manner nature of to and or the a an its their
    any"""
)
_TRAILING = re.compile(
    r"[ ,]+(?:and|or|of|the|a|an|to|in|for|by|with|from|on|at|as|under|where|which|that|than|into|any|"
    r"all|its|their|"
    r"shall|may|not|between|relating|concerning|each|every|those|such|is|are|be|own|other|thereof|both|necessary|required|relevant|"
    r"(?:with|in) (?:respect|regard|relation|accordance|connection)|only|also|not|so|when|if|referred|"
    r"resulting|arising|regarding|through|via|within|during|allowing|specifying|"
    r"setting|establishing|containing|including|concerned|respectively|even|whether|depending)$"
)
_DETERMINERS = word_set(
    """the a an each every any all no some both such this that these those where when if in on for to by
    at persons only where upon"""
)
_STOP = word_set(
    """the a an of to in for and or by on with as at be is are was were it its that this which who what
    when how under from not any all may must shall can do does has have had law rule rules about if
    into their there than other such one"""
)


class Casing:
    """Knows which words a corpus writes small, so that a sentence's first word can be lower-cased."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Count words inside sentences.

        Args:
            texts: The corpus.
        """
        self._low: Counter[str] = Counter()
        self._high: Counter[str] = Counter()
        self.acronyms: set[str] = set()
        for text in texts:
            self._low.update(re.findall(r"\b[a-z][a-z-]+\b", text))
            self.acronyms.update(re.findall(r"\b[A-Z]{2,6}\b", text))
            self._high.update(w.lower() for w in re.findall(r"(?<=[a-z,] )[A-Z][a-z-]+\b", text))

    def lower_first(self, text: str) -> str:
        """`Providers of ...` -> `providers of ...`; names stay."""
        first, _, rest = text.partition(" ")
        word = first.lower()
        if word in ("you", "your", "we", "our"):  # licences write them large; `I` stays
            return word + text[len(first) :]
        if not first[:1].isupper() or first[1:] != word[1:]:
            return text
        second = rest.split(" ", 1)[0]
        named = second[:1].isupper() and word not in _DETERMINERS
        named = named and not (second.isupper() and len(second) > 1)
        if word in _DETERMINERS or (not named and self._low[word] > self._high[word]):
            return word + text[len(first) :]
        return text

    def small(self, word: str) -> str:
        """A heading's word as running text writes it: names and acronyms of the corpus stay large."""
        low = word.lower()
        if word.isupper() and len(word) > 1:
            name = word in self.acronyms and self._low[low] == 0
        else:
            name = self._high[low] > self._low[low]
        return word if name else low


def without_references(text: str) -> str:
    """Strip parentheses and cross-references such as `referred to in Article 9(1)`."""
    text = re.sub(
        r" ?\((?!EU|EC)[^()]*\)(?!\w)",
        lambda m: m.group() if re.match(r" ?\(\w{1,4}\)", m.group()) else "",
        text,
    )
    previous = None
    while previous != text:
        previous = text
        text = _REFERENCE.sub("", text)
    return re.sub(r"\s+", " ", text).replace(" ,", ",").strip(" ,")


def brief(text: str, limit: int = 14) -> str | None:
    """A phrase short enough for a question, or None where no clean cut exists.

    Args:
        text: A noun phrase, perhaps with complements.
        limit: Most words.
    """
    whole = without_references(text)
    main = _without_relatives(whole)
    if main != whole and _too_wide(main, whole):
        return None
    short = first_conjunct(main)
    words = short.split()
    if len(words) > limit:
        short = _cut_at_preposition(words, limit)
    short = _without_tail(short)
    short = _without_tail(_LOST_PARTICIPLE.sub("", short))
    if short != whole:
        short = _without_tail(_without_vague_end(short))
    if short != whole and re.search(r"^[^,]+, [\w-]+$", short):
        return None
    if _unfinished(short) or short.count("(") != short.count(")"):
        return None
    return short or None


# What a cut reference leaves: `the authorities designated [under Article 4]`.
_LOST_WORD = (
    r"(?:designated|issued|appointed|chosen|conferred|assigned|adopted|submitted|imposed|established|"
    r"maintained|drawn up|concluded|created|notified|collected|developed|managed|granted|affirmed|"
    r"governed|released)"
)
_LOST_PARTICIPLE = re.compile(
    r"(?<=[a-z])(?<! be)(?<! is)(?<! are)(?<! not)(?<!been)(?<!was)(?<!\bor)(?<!\band) "
    rf"{_LOST_WORD}(?: (?:or|and) {_LOST_WORD})?$"
)
_WIDE = re.compile(
    r"\b(?:any|all|each|every|those|such|no|a person|an?|persons|other)(?: [\w-]+){0,4}$|^(?!the |"
    r"its |their )(?:\w+ ){0,2}[\w-]+s$"
)


def _too_wide(main: str, whole: str) -> bool:
    """Whether a phrase without its relative clause says more than the law: `any activities [that ...]`."""
    rest = whole[len(main) :]
    return (
        re.match(r" (?:that|which|who|whose|whom|where) ", rest) is not None
        and _WIDE.search(main) is not None
    )


def _without_tail(text: str) -> str:
    previous = None
    while previous != text:
        previous = text
        text = _TRAILING.sub("", text).strip(" ,")
    return text


def _without_vague_end(text: str) -> str:
    """What a cut leaves at the end must not be a noun that called for more: `the matters [that ...]`."""
    words = text.split()
    if not words or words[-1].strip(",") not in _VAGUE:
        return text
    for at in range(len(words) - 2, 0, -1):
        if words[at] in _PREPOSITIONS or words[at] == "to":
            return " ".join(words[:at])
        if words[at] == "of":
            break
    return ""


def _unfinished(text: str) -> bool:
    words = text.split()
    if not words:
        return False
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last.endswith("ing") and last not in _ING_NOUNS and len(last) > 5:
        return True
    if last in ("what", "whether", "how", "as", "that", "who", "it", "up", "out", "them"):
        return True
    if last in verbs.BASE_VERBS and re.search(r"\bto \w+ly \w+$", text):
        return True
    return last in verbs.BASE_VERBS and before.strip(",") in (
        "to",
        "and",
        "or",
        "not",
        "shall",
        "must",
        "may",
    )


_VAGUE = word_set(
    """matters matter obligations conditions condition ground grounds requirements cases case extent
    manner way terms purposes areas area bodies circumstances powers functions provisions arrangements
    organisations ways things information persons person acts act issues instances period periods
    place anything something law amount body criteria number sum resolution resolutions use parts
    equality"""
)
_ING_NOUNS = word_set(
    """training testing processing monitoring hearing meeting sitting standing reporting marking building
    funding financing banking sharing labelling housing teaching pleading wellbeing understanding
    profiling proceeding backing planning licensing outsourcing subcontracting trafficking engineering
    manufacturing voting gambling timing finding listing ruling marketing advertising being"""
)


def _without_relatives(text: str) -> str:
    """Drop relative clauses; a content clause (`that standards are clear`) stays."""
    padded = f" {text} "
    cuts = [padded.find(mark, 6) for mark in _BREAKS]
    cut = min((at for at in cuts if at > 0), default=len(padded))
    return padded[:cut].strip(" ,")


def first_conjunct(text: str) -> str:
    """`inform the authority and shall ...` -> `inform the authority`."""
    for match in re.finditer(
        r",? (?:and|or)(?: (?P<aux>shall|may|to|also|is|are|has|have|includes?|must|can|not))? "
        r"(?P<word>[a-z]+)\b",
        text,
    ):
        verb = match.group("word")
        clear = verb not in NOUN_TOO or re.match(
            r" (?:the|a|an|any|its|their|to|that|it|on)\b", text[match.end() :]
        )
        if match.group("aux") or (verb in verbs.BASE_VERBS and clear):
            return text[: match.start()].strip(" ,")
    return text


NOUN_TOO = word_set(
    """access account act address advance alert answer appeal approach attempt audit award balance
    benefit bill bind block book breach break broadcast buy cast cause change charge check claim clean
    clear close comment commission conduct contact content contract control copy count cover credit
    damage debit default delay design discount dispatch display dispute document drive drop ease
    effect evidence exercise exploit finance fit force form function gain guide harm help hire host
    implement influence interview invoice issue label land last launch lead lease let level limit link
    list lock log mail mandate mark market measure mention move name object offer order park patch
    place plan plant play practice press print process produce profit progress project query question
    quote rank rate record redress repair report request research reserve respect rest result return
    review reward ride rule run sample sanction save scan schedule screen seal search share ship show
    sign sort split sponsor start state stay stop store strike strip study subject supply support
    survey switch tax tender test tie touch trace track trade train transfer transport treat trigger
    trust turn type use value view visit vote wait walk want wash watch win wind witness work"""
)


def _cut_at_preposition(words: list[str], limit: int) -> str:
    """Cut before a complement that the phrase can do without."""
    for end in range(min(limit, len(words) - 1), 4, -1):
        before = words[end - 1]
        if words[end] not in _PREPOSITIONS or before.lower() in _NEEDS_MORE or before in _PREPOSITIONS:
            continue
        kept = " ".join(words[:end])
        if "," in kept and " and " not in kept and " or " not in kept:
            continue
        if before.endswith(("ing", "ed")) or before.endswith(","):
            continue
        return kept
    return ""


# `the committee Regulation (EU) No 1` : what tied the act to its noun was lost.
_BARE_ACT = re.compile(
    r"\b(?!(?:of|under|with|in|by|and|or|does|do|is|must|may|can|to|from|for|has|shall|repeal|apply|applying)\b)"
    r"[a-z]\w* (?:Regulation|Directive|Decision) \(E"
)
_BAD_END = re.compile(
    r"(?:in particular|neither|and as|in accordance|, and)\b[ ?.]*$|\b(?:offer|provide)\w* neither\b|"
    r"\b(?:in|of|to|by|with|for|as), and\b|[a-z], [a-z-]+[ ?.]*$|\b(?:themselves|itself|each "
    r"other)\b|\bany of the are\b|\bone or more of the \w+[ ?.]*$|\b(?:an? an?|the the)\b"
)


def dangles(question: str) -> bool:
    """Whether a question leans on a text that its reader does not see."""
    if _BARE_ACT.search(question) or _BAD_END.search(question):
        return True
    text = re.sub(r"\b(?:Article|Section) [\d.]+[A-Z]*(?: of | GDPR| mentions| refers)", " ", question)
    text = re.sub(
        r"(?:Regulations?|Directives?|Decision|Recommendation) (?:\((?:EU|EC|EEC|Euratom)(?:, "
        r"Euratom)?\) )?(?:No )?[\d/]+[/\w]*",
        "",
        text,
    )
    text = re.sub(r"^(?:is|was) it|job is it|is it to", "", text)
    text = re.sub(r"\bthat (?=the|a|an|any|their|its|there|all|no|each|every)", "", text)
    text = re.sub(r"\((?:[A-Z][A-Za-z]+|EU|EC)\)", "", text)
    return _DANGLING.search(text) is not None


def content_words(text: str) -> list[str]:
    """Lower-cased words that carry meaning."""
    return [w for w in re.findall(r"[a-z0-9][a-z0-9'’-]*", text.lower()) if w not in _STOP]


def singular_role(subject: str) -> str | None:
    """`Providers of AI systems` -> `a provider of AI systems`; None for what is no role."""
    words = re.sub(r"^(?:the|a|an|any|each|every|all|no) ", "", subject, flags=re.I).split()
    if not words or len(words) > 6:
        return None
    head = next(
        (i for i, w in enumerate(words) if i + 1 < len(words) and words[i + 1] in ("of", "for", "under")),
        len(words) - 1,
    )
    word = words[head].lower()
    singular = re.sub(r"ies$", "y", word) if word.endswith("ies") else re.sub(r"s$", "", word)
    if not re.search(
        r"(?:ider|ucer|urer|orter|utor|oyer|ller|ssor|ator|tive|entity|undertaking|person|citizen|holder|ployee|authority|subject)$",
        singular,
    ):
        return None
    if (
        word != words[head]
        or " and " in f" {subject} "
        or " or " in subject
        or singular in ("authority", "representative", "person")
    ):
        return None
    phrase = " ".join([*words[:head], singular, *words[head + 1 :]])
    if phrase != phrase.lower() and not re.search(r"\b[A-Z]{2,}\b", phrase):
        return None
    article = (
        "an" if phrase[0].lower() in "aeiou" and not phrase.lower().startswith(("uni", "use", "eu")) else "a"
    )
    return f"{article} {phrase}"
