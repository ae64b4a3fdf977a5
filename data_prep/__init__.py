"""The corpora of the paper, from an address to verified plain text. `data_prep/README.md` says what ends up where."""
