"""Push and pull: nothing is announced before its bytes, nothing appears before it is verified."""
