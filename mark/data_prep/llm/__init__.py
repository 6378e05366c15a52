"""Questions written by a language model behind an OpenAI-compatible endpoint: optional, off by default.

prompts -> masking -> cache, else endpoint -> replies -> writer; estimate says first what it would cost.
"""
