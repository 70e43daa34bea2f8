"""The screen: ``pilotmtc tui``.

Screens and widgets draw; all that they show and do goes through the one `gateway`.
"""
