"""The command line. One verb per file; nothing heavy is imported before a verb runs."""
