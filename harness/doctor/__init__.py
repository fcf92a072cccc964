"""What works on this machine, and whether the statistics keep their promises; nothing heavy is imported beforehand."""
