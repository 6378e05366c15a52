"""Answering a question from passages: the one path that evaluation and serving share."""
