"""Our own step of one token on a CPU: written in C, built by this machine's compiler for this machine."""
