"""What to buy: the cheapest configuration that keeps its promises, and how sure that is."""
