"""A second implementation of keyed noise: plain, slow, and written from ``docs/draws.md`` alone.

It shares nothing with the engine but the specification (:mod:`harness.spec`): its own keys, counter hash, error
formulas, number formats and hooks. What both compute is compared after every evaluation, token by token and logit by
logit: :mod:`harness.runs.replayed`.
"""
