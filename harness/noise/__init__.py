"""Noise in a running model: sites, plan, session, ledger and the auditor that recounts them."""
