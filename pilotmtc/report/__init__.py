"""Reports on campaigns: where the time of their pilots went, how their tasks behaved, and what to ask for next time.

Pure: from recorded attempts in columns to records. `pilotmtc.session` reads the store, the faces show what is found.
"""
