from tests.command_line import steersman

__all__ = ["steersman"]
