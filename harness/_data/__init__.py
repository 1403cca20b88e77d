"""Data of an installed wheel: copies of the folders `fixtures` and `reports` of the checkout."""
