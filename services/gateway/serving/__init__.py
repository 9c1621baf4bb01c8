"""What clients speak: the native API, the admin API and the Open Inference Protocol, unary and streamed."""
