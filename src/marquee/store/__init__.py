"""PostgreSQL and the object store: everything that outlives a process."""
