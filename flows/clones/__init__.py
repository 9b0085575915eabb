"""Git clones beside the user's work tree, in which nights and trials run."""
