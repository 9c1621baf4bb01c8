"""The adapter to Ray Serve: nothing outside of this package knows its JSON.

`client` makes the calls; `reading` makes `applications` of answers, and `writing` makes requests of what is wanted.
A test holds all of it to the real Ray Serve, so that a newer one fails there.
"""
