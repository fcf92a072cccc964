"""Results that other evaluation programs wrote, read into runs: a reader for each format, one way into the store."""
