class ConfigError(ValueError):
    """Two numbers clash, or a value isn't allowed; the message names them and says which way to move."""
