"""Rules that settings keep."""


def check_value(key: str, value: object, is_right: bool, rule: str) -> None:
    """Raises ValueError that names a setting and the rule it breaks."""
    if not is_right:
        raise ValueError(f"{key} = {value}: {rule}")
