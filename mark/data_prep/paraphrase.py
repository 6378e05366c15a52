"""A small lexicon that puts a question into other words than the law's.

It is applied to questions only: the answer stays verbatim.
"""

from __future__ import annotations

import random
import re

_PAIRS: list[tuple[str, tuple[str, ...]]] = [
    (r"without (?:undue|unnecessary) delay", ("promptly", "quickly", "soon")),
    (r"natural or legal persons?", ("person or company", "people or companies")),
    (r"natural persons", ("individuals", "people")),
    (r"natural person", ("individual", "person")),
    (r"legal persons", ("companies", "organisations")),
    (r"Member States", ("Member States", "EU countries")),
    (r"a Member State", ("a Member State", "an EU country")),
    (r"third countries", ("countries outside the EU", "non-EU countries")),
    (r"third country", ("country outside the EU", "non-EU country")),
    (r"personal data breach", ("data breach", "breach of personal data", "data leak")),
    (r"placing on the market", ("selling", "putting on the market", "marketing")),
    (r"placed on the market", ("sold", "put on the market")),
    (r"place on the market", ("sell", "put on the market")),
    (r"made available on the market", ("sold", "offered on the market")),
    (r"putting into service", ("first use", "deployment")),
    (r"prior to", ("before",)),
    (r"with regard to|in respect of|in relation to|with respect to", ("about", "regarding", "concerning")),
    (r"for the purposes? of", ("for",)),
    (r"in order to", ("to",)),
    (r"take into account", ("consider", "factor in")),
    (r"taking into account", ("considering",)),
    (r"carry out", ("conduct", "perform")),
    (r"carrying out", ("conducting", "performing")),
    (r"carried out", ("conducted", "done")),
    (r"draw up", ("prepare", "write", "produce")),
    (r"drawing up", ("preparing", "writing")),
    (r"drawn up", ("prepared", "written")),
    (r"designate", ("name", "choose", "appoint")),
    (r"designating", ("naming", "choosing")),
    (r"designated", ("named", "chosen")),
    (r"notify(?= (?:the|any|its|their|all|each|[A-Z]))", ("inform", "tell", "alert")),
    (r"notifying", ("informing", "telling")),
    (r"(?<=be )notified", ("informed",)),
    (r"inform", ("tell", "inform")),
    (r"informed", ("told", "informed")),
    (r"submit", ("send", "hand in", "file")),
    (r"submitting", ("sending", "handing in")),
    (r"submitted", ("sent", "handed in")),
    (r"transmit", ("send", "pass on")),
    (r"transmitted", ("sent", "passed on")),
    (r"communicate", ("pass on", "report", "communicate")),
    (r"terminate", ("end", "stop")),
    (r"terminating", ("ending", "stopping")),
    (r"terminated", ("ended", "stopped")),
    (r"cease", ("stop",)),
    (r"commence", ("begin", "start")),
    (r"revoke", ("withdraw", "cancel")),
    (r"revoked", ("withdrawn", "cancelled")),
    (r"establish(?! that)", ("set up", "create", "establish")),
    (r"established", ("set up", "created", "established")),
    (r"constitute", ("set up", "form")),
    (r"constituted", ("set up", "formed")),
    (r"ensure", ("make sure", "ensure", "see to it")),
    (r"ensuring that", ("making sure that",)),
    (r"provide (?!for)", ("give ", "provide ", "supply ")),
    (r"obtain", ("get", "obtain")),
    (r"obtaining", ("getting",)),
    (r"request(?= (?:the|a|an|any|that|information|from)\b)", ("ask for", "request")),
    (r"require(?= the| a| an| any| that)", ("demand", "require")),
    (r"assist", ("help", "assist", "support")),
    (r"assisting", ("helping", "supporting")),
    (r"assisted", ("helped",)),
    (r"facilitate", ("help with",)),
    (r"implement", ("put in place", "introduce", "implement")),
    (r"implementing(?= (?:the|a|an|appropriate))", ("putting in place",)),
    (r"retain", ("keep",)),
    (r"retained", ("kept",)),
    (r"maintain", ("keep", "maintain")),
    (r"maintaining", ("keeping",)),
    (r"examine", ("look into", "check", "examine")),
    (r"verify", ("check",)),
    (r"verifying", ("checking",)),
    (r"assess", ("evaluate", "assess")),
    (r"assessing", ("evaluating",)),
    (r"monitor", ("keep an eye on", "watch over", "monitor")),
    (r"monitoring(?= the)", ("watching over", "tracking")),
    (r"adopt(?= (?:measures|decisions?|steps|a decision)\b)", ("take",)),
    (r"promulgate", ("issue",)),
    (r"promulgated", ("issued",)),
    (r"publish", ("publish", "make public")),
    (r"disclose", ("reveal", "share")),
    (r"disclosed", ("revealed", "shared")),
    (r"lay down", ("set", "define")),
    (r"specify", ("spell out", "define", "specify")),
    (r"determine", ("decide", "determine")),
    (r"determined", ("decided",)),
    (r"comply with", ("follow", "meet", "obey", "respect")),
    (r"complying with", ("following", "meeting")),
    (r"fulfil", ("meet", "satisfy")),
    (r"cooperate", ("work together", "cooperate")),
    (r"exercise", ("use", "exercise")),
    (r"exercised", ("used", "exercised")),
    (r"perform", ("carry out",)),
    (r"performed", ("carried out", "done")),
    (r"(?<!the )discharge(?= (?:the|its|their|his))", ("carry out",)),
    (r"(?<!any )(?<!the )(?<!\ba )grant", ("give", "grant")),
    (r"granted", ("given", "granted")),
    (r"confer", ("give", "grant")),
    (r"conferred", ("given", "granted")),
    (r"impose", ("set", "impose")),
    (r"imposed", ("set", "imposed")),
    (r"remove", ("remove", "dismiss")),
    (r"prohibit", ("ban", "forbid")),
    (r"prohibited", ("banned", "forbidden")),
    (r"prevent", ("stop", "prevent", "avoid")),
    (r"mitigate", ("reduce", "limit")),
    (r"amend", ("change", "amend", "modify")),
    (r"amending", ("changing",)),
    (r"amended", ("changed",)),
    (r"remuneration|emoluments", ("pay", "salary")),
    (r"in writing", ("in written form", "in writing")),
    (r"annually", ("every year", "each year")),
    (r"shall", ("must",)),
    (r"as soon as possible", ("quickly",)),
    (r"upon", ("on", "after")),
    (r"whenever", ("when",)),
    (r"undertakings(?! to)", ("companies", "businesses")),
    (
        r"(?<=an )undertaking|(?<=the )undertaking|(?<=any )undertaking|(?<=each )undertaking",
        ("company", "business"),
    ),
    (r"micro, small and medium-sized enterprises", ("small businesses", "SMEs")),
    (
        r"the European Parliament and (?:of )?(?:to )?the Council",
        ("Parliament and Council", "the EU legislators"),
    ),
    (r"vacancy", ("empty seat", "vacancy")),
    (r"vacant", ("empty", "vacant")),
    (r"expiration|expiry", ("end",)),
    (r"dissolution", ("dissolving", "dissolution")),
    (r"erasure", ("deletion", "erasing", "erasure")),
    (r"rectification", ("correction", "rectification")),
    (r"erase", ("delete",)),
    (r"competent authorities", ("competent authorities", "regulators", "responsible authorities")),
    (r"competent authority", ("competent authority", "regulator", "responsible authority")),
    (r"supervisory authority", ("supervisory authority", "regulator", "data protection authority")),
    (r"supervisory authorities", ("supervisory authorities", "regulators")),
    (r"technical and organisational measures", ("safeguards", "technical and organisational measures")),
    (r"appropriate", ("suitable", "proper", "appropriate")),
    (r"adequate", ("sufficient", "adequate")),
    (r"necessary", ("needed", "necessary")),
    (r"(?<!\ba )(?<!\ban )sufficient", ("enough", "sufficient")),
    (r"the House of the People", ("the House of the People", "the Lok Sabha", "the lower house")),
    (r"the Council of States", ("the Council of States", "the Rajya Sabha", "the upper house")),
    (r"the Legislature of a State", ("a State legislature", "a state's legislature")),
]
# Terms of art in which an everyday word would be wrong.
_FIXED = re.compile(
    r"\b(?:implementing (?:acts?|(?:technical )?standards?|measures?|decisions?|regulations?)|"
    r"[Nn]otified bod(?:y|ies)|"
    r"[Nn]otifying authorit(?:y|ies)|established in|place of establishment|Data Protection Officers?|"
    r"appropriate (?:Government|Legislature|authority)|competent Legislature|Notified Bod\w+|"
    r"provide(?:s|d)? for|lead supervisory authority|main establishment)\b"
)
_PATTERNS = [(re.compile(rf"\b(?:{pattern})(?![\w-])"), options) for pattern, options in _PAIRS]


