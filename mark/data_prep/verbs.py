"""English verb forms for questions: which words are verbs, gerunds, and bases of participles."""

from __future__ import annotations

import re
from collections.abc import Callable

BASE_VERBS = frozenset(
    """abide abolish abstain accept access achieve acquire act adapt add address adhere adjourn adjust
    administer admit adopt advise affect affirm agree aim allocate allot allow amend analyse annex announce
    annul answer appeal appear apply appoint apportion approve arise arrange arrest ascertain ask assemble
    assent assess assign assist assume assure attach attend audit authenticate authorise authorize avoid
    award base be bear become begin believe benefit borrow bring build calculate call carry cause cease
    certify chair challenge change charge check choose cite claim clarify classify close collaborate collate
    collect come commence comment commit communicate compare compel compensate complain complement complete
    comply comprise conclude conduct confer confirm conform consent consider consist consolidate constitute
    consult contact contain contest continue contract contribute control convene cooperate coordinate copy
    correct correspond cover create cut deal decide declare decrease deduct deem defend define delay delegate
    delete deliver demand demonstrate deny deposit deprive derogate describe design designate detain detect
    determine develop deviate direct disband discharge disclose discontinue discover discriminate discuss
    dismiss display dispose disqualify disseminate dissolve distinguish distribute divide document draft draw
    earn effect elect eliminate employ empower enable enact encourage end endeavour enforce engage enhance
    enjoy ensure enter entail entitle entrust enumerate erase establish estimate evaluate examine exceed
    exchange exclude execute exempt exercise exist expect explain explore export express extend facilitate
    fail file fill finalise finance find fix follow forbid form formulate forward foster fulfil function fund
    furnish further gather give govern grant guarantee guide handle have hear help hinder hold hire identify
    impair implement import impose impede improve include incorporate increase indicate inform inherit
    initiate inquire inspect institute integrate interfere interpret introduce invest investigate invite
    invoke involve issue join judge justify keep know label lay lead lease leave legislate lend levy license
    lie limit link list lodge log lose maintain make manage mandate manufacture mark market measure meet
    merge minimise mitigate modify monitor move name negotiate nominate notify object oblige observe obtain
    occupy offer open operate oppose order organise originate outsource oversee own participate pass pay
    perform permit place plan pledge possess postpone practise prepare prescribe present preserve presume
    prevail prevent proceed process procure produce prohibit prolong promote promulgate prompt pronounce
    propose prosecute protect prove provide publish punish purchase pursue put qualify question raise ratify
    reach read reappoint reassemble rebut recall receive recognise recommend reconcile reconsider reconstitute
    record recover rectify reduce refer reflect refrain refund refuse regard register regulate reimburse
    reject relate release rely remain remedy remind remove remunerate renew rent repay repeal replace reply
    report represent request require reserve reside resign resolve resort respect respond rest restore
    restrict result resume retain retire return reveal revert review revise revoke safeguard sanction satisfy
    schedule seal secure see seek select sell send separate serve set settle share show sign sit specify spend
    stand start state stay stop store streamline strengthen strive structure subcontract subject submit
    suffer suggest summon supersede supervise supplement supply support surrender suspend sustain swear take
    terminate test trace track trade train transfer translate transmit transpose transport treat undergo
    undermine undertake update uphold use utilise vacate validate vary verify vest visit void vote waive want
    warn warrant withdraw withhold work write""".split()
)

_IRREGULAR_PARTICIPLES = {
    "borne": "bear", "begun": "begin", "bound": "bind", "brought": "bring", "built": "build",
    "chosen": "choose", "come": "come", "cut": "cut", "dealt": "deal", "drawn": "draw", "drawn up": "draw up",
    "driven": "drive", "fixed": "fix", "forbidden": "forbid", "found": "find", "given": "give",
    "granted": "grant", "heard": "hear", "held": "hold", "kept": "keep", "known": "know", "laid": "lay",
    "led": "lead", "left": "leave", "lent": "lend", "lost": "lose", "made": "make", "met": "meet",
    "overridden": "override", "paid": "pay", "put": "put", "read": "read", "said": "say", "seen": "see",
    "sent": "send", "set": "set", "shown": "show", "sold": "sell", "spent": "spend", "sworn": "swear",
    "taken": "take", "thought": "think", "undertaken": "undertake", "upheld": "uphold",
    "withdrawn": "withdraw", "withheld": "withhold", "written": "write", "proven": "prove",
    "overseen": "oversee", "sought": "seek", "understood": "understand", "told": "tell", "won": "win",
}  # fmt: skip

