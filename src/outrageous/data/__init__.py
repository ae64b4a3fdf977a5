"""Text in, batches of whole sentences out: reading, tokenising, vocabulary, packed corpora and batching."""
