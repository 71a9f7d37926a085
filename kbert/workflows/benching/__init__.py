"""How fast kbert is on this machine: what `kbert bench` measures."""