NOT_PARTICIPLES = frozenset(
    """need indeed exceed proceed succeed speed feed seed hundred bed red led-in naked sacred kindred sufficient
    consistent competent different present absent evident independent dependent relevant incident permanent
    resident president equivalent transparent content urgent recent inconsistent""".split()
)

_DOUBLED = frozenset(
    """admit allot commit compel confer defer deter get label begin cut level occur omit permit plan prefer put
    refer regret remit rid run set sit stop submit swap transfer transmit travel forbid drop bar ban tag log
    win cancel""".split()
)
_NO_DOUBLE_PAST = frozenset("ss ll zz ff".split())


def gerund(phrase: str) -> str:
    """The -ing form of a verb phrase's first word: `carry out` -> `carrying out`."""
    return _inflect(phrase, _gerund)


def _inflect(phrase: str, form: Callable[[str], str]) -> str:
    """Apply a form to the first verb and to those coordinated with it: `amend or repeal the act`."""
    match = re.match(r"\w+((?:, \w+)*,? (?:and|or) (?:to )?(\w+))(?= (?:the|a|an|any|all|each|its|their|[a-z]+)\b)", phrase)
    if match is None or match.group(2) not in BASE_VERBS:
        first, space, rest = phrase.partition(" ")
        return f"{form(first)}{space}{rest}"
    head = re.sub(r"\w+", lambda m: m.group() if m.group() in ("and", "or", "to") else form(m.group()), match.group())
    return head + phrase[match.end() :]


def _gerund(verb: str) -> str:
    if verb == "be":
        form = "being"
    elif verb in _DOUBLED:
        form = verb + verb[-1] + "ing"
    elif verb.endswith("ie"):
        form = verb[:-2] + "ying"
    elif verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        form = verb[:-1] + "ing"
    else:
        form = verb + "ing"
    return form


def third_person(phrase: str) -> str:
    """The present third person singular: `carry out` -> `carries out`."""
    return _inflect(phrase, _third_person)


def _third_person(verb: str) -> str:
    if verb in ("be", "have"):
        form = {"be": "is", "have": "has"}[verb]
    elif verb.endswith(("s", "sh", "ch", "x", "z", "o")):
        form = verb + "es"
    elif verb.endswith("y") and verb[-2:-1] not in "aeiou":
        form = verb[:-1] + "ies"
    else:
        form = verb + "s"
    return form


def is_participle(word: str) -> bool:
    """Whether a word after `be` reads as a past participle."""
    if word in _IRREGULAR_PARTICIPLES:
        return True
    return word.endswith("ed") and len(word) > 3 and word not in NOT_PARTICIPLES


def base_of_participle(word: str) -> str | None:
    """The base form of a past participle, or None where it is not known for sure."""
    if word in _IRREGULAR_PARTICIPLES:
        return _IRREGULAR_PARTICIPLES[word]
    if not is_participle(word):
        return None
    stem = word[:-2]
    options = [stem + "e", stem]
    if stem.endswith("i"):
        options.insert(0, stem[:-1] + "y")
    if len(stem) > 2 and stem[-1] == stem[-2] and stem[-2:] not in _NO_DOUBLE_PAST:
        options.insert(0, stem[:-1])
    for option in options:
        if option in BASE_VERBS:
            return option
    return None


def is_plural(noun_phrase: str) -> bool:
    """Whether a noun phrase as a subject takes `do`, `have`, `are`."""
    words = noun_phrase.lower().split()
    if not words or words[0] in ("each", "every", "any", "a", "an", "no", "this", "that", "one"):
        return words[:1] in (["any"], ["no"]) and _plural_word(_head(words))
    if " and " in f" {noun_phrase.lower()} " and " or " not in f" {noun_phrase.lower()} ":
        before = noun_phrase.lower().split(" and ")[0].split()
        if " of " not in f" {' '.join(before)} ":
            return True
    return words[0] in ("all", "both", "those", "these", "they") or _plural_word(_head(words))


def _head(words: list[str]) -> str:
    stops = ("of", "for", "in", "to", "on", "under", "with", "within", "from", "by", "at", "that", "which", "who")
    for index, word in enumerate(words):
        if index > 0 and (word in stops or word.rstrip(",") != word):
            return words[index - 1] if word in stops else word.rstrip(",")
    return words[-1]


def _plural_word(word: str) -> bool:
    if word in ("persons", "people", "parties", "bodies", "criteria", "children", "media", "data"):
        return True
    return word.endswith("s") and not word.endswith(("ss", "us", "is")) and word not in ("whereas", "news")
