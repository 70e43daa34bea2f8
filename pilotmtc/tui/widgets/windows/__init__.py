"""Windows over a screen: dialogs, keys and notifications."""
