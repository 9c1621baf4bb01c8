"""The words of the trade: what is passed around in a gateway, and what is counted of it."""
