"""How processes are started and what environment they find."""
