"""Version 1 of the contract: import its modules, such as `mediagate.v1.text_pb2`."""