def paraphrase(question: str, rng: random.Random, strength: float = 0.85, keep: str = "") -> str:
    """Swap legal words for everyday ones.

    Args:
        question: The question; quoted terms in it stay as they are.
        rng: A seeded generator.
        strength: Probability of each swap, in [0, 1].
        keep: A part that must stay as it is (a defined term, a document's name).
    """
    held = question.find(keep) if keep else -1
    if held >= 0:
        before, after = question[:held], question[held + len(keep) :]
        return paraphrase(before, rng, strength) + keep + paraphrase(after, rng, strength)
    protected = _FIXED.search(question)
    if protected is not None:
        before, after = question[: protected.start()], question[protected.end() :]
        return paraphrase(before, rng, strength) + protected.group() + paraphrase(after, rng, strength)
    text = _report(question, rng)
    for pattern, options in _PATTERNS:
        if not pattern.search(text) or rng.random() > strength:
            continue
        swap = rng.choice(options)
        text = pattern.sub(swap, text, count=1)
    return with_right_articles(text)


def _report(text: str, rng: random.Random) -> str:
    """`notify the breach to the authority`: here `tell` would be wrong, `report` is right."""
    match = re.search(r"\b(notif(?:y|ying|ied))\b(?=[^,?]{3,80} to (?:the|its|their|a|each|any|[A-Z]))", text)
    if match is None:
        return text
    form = {"notify": "report", "notifying": "reporting", "notified": "reported"}[match.group(1)]
    return text[: match.start()] + form + text[match.end() :] if rng.random() < 0.9 else text


def with_right_articles(text: str) -> str:
    """`a adequate` -> `an adequate`, `an suitable` -> `a suitable`; acronyms are left alone."""
    text = re.sub(
        r"\b([Aa])n (?=(?:[b-df-hj-np-tv-z](?!our\b|ones)|uni|use|eu|Euro|one\b)[a-z])", r"\1 ", text
    )
    return re.sub(r"\b([Aa]) (?=(?!uni|use|usa|eu|one\b|Uni|Euro)[aeiouAEIO][a-z])", r"\1n ", text)
