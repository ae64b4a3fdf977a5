"""Records of finished runs, and the tables, figures and verdicts made from them. Reads files; never imports torch."""
