"""The adapter to Ray Serve: nothing outside of this package knows its JSON.

`client` asks and tells; `reading` makes `applications` of what Ray Serve answers, and `writing` writes what it is told.
A test holds all of it to the real Ray Serve, so that a newer one fails there.
"""
