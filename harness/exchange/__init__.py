"""What passes between hosts as files: inputs, heads, results, and what tools wrote about them."""
