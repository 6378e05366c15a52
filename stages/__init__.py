"""One thin file a DVC stage: read its section, call one function, write its outputs."""
