"""From passages to what the rules read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from mark.data_prep.clauses import parse
from mark.data_prep.naming import document_names
from mark.data_prep.phrases import Casing
from mark.data_prep.references import Provisions
from mark.data_prep.rules.base import Source
from mark.data_prep.sentences import Statement, list_blocks, statements
from mark.data_prep.verbs import BASE_VERBS
from mark.records import Chunk

_GENERIC_TOPICS = re.compile(
    r"(?i)^(?:(?:subject[- ]matter|scope|definitions?|general|interpretation|procedure|objectives?|"
    r"general provisions?|"
    r"general (?:principles|obligations)|preamble|annex.*|schedule.*|amendments?.*|repeal.*|"
    r"addressees?|entry into force.*|"
    r"savings?|transitional.*|other .*|miscellaneous.*|application.*|evaluation.*|review.*|"
    r"transposition.*)(?: and .*)?)$"
)


_FOOTNOTE = re.compile(r"^\(?\s?\*|\( ?[*\d]+ ?\) |\bOJ [LC]\b|^\W{2,}")


def chunk_sources(
    chunks: Sequence[Chunk], casing: Casing, split_of: Mapping[str, str] | None = None
) -> Iterator[tuple[Chunk, list[Source]]]:
    """The statements of each passage, parsed.

    Args:
        chunks: In document order.
        casing: Of the whole corpus.
        split_of: Chunk id -> split, which no cross-reference leaves; without it none leaves its section.
    """
    provisions = Provisions(chunks, split_of)
    seen: set[tuple[str, str]] = set()
    for chunk in chunks:
        opens = (chunk.doc_id, chunk.section) not in seen
        seen.add((chunk.doc_id, chunk.section))
        names = document_names(chunk.title, casing.acronyms)
        topic = topic_of(chunk, casing)
        blocks = tuple(list_blocks(chunk))
        sources = []
        for number, statement in enumerate(statements(chunk)):
            sentence = joined(statement)
            if _FOOTNOTE.search(statement.text):
                continue
            clause = None if statement.cut or sentence.endswith((":", "—", "–")) else parse(sentence)
            sources.append(
                Source(
                    chunk,
                    statement,
                    sentence,
                    clause,
                    topic,
                    opens,
                    names,
                    casing,
                    blocks if number == 0 else (),
                    provisions,
                )
            )
        yield chunk, sources


def joined(statement: Statement) -> str:
    """A list item with its lead, so that it can be read as one clause."""
    if not statement.lead:
        return statement.text
    lead = re.sub(
        r"[,]? (?:at least )?(?:the following|as follows|any of the following|one of the "
        r"following)[^:]{0,40}:$",
        "",
        statement.lead,
    )
    if statement.text.split()[0] in BASE_VERBS:  # `shall take the following actions: (a) provide ...`
        lead = re.sub(r" (shall|may|must) [a-z][a-z ]*$", r" \1", lead)
    return f"{lead.rstrip(' :—–-')} {statement.text}"


def topic_of(chunk: Chunk, casing: Casing) -> str:
    """The innermost heading as people would say it; empty where it says nothing."""
    if not chunk.heading_path:
        return ""
    heading = re.sub(r"\([^)]*\)", "", chunk.heading_path[-1])
    heading = re.sub(
        r"^(?:(?:Article|Section|Clause|Part|Chapter|Rule|§)\s*[\dIVXLC]+[A-Z]*[.:–—-]*|\d+(?:\.\d+)*\.?)\s*",
        "",
        heading,
    ).strip(" .:–—-")
    words = heading.split()
    if not 1 <= len(words) <= 12 or _GENERIC_TOPICS.match(heading) or (len(words) == 1 and len(heading) < 5):
        return ""
    if heading.isupper() and len(words) > 1:
        heading = heading.lower()
    heading = re.sub(
        r"^(?:(?:Special |Other |Supplementary |Further )?[Pp]rovisions? (?:as to|with respect to|"
        r"relating to|for|in case of|regarding) )",
        "",
        heading,
    )
    if re.match(r"[A-Z][a-z]*(?:ion|ment|ance|ence|ure|sal|ing|ship|ers) (?:of|for|to|on|in|by) ", heading):
        heading = heading[0].lower() + heading[1:]
    topic = casing.lower_first(re.sub(r", etc$", "", heading))
    needs_article = re.match(
        r"(?:right|power|[a-z]+(?:ion|ment|ance|ence|ure|sal|ty|ge)|appeal|oath|salary|duty|seat|term|"
        r"control|use|role|scope|withdrawal|renewal) (?:of|to|on|in|for|by|against|from) ",
        topic,
    )
    return f"the {topic}" if needs_article else topic
