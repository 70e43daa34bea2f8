"""A weak scaling study of tools that run many tasks, as of Lunacek, Braden and Hauser: ``python -m weak_scaling``."""
