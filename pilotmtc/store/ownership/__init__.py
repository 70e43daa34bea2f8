"""Which host serves a store on a network file system."""
