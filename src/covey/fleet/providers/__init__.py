"""Where agents run: one small file or folder for each provider, all with the eight verbs of `base.Provider`.

SDKs are imported lazily, inside the provider that needs them. Nothing here decides: a provider says what is and does
what it is told, idempotently.
"""
