"""Training experiments as recipes: written down, checked before they cost anything, then launched on verl."""
