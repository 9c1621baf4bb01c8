"""The Open Inference Protocol: standard clients ask for actions through the queues and batches of everybody else.

A request's way: `service` receives it, as a call of its own or, in `stream`, as one message of many; `question` reads
what is asked for, with its `parameters`; `inputs` takes its tensors; then it goes the way of any other request, from
`intake` on; `outputs` writes the answer. `datatypes` translates names of element types. What else the protocol asks:
`descriptions` of models, their `statistics`, and the `repository`.

What it asks is in `protos/steersman/inference/v1`, and how it is mapped in docs/open-inference-protocol.md.
"""
