"""The audit of any chat corpus: is there a way to the answer that needs no understanding?

Belongs here: reading of chat files, rules about texts, duplicates, splits and time, and shortcuts that are learned and
scored on other records. Token counts and masks need the model's tokenizer and are checked in `training`.

    chat_files   any chat file as a frame          text_rules      turns, answers, forbidden words
    reading      what a prompt's text says         duplicates      the same prompt twice, or in two splits
    sides        learned from, scored on           shortcuts       one feature of the prompt tells the answer
    corpus       all rules over a corpus           candidates      position and largest figure among candidates
"""

from trader_pipeline.corpora.audit.corpus import audit_corpus
from trader_pipeline.corpora.audit.params import AuditParams
from trader_pipeline.corpora.audit.report import AuditReport, Finding

__all__ = ["AuditParams", "AuditReport", "Finding", "audit_corpus"]
