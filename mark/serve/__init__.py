"""`mark serve`: an OpenAI-compatible HTTP interface to AutoPipeline, and what guards it (docs/serve.md)."""
