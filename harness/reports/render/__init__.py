"""Turns a :class:`harness.reports.page.Page` into what is seen: one module for each way."""
