"""English verb forms for questions: which words are verbs, gerunds, and bases of participles."""

from __future__ import annotations

import re
from collections.abc import Callable

from mark.data_prep.words import word_set

BASE_VERBS = word_set(
    """abandon abide abolish abstain accelerate accept access accommodate account achieve acknowledge
    acquire act adapt add address adhere adjourn adjudicate adjust administer admit adopt advance
    advertise advise affect affirm aggregate agree aim alert allege allocate allot allow alter amend
    analyse annex announce annul answer anticipate appeal appear apply appoint apportion approve
    archive arise arrange arrest ascertain ask assemble assent assert assess assign assist assume
    assure attach attend audit authenticate authorise authorize avoid award base be bear become begin
    believe benefit bill bind block book borrow breach break bring broadcast build buy calculate call
    cancel capture carry cast cause cease certify chair challenge change charge check choose cite
    claim clarify classify clean clear close collaborate collate collect combine come commence comment
    commission commit communicate compare compel compensate compile complain complement complete
    comply compose comprise compute conceal conclude conduct confer configure confirm conform connect
    consent conserve consider consist consolidate constitute construct consult contact contain contest
    continue contract contribute control convene convert convey cooperate coordinate copy correct
    correspond counsel count cover create credit cut deal debit decide declare decline decrease deduct
    deem default defend defer define delay delegate delete deliver demand demonstrate deny deploy
    deposit deprecate deprive derogate describe design designate destroy detain detect determine
    develop deviate devise dial diminish direct disable disagree disband discharge disclose
    discontinue discount discover discriminate discuss dismantle dismiss dispatch display dispose
    dispute disqualify disrupt disseminate dissolve distinguish distribute divide document donate
    download draft drain draw drive drop earn eat effect elaborate elapse elect eliminate embed emit
    employ empower enable enact encourage end endeavour endorse enforce engage enhance enjoy enlarge
    enrol ensure entail enter entertain entitle entrust enumerate equip erase erect escalate establish
    estimate evacuate evaluate evict evidence examine exceed exchange exclude excuse execute exempt exercise
    exhaust exhibit exist expand expect expel expire explain exploit explore export expose express
    extend facilitate fail fasten feed file fill finalise finance find fit fix fly follow forbid
    foresee forfeit forgive form formulate forward foster fulfil function fund furnish further gain
    gather give govern grant grow guarantee guide halt handle harm have hear help hinder hire hold
    host identify ignore illustrate impair impede implement imply import impose improve include
    incorporate increase indemnify indicate induce infer inflict influence inform infringe inherit
    initiate inquire insert inspect install institute instruct insure integrate intend interfere
    interpret interview introduce invest investigate invite invoice invoke involve issue join judge
    justify keep kill know label land last launch lay lead learn lease leave legislate lend let levy
    liaise license lie lift limit link list listen load locate lock lodge log lose lower mail maintain
    make manage mandate manufacture map mark market measure meet mention merge migrate minimise miss
    mitigate mix modify monitor move name narrow neglect negotiate nominate notarise notify obey
    object oblige observe obstruct obtain occupy occur offer open operate oppose opt order organise originate
    outline outsource overrule oversee overturn own paint park participate pass patch pay penalise
    perceive perform permit pick place plan plant play please pledge possess postpone practise predict
    prefer prepare prescribe present preserve press presume prevail prevent print prioritise proceed
    process procure produce profit progress prohibit prolong promote prompt promulgate pronounce
    propagate propose prosecute protect prove provide publish pull punish purchase pursue push put qualify
    query question quit quote raise rank rate ratify reach read reappoint reassemble reassess reassign
    rebuild rebut recall receive reclaim recognise recommend reconcile reconsider reconstitute record
    recover rectify redeem redirect redress reduce refer reflect refrain refund refuse regard register
    regulate rehire reimburse reinforce reinstate reject relate release relocate rely remain remedy
    remind remove remunerate render renew rent reopen repair repay repeal replace reply report
    represent redistribute relicense reproduce request require rescind
    resell reserve reset reside resign resolve resort
    respect respond rest restore restrict restructure resubmit result resume retain retire return
    reveal revert review revise revisit revoke reward ride rotate rule run safeguard salvage sample
    sanction satisfy save scan schedule screen seal search secure see seek segregate select sell send
    separate serve set settle share shield ship shorten show shut sign sit skip solicit solve sort
    speak specify spend split sponsor stand start state stay stipulate stop store streamline
    strengthen strike strip strive structure study subcontract subject sublet sublicense submit subscribe
    substitute succeed sue suffer suggest summon supersede supervise supplement supply support surpass
    surrender survey suspend sustain swear switch tailor take talk tax teach tell tender terminate
    test think tie tolerate touch trace track trade train transfer translate transmit transport
    transpose treat trigger turn type undergo undermine understand undertake uninstall unite unlock update
    upgrade uphold upload urge use utilise vacate vaccinate validate vary verify vest violate visit
    void vote wait waive walk want warn warrant wash watch wear weigh win wind wipe withdraw withhold
    withstand witness work write"""
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

NOT_PARTICIPLES = word_set(
    """need indeed exceed proceed succeed speed feed seed hundred bed red led-in naked sacred kindred
    sufficient consistent competent different present absent evident independent dependent relevant
    incident permanent resident president equivalent transparent content urgent recent inconsistent"""
)

PRONOUNS = word_set("i we you")  # who is spoken to, or speaks: they take `are`, `do`, `have`

_DOUBLED = word_set(
    """admit allot commit compel confer defer deter get label begin cut level occur omit permit plan
    prefer put refer regret remit rid run set sit stop submit swap transfer transmit travel forbid
    drop bar ban tag log win cancel"""
)
_NO_DOUBLE_PAST = word_set("ss ll zz ff")


def gerund(phrase: str) -> str:
    """The -ing form of a verb phrase's first word: `carry out` -> `carrying out`."""
    return _inflect(phrase, _gerund)


def _inflect(phrase: str, form: Callable[[str], str]) -> str:
    """Apply a form to the first verb and to those coordinated with it: `amend or repeal the act`."""
    match = re.match(
        r"\w+((?:, \w+)*,? (?:and|or) (?:to )?(\w+))(?= (?:the|a|an|any|all|each|its|their|[a-z]+)\b)", phrase
    )
    if match is None or match.group(2) not in BASE_VERBS:
        first, space, rest = phrase.partition(" ")
        return f"{form(first)}{space}{rest}"
    head = re.sub(
        r"\w+", lambda m: m.group() if m.group() in ("and", "or", "to") else form(m.group()), match.group()
    )
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
    if words and (words[-1] in PRONOUNS or words[0] in PRONOUNS):  # `are you`, `do I`, `must we`
        return True
    if not words or words[0] in ("each", "every", "any", "a", "an", "no", "this", "that", "one"):
        return words[:1] in (["any"], ["no"]) and _plural_word(_head(words))
    if " and " in f" {noun_phrase.lower()} " and " or " not in f" {noun_phrase.lower()} ":
        before = noun_phrase.lower().split(" and ")[0].split()
        if " of " not in f" {' '.join(before)} ":
            return True
    return words[0] in ("all", "both", "those", "these", "they") or _plural_word(_head(words))


def _head(words: list[str]) -> str:
    stops = (
        "of",
        "for",
        "in",
        "to",
        "on",
        "under",
        "with",
        "within",
        "from",
        "by",
        "at",
        "that",
        "which",
        "who",
    )
    for index, word in enumerate(words):
        if index > 0 and (word in stops or word.rstrip(",") != word):
            if word not in stops:
                return word.rstrip(",")
            return words[index - 2] if index > 1 and words[index - 1].endswith("ed") else words[index - 1]
    return words[-1]


def _plural_word(word: str) -> bool:
    if word in ("persons", "people", "parties", "bodies", "criteria", "children", "media", "data"):
        return True
    return word.endswith("s") and not word.endswith(("ss", "us", "is")) and word not in ("whereas", "news")
