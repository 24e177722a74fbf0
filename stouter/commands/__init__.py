"""The commands of `stouter`; each imports what it needs when it is called."""
