"""Who may do what: keys, policy, signed states, grants and revocation."""
