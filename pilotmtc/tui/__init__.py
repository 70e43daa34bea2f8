"""The screen: ``pilotmtc tui``.

Screens and widgets draw; everything that they show and do goes through the `gateway`.
"""
