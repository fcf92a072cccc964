"""Robustness evaluation of LLM checkpoints under proven numerical noise. No evidence, no verdict."""
