"""Ways to a green that was not earned, each of which ends as the rules of the verdict say."""
