"""What stands over evaluations, runs, gates and baselines alike: the calls behind the verbs, for scripts as well."""
