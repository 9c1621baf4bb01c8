"""Standard clients of the Open Inference Protocol, in processes and virtual environments of their own.

They want an older protobuf than ours, and their stubs of package `inference` clash with each other's in one process. So
nothing here but `installation` is imported by tests; the rest are programs that the clients' own Pythons run.
"""
