"""
All SQL of Marquee, by subject.

Each function takes a `Connection` in the caller's transaction (an API calls it through
`Database.run`) and leaves the commit to the caller. Reads of whole tables take the `Database` instead:
they go through ADBC straight into Arrow.
"""
