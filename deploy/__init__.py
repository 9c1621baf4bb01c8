"""Set-up, the local stack and the demonstration: what turns a clone into something that runs."""
