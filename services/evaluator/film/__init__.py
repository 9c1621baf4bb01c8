"""Episodes of a report on film, with what the policy thinks of them."""
