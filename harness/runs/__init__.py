"""Stored runs: the crash-safe store, the manifest, and the certificate computed from what is stored (no torch)."""
